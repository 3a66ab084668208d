"""A request as the demo registry sees it and an answer before it is written to the socket."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_plus

from demo.catalog import Account

JSON: Final = "application/json"
JSON_UTF8: Final = "application/json; charset=utf-8"
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Access:
    """What a valid registry token allows: actions by full repository name.

    The registry's own list of names stands among them as `catalog`, which no repository can be called.
    """

    subject: str
    actions: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request after the front proxy has decoded its path once, as nginx does before Harbor's core.

    `origin` is the external address the server was configured with.
    `account` is None for a stranger and for anybody whose password was wrong: to Harbor they are the same.
    `access` is set when a valid registry token came instead of a password.
    """

    method: str
    target: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    origin: str
    account: Account | None = None
    access: Access | None = None
    body: bytes = b""

    @property
    def credentials_sent(self) -> bool:
        """Whether there was an Authorization header, good or bad."""
        return "authorization" in self.headers

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def parameters(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in self.query if key == name]


@dataclass(frozen=True, slots=True)
class FilePart:
    """A stretch of a file, written to the socket without reading the whole of it."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body; `cookies` says whether Harbor's core made it (the proxy sets no session).

    `set_cookies` are the values of its Set-Cookie headers, of which there may be several.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FilePart = b""
    cookies: bool = True
    known: bool = True
    set_cookies: tuple[str, ...] = ()

    def with_headers(self, **headers: str) -> Answer:
        """The same answer with more headers; an underscore in a name stands for a dash."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})


def json_answer(
    value: object, *, status: int = 200, content_type: str = JSON, end: str = "\n", **headers: str
) -> Answer:
    """A JSON body as Harbor's API writes it: compact, nearly always with a newline at the end."""
    body = (json.dumps(value, separators=(",", ":"), ensure_ascii=False) + end).encode()
    return Answer(status=status, headers={"Content-Type": content_type}, body=body).with_headers(**headers)


def error(status: int, code: str, message: str, **extra: object) -> Answer:
    """Harbor's error body: a list with one code and one message."""
    errors = [{"code": code, "message": message, **extra}]
    return json_answer({"errors": errors}, status=status, content_type=JSON_UTF8)


def page(status: int, title: str, *, cookies: bool = False) -> Answer:
    """A small HTML page: the portal, or an error of the proxy or of the web framework."""
    body = f"<!DOCTYPE HTML><html><head><title>{title}</title></head><body>{title}</body></html>\n"
    headers = {"Content-Type": "text/html; charset=utf-8" if cookies else "text/html"}
    if status == 200:
        headers["Accept-Ranges"] = "bytes"
    known = status not in (200, 404)
    return Answer(status=status, headers=headers, body=body.encode(), cookies=cookies, known=known)


def decode_path(raw: str) -> str:
    """What nginx makes of a path: decoded once, double slashes merged, dots resolved.

    Raises ValueError for a path that nginx refuses.
    """
    decoded = unquote(raw, errors="surrogateescape")
    if "\0" in decoded or BROKEN_ESCAPE.search(raw):
        raise ValueError("bad path")
    parts: list[str] = []
    for part in decoded.split("/"):
        if part == "..":
            if not parts:
                raise ValueError("bad path")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    slash = "/" if decoded.endswith(("/", "/.", "/..")) and parts else ""
    return "/" + "/".join(parts) + slash


def decode_query(raw: str) -> tuple[tuple[str, str], ...]:
    """Go's reading of a query string: a pair with a broken escape is dropped, the others count."""
    pairs = []
    for piece in raw.split("&"):
        if piece and not BROKEN_ESCAPE.search(piece):
            key, _, value = piece.partition("=")
            pairs.append((unquote_plus(key), unquote_plus(value)))
    return tuple(pairs)
