"""The summary columns of images, recomputed from the facts inside the transaction that changes the facts."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet

from images.models import NEVER, CategoryStatus, Image, ScanStatus, Severity
from scanning.models import (
    GOOD_CATEGORY_STATES,
    Category,
    CategoryState,
    InventoryPackage,
    MalwareFinding,
    Scan,
    ScanCategory,
    SecretFinding,
)
from tcss import bulk
from tcss.lifecycle import ACTIVE, Failure, State, failure_fields

SEVERITY_COLUMNS = {
    Severity.CRITICAL: "critical_count",
    Severity.HIGH: "high_count",
    Severity.MEDIUM: "medium_count",
    Severity.LOW: "low_count",
    Severity.NEGLIGIBLE: "negligible_count",
    Severity.UNKNOWN: "unknown_count",
}
_STATUS_COLUMNS = {
    Category.VULNERABILITIES: "vulnerabilities_status",
    Category.MALWARE: "malware_status",
    Category.SENSITIVE: "sensitive_status",
}
_STATUS_OF = {
    CategoryState.SUCCEEDED: CategoryStatus.SCANNED,
    CategoryState.UNSUPPORTED: CategoryStatus.UNSUPPORTED,
    CategoryState.PARTIAL: CategoryStatus.PARTIAL,
    CategoryState.FAILED: CategoryStatus.FAILED,
}
_ATTEMPTED = tuple(_STATUS_OF)
_COLUMNS = (
    "scan_status",
    *_STATUS_COLUMNS.values(),
    *SEVERITY_COLUMNS.values(),
    "vulnerability_count",
    "fixable_count",
    "malware_count",
    "sensitive_count",
    "package_count",
    "worst_severity",
    "last_scanned_at",
    "error_code",
    "error_reason",
    "error_remedy",
)
_BATCH = 500


@dataclass(slots=True)
class _Facts:
    """What the tables say of one image."""

    latest: tuple[str, Failure | None] | None = None
    attempts: dict[str, tuple[str, Failure | None]] = field(default_factory=dict)
    good: dict[str, datetime] = field(default_factory=dict)
    severities: dict[int, int] = field(default_factory=dict)
    fixable: int = 0
    packages: int = 0
    # Category -> (count, worst severity).
    others: dict[str, tuple[int, int]] = field(default_factory=dict)


def refresh_summaries(image_pks: Collection[int]) -> int:
    """Recompute every summary column of these images from the facts; how many rows had to change.

    Needs a transaction. Locks the image rows in the order of their keys, after whatever scan rows the caller
    holds: everybody takes scans first and images second.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("refresh_summaries() needs a transaction")
    changed = 0
    for batch in _batches(sorted(set(image_pks))):
        images = list(
            Image.objects.select_for_update(no_key=True).filter(pk__in=batch).order_by("pk").only(*_COLUMNS)
        )
        facts = _facts(batch)
        stale = [image for image in images if _apply(image, facts[image.pk])]
        bulk.update(Image, _COLUMNS, ([image.pk, *_values(image)] for image in stale))
        changed += len(stale)
    return changed


def _batches(pks: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(pks), _BATCH):
        yield pks[start : start + _BATCH]


def _values(image: Image) -> tuple[object, ...]:
    return tuple(getattr(image, column) for column in _COLUMNS)


def _apply(image: Image, facts: _Facts) -> bool:
    """Set the columns; whether any of them changed."""
    before = _values(image)
    image.scan_status = _scan_status(facts)
    for category, column in _STATUS_COLUMNS.items():
        attempt = facts.attempts.get(category)
        setattr(
            image, column, _STATUS_OF[CategoryState(attempt[0])] if attempt else CategoryStatus.NOT_SCANNED
        )
    # Layers and packages are shared with other images: what was found there counts here only once this
    # image's own category was looked at.
    severities = facts.severities if Category.VULNERABILITIES in facts.good else {}
    for severity, column in SEVERITY_COLUMNS.items():
        setattr(image, column, severities.get(severity, 0))
    image.vulnerability_count = sum(severities.values())
    image.fixable_count = facts.fixable if severities else 0
    image.package_count = facts.packages
    worst = max((severity for severity, count in severities.items() if count), default=-1)
    for category, column in ((Category.MALWARE, "malware_count"), (Category.SENSITIVE, "sensitive_count")):
        count, worst_other = facts.others.get(category, (0, -1)) if category in facts.good else (0, -1)
        setattr(image, column, count)
        worst = max(worst, worst_other)
    image.worst_severity = worst
    image.last_scanned_at = max(facts.good.values(), default=NEVER)
    for name, value in failure_fields(_failure(facts)).items():
        setattr(image, name, value)
    return before != _values(image)


