"""Things that go wrong on purpose: a fault waits for a request it matches and spoils the answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from demo.exchange import Answer, FilePart

GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway"
    b"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to spoil answers. What is not given stays as the registry would have answered.

    `match` is a regular expression searched in `METHOD /path?query`. The first `skip` matching requests pass,
    then `times` are spoiled (None: all of them). Lengths are bytes and times are seconds.
    """

    match: str
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    without_headers: tuple[str, ...] = ()
    body: bytes | None = None
    change: Callable[[Answer], Answer] | None = None
    """Any other change of the answer, for instance of its JSON."""
    corrupt: bool = False
    """Flip one bit in the middle of the body; the length stays right."""
    cut_at: int | None = None
    """Close the connection after this many bytes of the body; the announced length stays the whole one."""
    reset: bool = False
    """Close by a TCP reset instead of a plain close, with `cut_at`."""
    delay: float = 0.0
    """Wait before the first byte of the answer."""
    drip: tuple[int, float] | None = None
    """Write the body in pieces of so many bytes with so many seconds between them."""
    raw: bytes | None = None
    """Write exactly these bytes instead of any HTTP answer, then close."""
    expire_tokens: bool = False
    """Let every registry token issued so far expire before the request is answered."""

    def spoil(self, answer: Answer) -> Answer:
        """The answer with status, headers and body changed; how it is written is the server's part."""
        headers = {name: value for name, value in answer.headers.items() if name not in self.without_headers}
        body = answer.body if self.body is None else self.body
        if self.corrupt:
            body = flipped(body)
        spoiled = replace(answer, headers={**headers, **self.headers}, body=body)
        if self.status is not None:
            spoiled = replace(spoiled, status=self.status)
        return self.change(spoiled) if self.change else spoiled


def flipped(body: bytes | FilePart) -> bytes:
    """The same number of bytes with one bit changed in the middle."""
    if isinstance(body, FilePart):
        with body.path.open("rb") as file:
            file.seek(body.start)
            body = file.read(body.length)
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def html_page(match: str, *, status: int = 200, times: int | None = 1) -> Fault:
    """A web page where the API's JSON should be, as a proxy or a single-sign-on portal answers."""
    return Fault(
        match=match, times=times, status=status, headers={"Content-Type": "text/html"}, body=GATEWAY_PAGE
    )


class Faults:
    """The faults waiting in a server, in the order they were added; the first that matches is used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self.used: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault wait for its requests."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all faults that still wait."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, target: str) -> Fault | None:
        """The fault for this request, counted down; None when nothing is to go wrong."""
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if not re.search(fault.match, f"{method} {target}"):
                    continue
                if fault.skip:
                    self._waiting[place] = replace(fault, skip=fault.skip - 1)
                    return None
                if fault.times is not None:
                    if fault.times > 1:
                        self._waiting[place] = replace(fault, times=fault.times - 1)
                    else:
                        del self._waiting[place]
                self.used.append(fault)
                return fault
        return None
