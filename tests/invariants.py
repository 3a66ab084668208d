"""What is true of the tables after any fault: checks that count slowly what summaries tell fast."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

from django.db.models import F
from django.utils import timezone

from images.models import NEVER, Image, ImageLayer, ScanStatus, Severity
from repositories.models import Pull, Registry
from scanning.models import (
    GOOD_CATEGORY_STATES,
    Category,
    CategoryState,
    InventoryPackage,
    MalwareFinding,
    Match,
    Scan,
    ScanCategory,
    SecretFinding,
)
from scanning.summaries import SEVERITY_COLUMNS
from tcss.lifecycle import ACTIVE, MAX_ATTEMPTS, TERMINAL, State

STATUS_OF_SCAN = {
    State.QUEUED: ScanStatus.SCANNING,
    State.RUNNING: ScanStatus.SCANNING,
    State.SUCCEEDED: ScanStatus.SCANNED,
    State.CANCELLED: ScanStatus.CANCELLED,
    State.FAILED: ScanStatus.EXCEPTION,
}
STATUS_COLUMNS = {
    Category.VULNERABILITIES: "vulnerabilities_status",
    Category.MALWARE: "malware_status",
    Category.SENSITIVE: "sensitive_status",
}


def assert_nothing_is_stuck() -> None:
    """I1: no dead lease is left lying, and no image is scanning without a scan that is."""
    long_dead = timezone.now() - timedelta(seconds=30)
    assert not Scan.objects.filter(state=State.RUNNING, lease_until__lt=long_dead).exists()
    scanning = set(Image.objects.filter(scan_status=ScanStatus.SCANNING).values_list("pk", flat=True))
    assert scanning == set(Scan.objects.filter(state__in=ACTIVE).values_list("image_id", flat=True))


def assert_every_scan_ended_once() -> None:
    """I2, I3: every scan has one end, and its categories ended with it."""
    for scan in Scan.objects.prefetch_related("categories"):
        assert scan.state in TERMINAL, scan
        assert scan.finished_at is not None
        assert scan.lease_until is None
        states = {category.state for category in scan.categories.all()}
        assert states
        assert CategoryState.WAITING not in states
        if scan.state == State.SUCCEEDED:
            assert states & set(GOOD_CATEGORY_STATES)
        elif scan.state == State.FAILED:
            assert not states & set(GOOD_CATEGORY_STATES)
        # A cancelled scan keeps what its first part had found by then.


def assert_attempts_are_bounded() -> None:
    """I8: no scan is tried more often than it may be."""
    # The fence may be higher: waiting for a registry or for a planned stop costs no attempt.
    assert not Scan.objects.filter(attempt__gt=MAX_ATTEMPTS).exists()
    assert not Scan.objects.filter(attempt__gt=F("fence")).exists()


def assert_hourly_limits_held() -> None:
    """I10: no hour, wherever it begins, has more images pulled from a registry than its limit."""
    for registry in Registry.objects.exclude(hourly_pull_limit=None):
        limit = registry.hourly_pull_limit or 0
        pulls = list(Pull.objects.filter(registry=registry).order_by("granted_at"))
        for first, after in zip(pulls, pulls[limit:], strict=False):
            assert after.granted_at - first.granted_at > timedelta(hours=1), (registry, first, after)
        newest = [(pull.registry_id, pull.image_id) for pull in pulls if _is_of_the_last_hour(pull)]
        assert len(newest) == len(set(newest)), "an image takes one place an hour"


def _is_of_the_last_hour(pull: Pull) -> bool:
    return timezone.now() - pull.granted_at < timedelta(hours=1)


def assert_books_balance() -> None:
    """I3, I4: every summary column equals a count made row by row, without the code that keeps it."""
    for image in Image.objects.all():
        latest = Scan.objects.filter(image=image).order_by("pk").last()
        expected = STATUS_OF_SCAN[State(latest.state)] if latest else ScanStatus.NOT_SCANNED
        assert image.scan_status == expected, image
        good = {category: _good(image, category) for category in Category}
        severities = _severities(image) if good[Category.VULNERABILITIES] else Counter()
        for severity, column in SEVERITY_COLUMNS.items():
            assert getattr(image, column) == severities[severity], (image, column)
        assert image.vulnerability_count == severities.total()
        assert image.fixable_count == (_fixable(image) if good[Category.VULNERABILITIES] else 0)
        assert image.package_count == len(_entries(image))
        secrets = _secrets(image) if good[Category.SENSITIVE] else []
        malware = _malware(image) if good[Category.MALWARE] else []
        assert (image.sensitive_count, image.malware_count) == (len(secrets), len(malware))
        worst = [*severities.elements(), *secrets, *malware]
        assert image.worst_severity == max(worst, default=-1)
        times = [row.finished_at for row in good.values() if row]
        assert image.last_scanned_at == max(filter(None, times), default=NEVER)
        assert_categories_agree(image)


def assert_categories_agree(image: Image) -> None:
    """Each category's status is that of its last attempt that came to a result."""
    for category, column in STATUS_COLUMNS.items():
        rows = ScanCategory.objects.filter(scan__image=image, category=category).order_by("scan_id")
        ended = [
            row.state for row in rows if row.state not in {CategoryState.WAITING, CategoryState.CANCELLED}
        ]
        word = ended[-1] if ended else "not_scanned"
        assert getattr(image, column) == {"succeeded": "scanned"}.get(word, word)


def assert_no_work_is_left(work_root: Path) -> None:
    """I11: folders are there only for what runs."""
    running = {f"scan-{scan.pk}-{scan.fence}" for scan in Scan.objects.filter(state=State.RUNNING)}
    left = {path.name for path in work_root.iterdir()} if work_root.exists() else set()
    assert {name for name in left if name.startswith("scan-")} <= running


def assert_invariants() -> None:
    """All that hold when nothing is under way any more."""
    assert_nothing_is_stuck()
    assert_every_scan_ended_once()
    assert_attempts_are_bounded()
    assert_hourly_limits_held()
    assert_books_balance()


def _good(image: Image, category: Category) -> ScanCategory | None:
    rows = ScanCategory.objects.filter(scan__image=image, category=category, state__in=GOOD_CATEGORY_STATES)
    return rows.order_by("scan_id").last()


def _entries(image: Image) -> list[InventoryPackage]:
    return [entry for inventory in image.inventories.all() for entry in inventory.entries.all()]


def _matches(image: Image) -> list[Match]:
    return [match for entry in _entries(image) for match in Match.objects.filter(package=entry.package_id)]


def _severities(image: Image) -> Counter[int]:
    return Counter(match.severity for match in _matches(image))


def _fixable(image: Image) -> int:
    return sum(match.fixed_version != "" for match in _matches(image))


def _secrets(image: Image) -> list[int]:
    layers = set(ImageLayer.objects.filter(image=image).values_list("layer", flat=True))
    return [
        finding.severity
        for finding in SecretFinding.objects.all()
        if finding.layer_id in layers or finding.image_id == image.pk
    ]


def _malware(image: Image) -> list[int]:
    layers = set(ImageLayer.objects.filter(image=image).values_list("layer", flat=True))
    return [Severity(row.severity) for row in MalwareFinding.objects.all() if row.layer_id in layers]
