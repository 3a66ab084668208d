"""The orders of the Repository Images list and the cursors that page through them.

A page begins where the last one ended, by the values of its last row (keyset paging), so that the ten
thousandth page costs what the first one does and no row is lost or doubled while others come and go.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import BooleanField, F, Field, Func, Q, QuerySet, Value
from django.db.models.expressions import Col
from django.db.models.sql.compiler import SQLCompiler

from images.models import Image
from repositories.models import Tag

_IMAGE = "image_id"


class InvalidCursorError(ValueError):
    """The text is no cursor of this order."""


class _ImageKey(F):
    """The image's own key column: Django would take the tag's foreign key, on which no image index ends."""

    def __init__(self) -> None:
        super().__init__("image__size")

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        """The key in the table that the image's columns come from."""
        column: Any = super().resolve_expression(*args, **kwargs)
        return Col(column.alias, _field(_IMAGE))


class _Beyond(Func):
    """``(a, b, c) < (x, y, z)``: the comparison of rows, which an index on the same columns answers."""

    output_field = BooleanField()

    def __init__(self, columns: list[str], values: list[Any], operator: str) -> None:
        names = [_ImageKey() if column == _IMAGE else F(column) for column in columns]
        super().__init__(*names, *(Value(value) for value in values))
        self._operator = operator
        self._half = len(columns)

    def as_sql(  # type: ignore[override]
        self,
        compiler: SQLCompiler,
        connection: Any,  # noqa: ARG002 - Django's signature
        **_extra: Any,
    ) -> tuple[str, tuple[Any, ...]]:
        """SQL of both rows and their comparison."""
        parts: list[str] = []
        params: list[Any] = []
        for expression in self.get_source_expressions():
            sql, values = compiler.compile(expression)
            parts.append(sql)
            params.extend(values)
        left, right = ", ".join(parts[: self._half]), ", ".join(parts[self._half :])
        return f"({left}) {self._operator} ({right})", tuple(params)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The row a page ended at: its values in the order's columns, and which segment it is in."""

    segment: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One offered order: columns that are never null, the last of which tells any two rows apart.

    Columns of the image come first and those of the tag last. Rows whose image is not known yet have no
    such values: they form a second segment, in the order of their ids, behind the others in either direction.
    """

    key: str
    label: str
    columns: tuple[str, ...]
    descending: bool

    @property
    def parameter(self) -> str:
        """As the query string has it."""
        return f"-{self.key}" if self.descending else self.key

    @property
    def _of_image(self) -> list[str]:
        return [column for column in self.columns if column.startswith("image_")]

    @property
    def segments(self) -> int:
        """One, or two where rows may have no image."""
        return 2 if self._of_image else 1

    def rows(self, queryset: QuerySet[Tag], segment: int, *, backwards: bool) -> QuerySet[Tag]:
        """The rows of a segment in this order, or in the opposite one."""
        sign = "-" if self.descending != backwards else ""
        if self._of_image:
            # Any condition on the image makes the join an inner one, which may begin with an image's index.
            known = Q(image__worst_severity__gte=-1)
            queryset = queryset.filter(Q(image=None) if segment == 1 else known)
        return queryset.order_by(*(sign + column for column in self._columns(segment)))

    def beyond(
        self, queryset: QuerySet[Tag], cursor: Cursor, *, backwards: bool, including: bool = False
    ) -> QuerySet[Tag]:
        """The rows of the cursor's segment behind it, or before it."""
        columns = self._columns(cursor.segment)
        operator = "<" if self.descending != backwards else ">"
        values = list(cursor.values)
        exact = operator + "=" if including else operator
        condition = Q(_Beyond(columns, values, exact))
        if of_image := self._of_image if cursor.segment == 0 else []:
            # A comparison over two tables is answered by no index, so its part on the image is said as well.
            condition &= Q(_Beyond(of_image, values[: len(of_image)], operator + "="))
        return queryset.filter(condition)

    def cursor(self, tag: Tag) -> str:
        """The cursor that stands at this row, as the query string has it."""
        segment = 1 if self._of_image and tag.image_id is None else 0
        values = [_get(tag, column) for column in self._columns(segment)]
        text = json.dumps([segment, *values], default=datetime.isoformat, ensure_ascii=True)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def parse(self, text: str) -> Cursor:
        """The cursor a query string holds; raises InvalidCursorError."""
        try:
            padded = text + "=" * (-len(text) % 4)
            segment, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if segment not in range(self.segments) or isinstance(segment, bool):
                raise InvalidCursorError("no such segment")
            columns = self._columns(segment)
            if len(values) != len(columns):
                raise InvalidCursorError("a value for every column")
            parsed = [_field(column).to_python(value) for column, value in zip(columns, values, strict=True)]
            for column, value in zip(columns, parsed, strict=True):
                _field(column).run_validators(value)
            # What no column holds, the database refuses with an error of its own.
            if any(value is None or b"\x00" in str(value).encode() for value in parsed):
                raise InvalidCursorError("a value for every column")
        except (ValueError, TypeError, ArithmeticError, ValidationError, RecursionError) as error:
            raise InvalidCursorError("not a cursor") from error
        return Cursor(segment, tuple(parsed))

    def _columns(self, segment: int) -> list[str]:
        return ["id"] if segment == 1 else list(self.columns)


def _field(column: str) -> "Field[Any, Any]":
    model, _, name = column.rpartition("__")
    if column == _IMAGE:
        model, name = "image", "id"
    field = (Image if model else Tag)._meta.get_field(name)  # noqa: SLF001 - Django's documented interface
    if not isinstance(field, Field):
        raise FieldDoesNotExist(column)
    return field


def _get(tag: Tag, column: str) -> Any:
    owner, _, name = column.rpartition("__")
    return getattr(tag.image if owner else tag, name)


_COLUMNS = {
    "pushed": ("Pushed", ("pushed_at", "id")),
    "name": ("Image repository address", ("repository_name", "name", "id")),
    "scanned": ("Last scanned", ("image__last_scanned_at", "image_id", "id")),
    "severity": (
        "Risks",
        ("image__worst_severity", "image__critical_count", "image__high_count", "image_id", "id"),
    ),
    "size": ("Size", ("image__size", "image_id", "id")),
}
ORDERS = {
    order.parameter: order
    for key, (label, columns) in _COLUMNS.items()
    for order in (Order(key, label, columns, descending=False), Order(key, label, columns, descending=True))
}
DEFAULT_ORDER = ORDERS["-pushed"]
