"""Makes scenarios of an evil registry: which answers they spoil, and how.

Most of them spoil the list of images of one repository, `shop/web`, so that it can be seen whether the others
stay whole.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from demo.evil import Place, Scenario, Spell, Step
from demo.exchange import Answer
from demo.faults import Fault

WEB_LIST = r"GET /api/(v2\.0/projects/shop/)?repositories/(shop/)?web/(artifacts|tags)"
WEB_MANIFESTS = r"GET /v2/shop/web/manifests/"
WEB_BLOBS = r"GET /v2/shop/web/blobs/"
WEB_PULLS = r"GET /v2/shop/web/"
TOKENS = r"GET /service/token"
PROJECTS = r"GET /api/(v2\.0/)?projects(\?|$)"
EVERYTHING = r"GET /"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = b"[" * 65536
BOMB = gzip.compress(bytes(20 * 2**20))


def spell(match: str, *steps: Step, times: int | None = None) -> Spell:
    """A fault that sends and does exactly this."""
    return Spell(match=match, times=times, flow=lambda: steps)


def for_ever(match: str, before: bytes, *steps: Step) -> Spell:
    """A fault that begins once and then never ends."""

    def flow() -> Iterable[Step]:
        return itertools.chain((before,), itertools.cycle(steps))

    return Spell(match=match, times=None, flow=flow)


def whole(body: bytes, *headers: bytes) -> bytes:
    """A complete answer with a body."""
    lines = [HEAD + b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", b""]) + body


def on_the_wire(row: str, name: str, does: str, *steps: Step, match: str = WEB_LIST) -> Scenario:
    """A scenario of one spell, the same every time."""
    return Scenario(row, name, does, lambda _: [spell(match, *steps)])


def endless(row: str, name: str, does: str, before: bytes, *steps: Step, match: str = WEB_LIST) -> Scenario:
    """A scenario whose answer has no end."""
    return Scenario(row, name, does, lambda _: [for_ever(match, before, *steps)])


def spoilt(row: str, name: str, does: str, *faults: Fault) -> Scenario:
    """A scenario of ordinary faults: the answer is good HTTP."""
    return Scenario(row, name, does, lambda _: faults)


def body(row: str, name: str, does: str, content: bytes, match: str = WEB_LIST) -> Scenario:
    """A scenario in which the body is another one."""
    return spoilt(row, name, does, Fault(match=match, times=None, body=content))


def changed(
    row: str, name: str, does: str, change: Callable[[list[dict[str, object]]], object], match: str = WEB_LIST
) -> Scenario:
    """A scenario in which the list that was to be answered is another one."""

    def spoil(answer: Answer) -> Answer:
        content = answer.body if isinstance(answer.body, bytes) else b""
        return replace(answer, body=json.dumps(change(json.loads(content))).encode())

    return spoilt(row, name, does, Fault(match=match, times=None, change=spoil))


def header(row: str, name: str, does: str, match: str = WEB_LIST, **headers: str) -> Scenario:
    """A scenario in which the answer has these headers; an underscore stands for a dash."""
    words = {key.replace("_", "-"): value for key, value in headers.items()}
    return spoilt(row, name, does, Fault(match=match, times=None, headers=words))


def redirect(
    status: int, name: str, target: Callable[[Place], str], match: str, row: str = "C-N6"
) -> Scenario:
    """A scenario in which one kind of question is sent elsewhere."""

    def faults(place: Place) -> Sequence[Fault]:
        return [Fault(match=match, times=None, status=status, headers={"Location": target(place)}, body=b"")]

    return Scenario(row, name, f"Answers {status} with another address.", faults)


def challenge(row: str, name: str, does: str, *lines: bytes) -> Scenario:
    """A scenario in which pulling is answered by 401 with these header lines."""
    answer = b"\r\n".join([b"HTTP/1.1 401 Unauthorized", b"Content-Length: 2", *lines, b"", b"{}"])
    return on_the_wire(row, name, does, answer, match=WEB_PULLS)


def realm(name: str, target: Callable[[Place], str]) -> Scenario:
    """A scenario in which the token service is somewhere else."""

    def faults(place: Place) -> Sequence[Fault]:
        words = f'Bearer realm="{target(place)}",service="harbor-registry"'
        answer = f"HTTP/1.1 401 X\r\nContent-Length: 2\r\nWWW-Authenticate: {words}\r\n\r\n{{}}"
        return [spell(WEB_PULLS, answer.encode("latin-1"))]

    return Scenario("C-A5", name, "Names a token service that is not its own.", faults)
