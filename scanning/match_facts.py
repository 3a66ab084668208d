"""Vulnerabilities and matches as rows: written as a set difference, and what is gone is kept as the past."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db.models.functions import Now

from scanning.cleaning import match_row, vulnerability_row
from scanning.engine_models import PastMatch
from scanning.engines.protocol import MatchFact, VulnerabilityFact
from scanning.models import Inventory, Match, Vulnerability
from tcss.text import clean_text

_BATCH = 1000
_IDENTIFIER_LENGTH = 128
_VULNERABILITY_FIELDS = (
    "title",
    "description",
    "severity",
    "cvss_score",
    "cvss_vector",
    "cwe_ids",
    "references",
    "primary_url",
    "published_at",
    "modified_at",
)
_MATCH_FIELDS = ("fixed_version", "status", "severity")

_Item = TypeVar("_Item")
_Fact = TypeVar("_Fact", Vulnerability, Match)


@dataclass(frozen=True, slots=True)
class MatchChanges:
    """What was written: the new rows (some of them back after a while), those that are gone, and the rest."""

    new: tuple[Match, ...]
    back: tuple[Match, ...]
    gone: tuple[Match, ...]
    changed: tuple[Match, ...]

    @property
    def packages(self) -> set[int]:
        """Keys of the packages whose matches are no longer what they were."""
        return {row.package_id for row in (*self.new, *self.gone, *self.changed)}


def write_vulnerabilities(facts: Iterable[VulnerabilityFact]) -> None:
    """Make the published flaws those of the facts. Needs the lock on facts."""
    wanted = {row.identifier: row for row in map(vulnerability_row, facts)}
    stored = {
        row.identifier: row
        for some in _batches(sorted(wanted))
        for row in Vulnerability.objects.filter(identifier__in=some)
    }
    changed = [row for name, row in sorted(stored.items()) if _take(row, wanted[name], _VULNERABILITY_FIELDS)]
    Vulnerability.objects.bulk_update(changed, _VULNERABILITY_FIELDS, batch_size=_BATCH)
    new = [row for name, row in sorted(wanted.items()) if name not in stored]
    Vulnerability.objects.bulk_create(new, batch_size=_BATCH)


def differing(facts: Iterable[MatchFact], packages: Mapping[str, int]) -> set[str]:
    """Identities of those packages (identity -> key) whose stored matches are not the ones of the facts."""
    wanted: dict[int, set[tuple[object, ...]]] = {}
    for fact in facts:
        row = match_row(fact)
        name = clean_text(fact.vulnerability, _IDENTIFIER_LENGTH)
        key = (name, row.data_source, row.fixed_version, row.status, int(row.severity))
        wanted.setdefault(packages[fact.package_identity], set()).add(key)
    stored: dict[int, set[tuple[object, ...]]] = {}
    fields = ("package_id", "vulnerability__identifier", "data_source", *_MATCH_FIELDS)
    for some in _batches(sorted(packages.values())):
        for package, *rest in Match.objects.filter(package__in=some).values_list(*fields):
            stored.setdefault(package, set()).add(tuple(rest))
    return {name for name, key in packages.items() if wanted.get(key) != stored.get(key)}


def write_matches(
    facts: Iterable[MatchFact], packages: Mapping[str, int], *, is_cut: bool = False
) -> MatchChanges:
    """Make the matches of these packages (identity -> key) those of the facts; what changed.

    Where the facts were cut at a limit, none is taken for gone: other images share the packages.
    The facts' vulnerabilities were written before. Needs the lock on facts.
    """
    facts = list(facts)
    flaws = _vulnerability_keys({clean_text(fact.vulnerability, _IDENTIFIER_LENGTH) for fact in facts})
    wanted = {}
    for fact in facts:
        row = match_row(fact)
        row.package_id = packages[fact.package_identity]
        row.vulnerability_id = flaws[clean_text(fact.vulnerability, _IDENTIFIER_LENGTH)]
        wanted[_key(row)] = row
    stored = {
        _key(row): row
        for some in _batches(sorted(packages.values()))
        for row in Match.objects.filter(package__in=some)
    }
    new = [row for key, row in wanted.items() if key not in stored]
    gone = [row for key, row in stored.items() if key not in wanted and not is_cut]
    changed = [row for key, row in stored.items() if key in wanted and _take(row, wanted[key], _MATCH_FIELDS)]
    back = _take_back(new)
    again = set(map(_key, back))
    # Two statements: one does not mix rows with a time of their own and rows that take the database's.
    Match.objects.bulk_create([row for row in new if _key(row) not in again], batch_size=_BATCH)
    Match.objects.bulk_create(back, batch_size=_BATCH)
    Match.objects.bulk_update(changed, _MATCH_FIELDS, batch_size=_BATCH)
    _put_into_the_past(gone)
    return MatchChanges(tuple(new), tuple(back), tuple(gone), tuple(changed))


def images_with_packages(package_pks: Collection[int]) -> set[int]:
    """Keys of the images that hold one of these packages."""
    images: set[int] = set()
    for some in _batches(sorted(package_pks)):
        holders = Inventory.images.through.objects.filter(inventory__entries__package__in=some)
        images.update(holders.values_list("image_id", flat=True).distinct())
    return images


def _key(row: Match | PastMatch) -> tuple[int, int, str]:
    return row.package_id, row.vulnerability_id, row.data_source


def _vulnerability_keys(identifiers: Collection[str]) -> dict[str, int]:
    keys: dict[str, int] = {}
    for some in _batches(sorted(identifiers)):
        keys.update(Vulnerability.objects.filter(identifier__in=some).values_list("identifier", "pk"))
    return keys


def _take_back(new: Collection[Match]) -> list[Match]:
    """Give those that are reported again the time they were first seen at, and end their past; which."""
    by_key = {_key(row): row for row in new}
    back = []
    for some in _batches(sorted({row.package_id for row in new})):
        past = [row for row in PastMatch.objects.filter(package__in=some) if _key(row) in by_key]
        for row in past:
            by_key[_key(row)].first_seen_at = row.first_seen_at
            back.append(by_key[_key(row)])
        PastMatch.objects.filter(pk__in=[row.pk for row in past]).delete()
    return back


def _put_into_the_past(gone: Sequence[Match]) -> None:
    PastMatch.objects.bulk_create(
        [
            PastMatch(
                package_id=row.package_id,
                vulnerability_id=row.vulnerability_id,
                data_source=row.data_source,
                severity=row.severity,
                first_seen_at=row.first_seen_at,
                fixed_at=Now(),
            )
            for row in gone
        ],
        batch_size=_BATCH,
    )
    for some in _batches([row.pk for row in gone]):
        Match.objects.filter(pk__in=some).delete()


def _take(stored: _Fact, wanted: _Fact, fields: Sequence[str]) -> bool:
    """Set the fields that differ; whether any did."""
    names = [name for name in fields if getattr(stored, name) != getattr(wanted, name)]
    for name in names:
        setattr(stored, name, getattr(wanted, name))
    return bool(names)


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
