"""A demo server's listening socket on 127.0.0.1: its connections, its log of requests, its waiting faults."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from demo.exchange import Answer, Request
from demo.faults import Faults
from demo.wire import Handler


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came in, as it was sent, and the status it was answered with."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]


class Listener(ThreadingHTTPServer):
    """What every demo server has in common; what it answers is the part of those who inherit from it.

    `external_url` is where the server believes to be, as an administrator configures it: the token realm
    points there whatever Host a client sent. `unannounced` are the types of longer bodies whose length the
    server does not say beforehand. `stopped` is set when the server ends. `certificate` is (certificate
    file, key file) and makes it speak HTTPS.
    """

    daemon_threads = True
    request_queue_size = 128
    unannounced: tuple[str, ...] = ()

    def __init__(self, *, port: int = 0, certificate: tuple[Path, Path] | None = None) -> None:
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.unexpected: list[str] = []
        self.failures: list[BaseException] = []
        self.stopped = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.external_url = self.url

    @property
    def address(self) -> str:
        """Where the server is, as host and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """Where the server is, without a slash at the end."""
        return f"{self.scheme}://{self.address}"

    def answer(self, request: Request) -> Answer:
        """The answer before any fault."""
        raise NotImplementedError

    def finished(self, answer: Answer, headers: Mapping[str, str]) -> Answer:  # noqa: ARG002
        """The answer with what the server adds to all of them, such as cookies."""
        return answer

    def label(self, target: str, headers: Mapping[str, str], body: bytes) -> str:  # noqa: ARG002
        """What a request is called in the log, and what a fault is matched with after the method."""
        return target

    def expire_tokens(self) -> None:
        """Make every token issued so far worthless, where there are any."""

    def saw(self, method: str, path: str, answer: Answer, headers: Mapping[str, str]) -> None:
        """Write a request into the log."""
        self.requests.append(Seen(method, path, answer.status, headers))
        if not answer.known:
            self.unexpected.append(f"{method} {path}")

    def pause(self, seconds: float) -> None:
        """Let time pass for a fault, but not beyond the server's own end."""
        if seconds:
            self.stopped.wait(seconds)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection and remember it, so that stopping the server ends it."""
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is done."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or refuses our certificate is no failure of the server; all else is."""
        failure = sys.exc_info()[1]
        if failure is not None and not isinstance(failure, OSError):
            self.failures.append(failure)
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End listening and every open connection."""
        self.stopped.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(listener: Listener) -> Iterator[None]:
    """Serve in a thread of this process until the block ends."""
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.stop()
        thread.join()


def raise_first(failures: Sequence[BaseException]) -> None:
    """Raise a server's own failure, so that no test mistakes it for a registry that misbehaves."""
    if failures:
        raise failures[0]


def announce(url: str, file: Path | None) -> None:
    """Put the address into a file that appears whole, then print it."""
    if file is not None:
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(url, encoding="utf-8")
        beside.replace(file)
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()
