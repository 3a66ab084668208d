"""JSON as Go's standard library writes it, for the answers whose bytes or digests depend on it."""

from __future__ import annotations

import json

ESCAPES = str.maketrans(
    {sign: f"\\u{ord(sign):04x}" for sign in ("<", ">", "&", "\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}")}
)
"""Go guards HTML's signs inside strings; JSON has none of them outside."""


def go_json(value: object, *, indent: int | None = None) -> str:
    """The text of a JSON value: compact, or indented by so many blanks."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators).translate(ESCAPES)
