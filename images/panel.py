"""The data scan panel: what is known of all images together, and how fresh that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, Sum

from images.models import NEVER, CategoryStatus, ScanStatus, Severity
from repositories.listing import newest_syncs
from repositories.models import Registry, Sync
from scanning.services import scannable_images
from tcss.lifecycle import State

# Ends of a category after which its count means something.
_LOOKED = (CategoryStatus.SCANNED, CategoryStatus.UNSUPPORTED, CategoryStatus.PARTIAL)


@dataclass(frozen=True, slots=True)
class SeverityCount:
    """How many vulnerabilities of one severity there are."""

    severity: Severity
    count: int

    @property
    def word(self) -> str:
        """The severity's lower-case word."""
        return self.severity.name.lower()


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers over all image IDs that some registry lists now, each ID once."""

    images: int
    at_risk: int
    vulnerabilities: int
    by_severity: tuple[SeverityCount, ...]
    malware: int
    malware_scanned: int
    sensitive: int
    scanned: int
    scanning: int
    failing: int
    unlicensed: int


@dataclass(frozen=True, slots=True)
class DataUpdate:
    """Where the registries' data updates are: the newest of each registry taken together."""

    registries: int
    running: tuple[Sync, ...]
    failed: tuple[Sync, ...]
    incomplete: tuple[Sync, ...]
    last: datetime | None

    @property
    def is_running(self) -> bool:
        """Whether any registry's data update waits or runs."""
        return bool(self.running)


@dataclass(frozen=True, slots=True)
class Panel:
    """All the panel shows."""

    totals: Totals
    update: DataUpdate

    @property
    def is_live(self) -> bool:
        """Whether its numbers change by themselves."""
        return self.update.is_running or self.totals.scanning > 0


def panel(registries: Sequence[Registry]) -> Panel:
    """The panel as it is now; two queries."""
    return Panel(totals(), data_update(registries))


def totals() -> Totals:
    """Everything counted over the images; one query."""
    counts = scannable_images().aggregate(
        images=Count("pk"),
        at_risk=Count("pk", filter=Q(worst_severity__gte=0)),
        scanned=Count("pk", filter=Q(last_scanned_at__gt=NEVER)),
        scanning=Count("pk", filter=Q(scan_status=ScanStatus.SCANNING)),
        failing=Count("pk", filter=Q(scan_status=ScanStatus.EXCEPTION)),
        unlicensed=Count("pk", filter=Q(is_licensed=False)),
        malware_scanned=Count("pk", filter=Q(malware_status__in=_LOOKED) | Q(malware_count__gt=0)),
        vulnerabilities=Sum("vulnerability_count", default=0),
        malware=Sum("malware_count", default=0),
        sensitive=Sum("sensitive_count", default=0),
        **{each.name.lower(): Sum(f"{each.name.lower()}_count", default=0) for each in Severity},
    )
    by_severity = tuple(SeverityCount(each, counts.pop(each.name.lower())) for each in reversed(Severity))
    return Totals(by_severity=by_severity, **counts)


def data_update(registries: Sequence[Registry]) -> DataUpdate:
    """The data update of every registry that tells how it is; one query."""
    newest = list(newest_syncs().select_related("registry").order_by("registry_id"))
    times = [each.last_synced_at for each in registries if each.last_synced_at]
    return DataUpdate(
        registries=len(registries),
        running=tuple(each for each in newest if each.is_active),
        failed=tuple(each for each in newest if each.state == State.FAILED),
        incomplete=tuple(each for each in newest if each.state == State.INCOMPLETE),
        last=max(times, default=None),
    )