def _scan_status(facts: _Facts) -> ScanStatus:
    if facts.latest is None:
        return ScanStatus.NOT_SCANNED
    state = facts.latest[0]
    if state in ACTIVE:
        return ScanStatus.SCANNING
    if state == State.CANCELLED:
        return ScanStatus.CANCELLED
    return ScanStatus.EXCEPTION if state == State.FAILED else ScanStatus.SCANNED


def _failure(facts: _Facts) -> Failure | None:
    """Why the last scan failed, or why one of its categories did although the others succeeded."""
    if facts.latest is None or facts.latest[0] in ACTIVE or facts.latest[0] == State.CANCELLED:
        return None
    if facts.latest[0] == State.FAILED:
        return facts.latest[1]
    failed = [failure for state, failure in facts.attempts.values() if state == CategoryState.FAILED]
    return failed[0] if failed else None


def _facts(image_pks: Sequence[int]) -> dict[int, _Facts]:
    facts: dict[int, _Facts] = defaultdict(_Facts)
    latest = Scan.objects.filter(image__in=image_pks).order_by("image_id", "-pk").distinct("image_id")
    for scan in latest:
        facts[scan.image_id].latest = (scan.state, scan.failure)
    for row in _last_of_each(image_pks, _ATTEMPTED):
        failure = Failure(row.error_code, row.error_reason, row.error_remedy) if row.error_code else None
        facts[row.scan.image_id].attempts[row.category] = (row.state, failure)
    for row in _last_of_each(image_pks, GOOD_CATEGORY_STATES):
        facts[row.scan.image_id].good[row.category] = row.finished_at or row.scan.created_at
    _count_packages(image_pks, facts)
    for category, model in ((Category.SENSITIVE, SecretFinding), (Category.MALWARE, MalwareFinding)):
        _count_in_layers(model.objects.all(), category, image_pks, facts)
    own = SecretFinding.objects.filter(image__in=image_pks).order_by().values_list("image")
    for image_pk, count, worst in own.annotate(Count("pk"), Max("severity")):
        before = facts[image_pk].others.get(Category.SENSITIVE, (0, -1))
        facts[image_pk].others[Category.SENSITIVE] = (before[0] + count, max(before[1], worst))
    return facts


def _last_of_each(image_pks: Sequence[int], states: Sequence[str]) -> QuerySet[ScanCategory]:
    """The newest row of each category of each image that is in one of the states."""
    return (
        ScanCategory.objects.filter(scan__image__in=image_pks, state__in=states)
        .select_related("scan")
        .order_by("scan__image_id", "category", "-scan_id")
        .distinct("scan__image_id", "category")
    )


def _count_packages(image_pks: Sequence[int], facts: dict[int, _Facts]) -> None:
    entries = InventoryPackage.objects.filter(inventory__images__in=image_pks).order_by()
    for image_pk, count in entries.values_list("inventory__images").annotate(Count("pk")):
        facts[image_pk].packages = count
    by_severity = (
        entries.filter(package__matches__isnull=False)
        .values_list("inventory__images", "package__matches__severity")
        .annotate(found=Count("pk"), fixed=Count("pk", filter=Q(package__matches__fixed_version__gt="")))
    )
    for image_pk, severity, count, fixable in by_severity:
        facts[image_pk].severities[severity] = count
        facts[image_pk].fixable += fixable


def _count_in_layers(
    findings: QuerySet[SecretFinding] | QuerySet[MalwareFinding],
    category: Category,
    image_pks: Sequence[int],
    facts: dict[int, _Facts],
) -> None:
    """One finding counts once in an image, however often its layer is listed there."""
    rows = (
        findings.filter(layer__image_layers__image__in=image_pks)
        .order_by()
        .values_list("layer__image_layers__image")
        .annotate(Count("pk", distinct=True), Max("severity"))
    )
    for image_pk, count, worst in rows:
        facts[image_pk].others[category] = (count, worst)
