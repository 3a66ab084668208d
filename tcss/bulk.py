"""Writes many rows by one statement whose text does not grow with them; model objects take far longer."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models


def insert(
    model: type[models.Model],
    fields: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    key: Sequence[str] = (),
    update: Sequence[str] = (),
) -> None:
    """Insert rows of these fields; the other fields get their defaults.

    A row that is there already is left as it is, or gets the fields ``update`` where they are given; ``key``
    are then the fields of the unique constraint by which it is found. A foreign key's value is the other's
    key, that of a JSON field its text.
    """
    columns: list[tuple[object, ...]] = list(zip(*rows, strict=True))
    if not columns:
        return
    given = [_field(model, name) for name in fields]
    others = [
        field
        for field in _options(model).concrete_fields
        if field not in given and not (field.primary_key or field.generated or field.has_db_default())
    ]
    constants = [field.get_db_prep_save(field.get_default(), connection) for field in others]
    with connection.cursor() as cursor:
        cursor.execute(
            _statement(model, given, others, [_field(model, name) for name in key], update),
            [*constants, *(list(column) for column in columns)],
        )


def update(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Set these fields of rows that are there; how many were.

    Each of ``rows`` is a primary key and the fields' values, as for `insert`. `QuerySet.bulk_update` does the
    same with an expression for every value, which takes many times as long.
    """
    columns: list[tuple[object, ...]] = list(zip(*rows, strict=True))
    if not columns:
        return 0
    given = [_options(model).pk, *(_field(model, name) for name in fields)]
    quote = connection.ops.quote_name
    arrays = ", ".join(f"%s::{_type(field)}[]" for field in given)
    names = ", ".join(f"c{place}" for place in range(len(given)))
    changed = ", ".join(
        f"{quote(field.column)} = given.c{place}{_cast(field)}" for place, field in enumerate(given) if place
    )
    table = quote(_options(model).db_table)
    # Nothing but names of our own columns and their types becomes part of the text.
    statement = (
        f"UPDATE {table} SET {changed} FROM unnest({arrays}) AS given ({names}) "  # noqa: S608
        f"WHERE {table}.{quote(given[0].column)} = given.c0"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(column) for column in columns])
        return int(cursor.rowcount)


def _options(model: type[models.Model]) -> Any:
    # Public by Django's documentation ("Model _meta API"), whatever its name looks like.
    return model._meta  # noqa: SLF001


def _field(model: type[models.Model], name: str) -> Any:
    return _options(model).get_field(name)


def _statement(
    model: type[models.Model],
    given: Sequence[Any],
    others: Sequence[Any],
    key: Sequence[Any],
    update: Sequence[str],
) -> str:
    quote = connection.ops.quote_name
    into = ", ".join(quote(field.column) for field in (*others, *given))
    constants = ["%s" for _ in others]
    values = [f"given.c{place}{_cast(field)}" for place, field in enumerate(given)]
    arrays = ", ".join(f"%s::{_type(field)}[]" for field in given)
    names = ", ".join(f"c{place}" for place in range(len(given)))
    conflict = "DO NOTHING"
    if update:
        found_by = ", ".join(quote(field.column) for field in key)
        changed = [quote(_field(model, name).column) for name in update]
        conflict = f"({found_by}) DO UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in changed)
    # Nothing but names of our own columns and their types becomes part of the text.
    return (
        f"INSERT INTO {quote(_options(model).db_table)} ({into}) "  # noqa: S608
        f"SELECT {', '.join([*constants, *values])} FROM unnest({arrays}) AS given ({names}) "
        f"ON CONFLICT {conflict}"
    )


def _type(field: Any) -> str:
    """The type of an array's elements: a cast to a bounded text would cut it silently."""
    written = str(field.db_type(connection))
    return "text" if written.startswith("varchar") or written == "jsonb" else written


def _cast(field: Any) -> str:
    return "::jsonb" if field.db_type(connection) == "jsonb" else ""
