"""Harbor's list conventions: the `q` language, sorting, page numbers, X-Total-Count and the Link header."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from demo.exchange import Answer, Request, error, json_answer

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], Any]]

NO_PAIR = 'the query string must contain "=" and the key/value cannot be empty'
INTEGER = re.compile(r"[+-]?[0-9]+")
TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")


class RefusedError(Exception):
    """The request cannot be answered; `answer` says why, in Harbor's words."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison of a `q`: exact, fuzzy, range, any (of) or all (of)."""

    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Which page was asked for; a size of 0 or less means everything, as Harbor 2.5 has it."""

    page: int
    size: int


def wrap(value: int) -> int:
    """The 64-bit integer Go would have computed: huge page numbers overflow instead of failing."""
    return (value + 2**63) % 2**64 - 2**63


def window(request: Request) -> Window:
    """Read and validate `page` and `page_size`. Raises RefusedError (422)."""
    numbers = {}
    for name, default in (("page", 1), ("page_size", 10)):
        text = request.parameter(name) or str(default)
        if not INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
            raise RefusedError(invalid(f'{name} in query must be of type int64: "{text}"'))
        numbers[name] = int(text)
    if numbers["page_size"] > 100:
        raise RefusedError(invalid("page_size in query should be less than or equal to 100"))
    return Window(numbers["page"], numbers["page_size"])


def invalid(reason: str) -> Answer:
    """The 422 of a request that does not fit the API's description."""
    return error(422, "UNPROCESSABLE_ENTITY", f"validation failure list:\n{reason}")


def flag(request: Request, name: str, *, default: bool) -> bool:
    """A boolean parameter: any word the API's framework does not know counts as false."""
    text = request.parameter(name)
    if not text:
        return default
    return text.lower() in ("true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled")


def terms(request: Request) -> dict[str, Term]:
    """Parse `q`; a key given twice keeps the last value. Raises RefusedError (400).

    Harbor decodes `q` a second time after the query string was decoded, so a `+` in a value is a blank here.
    """
    found = {}
    for piece in filter(None, [request.parameter("q")]):
        for pair in unquote_plus(piece).split(","):
            key, _, value = pair.partition("=")
            if not key.strip() or not value.strip():
                raise RefusedError(error(400, "BAD_REQUEST", NO_PAIR))
            found[key.strip()] = _term(value.strip())
    return found


def _term(value: str) -> Term:
    if value.startswith("~"):
        if value == "~":
            raise RefusedError(error(400, "BAD_REQUEST", "invalid query string value: ~"))
        return Term("fuzzy", (value[1:],))
    if value.startswith("[") and value.endswith("]") and "~" in value:
        low, _, high = value[1:-1].partition("~")
        return Term("range", (low.strip(), high.strip()))
    if value.startswith("{") and value.endswith("}"):
        return Term("any", tuple(value[1:-1].split()))
    if value.startswith("(") and value.endswith(")"):
        return Term("all", tuple(value[1:-1].split()))
    return Term("exact", (value,))


def matching(rows: Iterable[Row], wanted: Mapping[str, Term], columns: Columns[Row]) -> list[Row]:
    """The rows that fulfil every term about a known column; Harbor ignores the others.

    Raises RefusedError (500) where the database would choke on the value, such as a word for a time.
    """
    tests = [(columns[key], term) for key, term in wanted.items() if key in columns and term.kind != "all"]
    try:
        return [row for row in rows if all(_fits(column(row), term) for column, term in tests)]
    except ValueError:
        raise RefusedError(error(500, "UNKNOWN", "internal server error")) from None


def _fits(value: Any, term: Term) -> bool:
    if term.kind == "fuzzy":
        return term.values[0] in str(value)
    if term.kind == "range":
        low, high = term.values
        return (not low or value >= _typed(low, value)) and (not high or value <= _typed(high, value))
    return any(value == _typed(text, value) for text in term.values)


def _typed(text: str, like: Any) -> Any:
    if isinstance(like, datetime):
        for form in TIME_FORMATS:
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                continue
        raise ValueError(text)
    if isinstance(like, bool):
        return text == "true"
    return int(text) if isinstance(like, int) else text


def ordered(rows: Iterable[Row], request: Request, columns: Columns[Row], *, default: str) -> list[Row]:
    """Sort by `sort`, a comma-joined list of columns (`-` descends); unknown columns count as not given."""
    keys = [key for key in (request.parameter("sort") or "").split(",") if key.lstrip("-+") in columns]
    result = list(rows)
    for key in reversed(keys or [default]):
        result.sort(key=columns[key.lstrip("-+")], reverse=key.startswith("-"))
    return result


def cut(rows: Sequence[Row], asked: Window) -> Sequence[Row]:
    """One page of the rows; a page number below 1 is the first page."""
    if asked.size <= 0:
        return rows
    start = max(wrap((asked.page - 1) * asked.size), 0)
    return rows[start : start + asked.size]


def links(request: Request, asked: Window, total: int) -> str | None:
    """The Link header. Its query is sorted and, as in Harbor, not escaped: do not follow it verbatim."""
    if not asked.size:
        return None
    found = []
    if asked.page > 1 and wrap((asked.page - 1) * asked.size) < total:
        found.append((asked.page - 1, "prev"))
    if wrap(asked.page * asked.size) < total:
        found.append((wrap(asked.page + 1), "next"))
    others = [pair for pair in request.query if pair[0] not in ("page", "page_size")]
    texts = []
    for number, relation in found:
        pairs = sorted(
            [*others, ("page", str(number)), ("page_size", str(asked.size))], key=operator.itemgetter(0)
        )
        query = "&".join(f"{key}={value}" for key, value in pairs)
        texts.append(f'<{request.path}?{query}>; rel="{relation}"')
    return " , ".join(texts) or None


def paged(request: Request, asked: Window, items: Sequence[object], total: int) -> Answer:
    """A list answer with its count and its links."""
    link = links(request, asked, total)
    answer = json_answer(list(items), X_Total_Count=str(total))
    return answer.with_headers(Link=link) if link else answer
