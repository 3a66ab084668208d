"""The demo registry's side of the socket: reads a request, writes the answer, spoils it if a fault waits."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from demo.exchange import Answer, FilePart, Request, decode_path, decode_query, page
from demo.faults import Fault

if TYPE_CHECKING:
    from demo.listener import Listener

LONGEST_REQUEST_LINE = 8190
CHUNKED_FROM = 2048
"""Go announces no length for a body longer than its buffer, in bytes, unless the handler does."""
PIECE = 64 * 1024
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Handler(BaseHTTPRequestHandler):
    """One connection, kept open between requests as HTTP/1.1 has it."""

    server: Listener
    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    wbufsize = -1
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> object:
        """Every method is answered the same way; the base class looks for `do_GET` and so on."""
        if name.removeprefix("do_") in METHODS:
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: `server.requests` is the log."""

    def _serve(self) -> None:
        headers = {name.lower(): text for name, text in self.headers.items()}
        body = self._body()
        label = self.server.label(self.path, headers, body)
        fault = self.server.faults.take(self.command, label)
        if fault and fault.expire_tokens:
            self.server.expire_tokens()
        answer = self._answer(headers, body)
        if fault:
            answer = fault.spoil(answer)
            self.server.pause(fault.delay)
        self.server.saw(self.command, label, answer, headers)
        if fault and fault.raw is not None:
            self.close_connection = True
            self.wfile.write(fault.raw)
            self.wfile.flush()
            return
        self._write(answer, fault)

    def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if len(self.requestline) > LONGEST_REQUEST_LINE:
            self.close_connection = True
            return page(414, "414 Request-URI Too Large")
        parts = urlsplit(self.path)
        try:
            path = decode_path(parts.path)
        except ValueError:
            self.close_connection = True
            return page(400, "400 Bad Request")
        request = Request(
            method=self.command,
            target=self.path,
            path=path,
            query=decode_query(parts.query),
            headers=headers,
            origin=self.server.external_url,
            body=body,
        )
        return self.server.finished(self.server.answer(request), headers)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        return self.rfile.read(int(length) if length.isdigit() else 0)

    def _write(self, answer: Answer, fault: Fault | None) -> None:
        body = answer.body
        size = body.length if isinstance(body, FilePart) else len(body)
        kind = answer.headers.get("Content-Type", "")
        chunked = (
            isinstance(body, bytes)
            and size > CHUNKED_FROM
            and kind.startswith(self.server.unannounced)
            and not fault
        )
        self.send_response_only(answer.status)
        usual = {"Server": self.version_string(), "Date": self.date_time_string()}
        for name, text in {**usual, **answer.headers}.items():
            self.send_header(name, text)
        for cookie in answer.set_cookies:
            self.send_header("Set-Cookie", cookie)
        if chunked and self.command != "HEAD":
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in answer.headers and answer.status != 304:
            self.send_header("Content-Length", str(size))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD" or answer.status == 304:
            return
        if chunked and isinstance(body, bytes):
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))
            return
        self._write_body(body, size, fault)

    def _write_body(self, body: bytes | FilePart, size: int, fault: Fault | None) -> None:
        piece, rest = fault.drip if fault and fault.drip else (PIECE, 0.0)
        limit = size if fault is None or fault.cut_at is None else min(fault.cut_at, size)
        for part in _pieces(body, limit, piece):
            self.wfile.write(part)
            if rest:
                self.wfile.flush()
                self.server.pause(rest)
        if fault and fault.cut_at is not None:
            self._hang_up(reset=fault.reset)

    def _hang_up(self, *, reset: bool) -> None:
        self.wfile.flush()
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _pieces(body: bytes | FilePart, limit: int, piece: int) -> Iterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, limit, piece):
            yield body[start : min(start + piece, limit)]
        return
    with body.path.open("rb") as file:
        file.seek(body.start)
        while limit > 0 and (part := file.read(min(piece, limit))):
            limit -= len(part)
            yield part
