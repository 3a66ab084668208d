"""Which artifacts a list request means: Harbor's own `base`, `tags` and `labels` beside the columns."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from demo import rendering
from demo.catalog import Artifact, Repository
from demo.exchange import error
from demo.listing import Columns, RefusedError, Term, matching

TAGS_REFUSED = 'the value of "tags" query can only be fuzzy match value or exact match value'
BASE_REFUSED = 'the value of "base" query can only be exact match value with "*"'
LABELS_REFUSED = 'the value of "labels" query can only be integer list with intersetion relationship'

ARTIFACT_COLUMNS: Columns[Artifact] = {
    **{
        name: operator.attrgetter(name)
        for name in ("digest", "type", "media_type", "manifest_media_type", "size", "push_time", "pull_time")
    },
    "id": operator.attrgetter("id"),
    "extra_attrs": lambda row: str(row.extra_attrs),
}


def selected(place: Repository, wanted: Mapping[str, Term]) -> list[Artifact]:
    """The artifacts that fulfil a `q`, accessories among them. Raises RefusedError (400, 500)."""
    rows = _base(place, wanted.get("base"))
    rows = _tagged(rows, wanted.get("tags"))
    rows = _labelled(rows, wanted.get("labels"))
    return matching(rows, wanted, ARTIFACT_COLUMNS)


def _base(place: Repository, term: Term | None) -> Sequence[Artifact]:
    if term is None:
        return rendering.counted(place)
    if term != Term("exact", ("*",)):
        raise RefusedError(error(400, "BAD_REQUEST", BASE_REFUSED))
    return place.artifacts


def _tagged(rows: Sequence[Artifact], term: Term | None) -> Sequence[Artifact]:
    if term is None:
        return rows
    if term.kind not in ("exact", "fuzzy"):
        raise RefusedError(error(400, "BAD_REQUEST", TAGS_REFUSED))
    value = term.values[0]
    if term.kind == "fuzzy":
        return [each for each in rows if any(value in tag.name for tag in each.tags)]
    if value in ("*", "nil"):
        return [each for each in rows if bool(each.tags) == (value == "*")]
    return [each for each in rows if any(value == tag.name for tag in each.tags)]


def _labelled(rows: Sequence[Artifact], term: Term | None) -> Sequence[Artifact]:
    if term is None:
        return rows
    if term.kind != "all" or not all(each.isdigit() for each in term.values):
        raise RefusedError(error(400, "BAD_REQUEST", LABELS_REFUSED))
    wanted = {int(each) for each in term.values}
    return [each for each in rows if wanted <= {label.id for label in each.labels}]
