"""Reads a registry's answers into plain values, strictly: much of it becomes part of a path or a column."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 9000
_LARGEST = 2**63 - 1


class MalformedError(ValueError):
    """A part of an answer is not of the form its specification gives it."""


def parse_json(body: bytes) -> object:
    """The JSON value of a body in UTF-8; raises MalformedError.

    Refused beyond what ``json`` refuses: a byte order mark, NaN and Infinity, and a key given twice, which
    two readers would understand in two ways.
    """
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedError("not JSON") from None


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For ``json``: the object of these pairs, MalformedError where a key is given twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key is given twice")
    return found


def refuse_constant(_: str) -> object:
    """For ``json``: MalformedError for NaN and Infinity."""
    raise MalformedError("not a number of JSON")


def as_mapping(value: object) -> Mapping[str, object]:
    """``value`` if it is an object, else MalformedError."""
    if isinstance(value, dict):
        return value
    raise MalformedError("not an object")


def as_list(value: object, *, limit: int) -> list[object]:
    """``value`` if it is a list of at most ``limit``, an empty list for null, else MalformedError."""
    if value is None:
        return []
    if isinstance(value, list) and len(value) <= limit:
        return value
    raise MalformedError("not a list, or too long a list")


def text(item: Mapping[str, object], key: str, *, limit: int = 255) -> str:
    """A field's text, empty where it is absent or null; MalformedError when it is no text or longer."""
    value = item.get(key)
    if value is None:
        return ""
    if isinstance(value, str) and len(value) <= limit:
        return value
    raise MalformedError(f"{key} is no text")


def size(item: Mapping[str, object], key: str) -> int:
    """A field's count of bytes, 0 where it is absent; MalformedError when it cannot be one."""
    value = item.get(key, 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    raise MalformedError(f"{key} is no size")


def moment(item: Mapping[str, object], key: str) -> datetime:
    """A field's time, 1970 where it is absent or no year of ours; MalformedError when it is no time.

    Registries say "never" with the year 1. Near both ends of the calendar not every zone can show a time.
    """
    written = text(item, key, limit=64)
    if not written:
        return _EARLIEST
    try:
        found = datetime.fromisoformat(written)
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        # Nearly always so, and a hundred thousand times a night.
        moment = aware if aware.tzinfo is UTC else aware.astimezone(UTC)
        return max(moment, _EARLIEST) if moment.year < _LAST_YEAR else _EARLIEST
    except (ValueError, OverflowError):
        raise MalformedError(f"{key} is no time") from None
