"""A server that answers exactly the bytes a test gives it, and remembers what it was asked."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = bytes | Callable[[socket.socket], None]


@dataclass(frozen=True)
class Asked:
    """One request: its target and its headers, names in lower case."""

    target: str
    headers: dict[str, str]


@dataclass
class HostileServer:
    """Answers by the beginning of the target; what no answer is given for is refused, and remembered."""

    port: int
    scheme: str = "http"
    host: str = "127.0.0.1"
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def answer(self, target: str) -> Answer:
        fitting = [prefix for prefix in self.answers if target.startswith(prefix)]
        if not fitting:
            self.unexpected.append(target)
            return http(404, b"{}")
        return self.answers[max(fitting, key=len)]

    def targets(self) -> list[str]:
        return [asked.target for asked in self.asked]


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A well-formed answer; an underscore in a header's name stands for a dash."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _serve(server: HostileServer, connection: socket.socket, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.settimeout(20)
        if context is not None:
            connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
        stream = stack.enter_context(connection.makefile("rb"))
        while line := stream.readline(65536):
            headers = {}
            while (header := stream.readline(65536).strip()) != b"":
                name, _, value = header.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            target = line.decode("latin-1").split(" ")[1]
            server.asked.append(Asked(target, headers))
            answer = server.answer(target)
            if callable(answer):
                answer(connection)
                return
            connection.sendall(answer)


@contextlib.contextmanager
def hostile_server(
    answers: dict[str, Answer] | None = None,
    *,
    host: str = "127.0.0.1",
    certificate: tuple[str, str] | None = None,
    greeting: bytes = b"",
) -> Iterator[HostileServer]:
    """A server on a free port; ``certificate`` is (certificate file, key file) and makes it speak TLS.

    One with a greeting says it to whoever connects, and reads nothing.
    """
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HostileServer(
            listener.getsockname()[1], "https" if certificate else "http", host, dict(answers or {})
        )

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                if greeting:
                    with contextlib.suppress(OSError), connection:
                        connection.sendall(greeting)
                        connection.recv(65536)
                    continue
                threading.Thread(target=_serve, args=(server, connection, context), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            server.stopped.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
