"""The image repository management page: registries with their images, their health and their data updates."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from repositories.models import Registry, Sync, Tag
from repositories.pull_limit import Budget, budgets_of
from tcss.lifecycle import ACTIVE, State
from tcss.outbound_addresses import AddressFormError, parse_origin

_HISTORY = 20
_BADGES = {
    State.QUEUED: "busy",
    State.RUNNING: "busy",
    State.SUCCEEDED: "ok",
    State.INCOMPLETE: "warn",
    State.FAILED: "fail",
    State.CANCELLED: "muted",
}


@dataclass(frozen=True, slots=True)
class SyncRow:
    """A data update as the page shows it."""

    sync: Sync

    @property
    def badge(self) -> str:
        """The kind of its badge."""
        return _BADGES[State(self.sync.state)]

    @property
    def elapsed(self) -> timedelta | None:
        """How long it has run, or ran."""
        if self.sync.started_at is None:
            return None
        return (self.sync.finished_at or timezone.now()) - self.sync.started_at

    @property
    def images_a_second(self) -> int:
        """How many images it lists in a second, on average so far."""
        seconds = self.elapsed.total_seconds() if self.elapsed else 0.0
        return round(self.sync.tags_seen / seconds) if seconds >= 1 else 0

    @property
    def remaining(self) -> str:
        """How long it will still run, in words; empty where there is nothing to go by."""
        seconds = self.remaining_seconds
        if seconds is None:
            return ""
        if seconds < 90:
            return f"{seconds} seconds"
        return f"{round(seconds / 60)} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"

    @property
    def remaining_seconds(self) -> int | None:
        """How long it will still run at the rate so far; None where there is nothing to go by."""
        seen, total, elapsed = self.sync.repositories_seen, self.sync.repositories_total, self.elapsed
        if not self.sync.is_active or not seen or elapsed is None:
            return None
        return round(elapsed.total_seconds() * max(total - seen, 0) / seen)


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """A registry as the page shows it."""

    registry: Registry
    image_count: int
    missing_count: int
    latest: SyncRow | None
    # What is left of its hourly limit; None where it has none.
    budget: Budget | None = None

    @property
    def is_active(self) -> bool:
        """Whether a data update waits or runs, so that the row is worth looking at again."""
        return self.latest is not None and self.latest.sync.is_active

    @property
    def warnings(self) -> list[str]:
        """What is lastingly unsafe about the connection."""
        try:
            if not parse_origin(self.registry.address).is_https:
                return ["Unencrypted"]
        except AddressFormError:
            return ["Malformed address"]
        return [] if self.registry.verify_tls else ["Certificate not validated"]


def registry_rows(registries: QuerySet[Registry]) -> list[RegistryRow]:
    """The rows of these registries, in five queries however many they are."""
    found = list(registries.defer("password", "custom_ca"))
    keys = [registry.pk for registry in found]
    tags = Tag.objects.visible().filter(registry__in=keys)
    counts = _by_registry(tags.filter(missing_since=None))
    missing = _by_registry(tags.filter(missing_since__isnull=False))
    latest = {sync.registry_id: SyncRow(sync) for sync in newest_syncs().filter(registry__in=keys)}
    budgets = budgets_of(found)
    return [
        RegistryRow(
            registry,
            counts.get(registry.pk, 0),
            missing.get(registry.pk, 0),
            latest.get(registry.pk),
            budgets.get(registry.pk),
        )
        for registry in found
    ]


def newest_syncs() -> QuerySet[Sync]:
    """Of every registry the data update that tells how it is: the one under way, else the last of everything.

    One of what webhooks named says nothing about the rest.
    """
    telling = Sync.objects.filter(Q(state__in=ACTIVE) | Q(is_partial=False))
    return Sync.objects.filter(pk__in=last_of_each(telling))


def last_of_each(syncs: QuerySet[Sync]) -> QuerySet[Sync, int]:
    """The key of each registry's last one of these."""
    return syncs.order_by().values("registry").annotate(last=Max("pk")).values_list("last", flat=True)


def _by_registry(tags: QuerySet[Tag]) -> dict[int, int]:
    """How many of these tags each registry has."""
    return dict(tags.values("registry").annotate(count=Count("pk")).values_list("registry", "count"))


def history(registry: Registry) -> list[SyncRow]:
    """The registry's last data updates, newest first."""
    syncs: Iterable[Sync] = registry.syncs.select_related("requested_by").order_by("-pk")[:_HISTORY]
    return [SyncRow(sync) for sync in syncs]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What would go with a registry."""

    repositories: int
    tags: int
    images_elsewhere: int


def holdings(registry: Registry) -> Holdings:
    """What a registry's rows are, and how many of its images other registries name too."""
    visible = Tag.objects.visible()
    counts = visible.filter(registry=registry).aggregate(
        tags=Count("pk"), repositories=Count("repository", distinct=True)
    )
    images = visible.filter(registry=registry, image__isnull=False).values("image")
    elsewhere = visible.filter(~Q(registry=registry), image__in=images)
    return Holdings(counts["repositories"], counts["tags"], elsewhere.values("image").distinct().count())
