"""The hourly limit: how many images' content may be pulled from a registry in any sliding hour.

Each permission is a row, so that the limit holds over all workers and restarts, on the database's clock. It
is given under a lock of the registry's own, in a transaction that ends before the registry is asked anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from repositories.models import Pull, Registry
from repositories.registries.failures import NotThereError
from scanning.models import Scan

HOUR = timedelta(hours=1)
# Two pulls exactly an hour apart lie in one hour that has both its ends.
_MOMENT = timedelta(milliseconds=1)
_KEPT = timedelta(hours=2)
_MOST_FORGOTTEN = 5000
# Key of PostgreSQL's advisory locks that stand for a registry's limit: this in the upper half, the registry's
# key in the lower.
_LOCK = 0x7C55_0002 << 32


@dataclass(frozen=True, slots=True)
class Places:
    """A registry's limit and when the last pulls that count against it were permitted, the oldest first."""

    limit: int
    now: datetime
    pulled: tuple[datetime, ...]

    @property
    def free(self) -> int:
        """Images that may be pulled now."""
        return max(0, self.limit - len(self.pulled))

    def at(self, ahead: int) -> datetime:
        """When there is a place for somebody with so many others before them; not after now if there is one.

        Those before are thought to pull as soon as they may, so that nobody is told a time too early.
        """
        if ahead < self.free:
            return self.now
        # With a limit that was lowered, more may have been pulled than it allows: only the newest count.
        counted = [*self.pulled[-self.limit :], *[self.now] * self.free]
        rounds, place = divmod(ahead - self.free, self.limit)
        return counted[place] + (1 + rounds) * HOUR + _MOMENT


@dataclass(frozen=True, slots=True)
class Budget:
    """What a page shows of a registry's limit; `next_at` is None while a place is free."""

    limit: int
    used: int
    next_at: datetime | None


@transaction.atomic
def grant(registry_pk: int, image_pk: int) -> datetime | None:
    """Permit pulling the image's content from the registry now: None, else the time to come back at.

    The same image within the hour takes no second place; its one place then counts from now. Scans that wait
    for this registry go first, the urgent ones before the others, and everybody is told a time of their own.
    Raises NotThereError when the registry was deleted.
    """
    _lock(registry_pk)
    places = places_of(registry_pk)
    if places is None:
        return None
    if _pulls_of_the_hour(registry_pk, places.now).filter(image=image_pk).update(granted_at=places.now):
        return None
    ahead = _ahead_of(registry_pk, image_pk)
    if ahead >= places.free:
        return places.at(ahead)
    Pull.objects.create(registry_id=registry_pk, image_id=image_pk, granted_at=places.now)
    return None


def places_of(registry_pk: int) -> Places | None:
    """The registry's limit as it is now, and what counts against it; None when it is unlimited.

    Raises NotThereError when the registry was deleted.
    """
    row = Registry.objects.filter(pk=registry_pk).values_list("hourly_pull_limit", Now()).first()
    if row is None:
        raise NotThereError(
            "REG_NOT_FOUND",
            "The image repository was deleted from the console.",
            "Scan the image from another one that has it.",
        )
    limit, now = row
    if not limit:
        return None
    pulled = _pulls_of_the_hour(registry_pk, now).order_by("granted_at").values_list("granted_at", flat=True)
    return Places(limit, now, tuple(pulled))


def waiting_for(registry_pk: int) -> QuerySet[Scan]:
    """The scans that wait for a place, or are about to ask for the one that they waited for."""
    return Scan.objects.active().filter(waits_for=registry_pk, error_code="", cancel_requested=False)


def database_now() -> datetime:
    """The moment on the clock that all waiting goes by."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def budgets_of(registries: Iterable[Registry]) -> dict[int, Budget]:
    """What is left of the limit of each of these registries that has one; one query."""
    limits = {each.pk: each.hourly_pull_limit for each in registries if each.hourly_pull_limit}
    if not limits:
        return {}
    pulls = Pull.objects.filter(registry__in=limits, granted_at__gte=Now() - HOUR)
    rows = pulls.values("registry").annotate(times=ArrayAgg("granted_at", order_by="-granted_at"))
    newest: dict[int, Sequence[datetime]] = dict(rows.values_list("registry", "times"))
    return {pk: _budget(limit, newest.get(pk, ())) for pk, limit in limits.items()}


def next_pull_at(registries: Iterable[Registry]) -> dict[int, datetime]:
    """When the next image may be pulled from each of these registries where none may now; one query."""
    return {pk: budget.next_at for pk, budget in budgets_of(registries).items() if budget.next_at}


def forget_old_pulls() -> int:
    """Delete rows that count no more, and are not needed to see that the limit held; how many."""
    old = Pull.objects.filter(granted_at__lt=Now() - _KEPT).values("pk")[:_MOST_FORGOTTEN]
    return Pull.objects.filter(pk__in=old).delete()[0]


def _budget(limit: int, newest: Sequence[datetime]) -> Budget:
    next_at = newest[limit - 1] + HOUR + _MOMENT if len(newest) >= limit else None
    return Budget(limit, len(newest), next_at)


def _lock(registry_pk: int) -> None:
    """Let nobody else ask for this registry until the transaction ends; the row itself stays free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK + registry_pk])


def _pulls_of_the_hour(registry_pk: int, now: datetime) -> QuerySet[Pull]:
    return Pull.objects.filter(registry=registry_pk, granted_at__gte=now - HOUR)


def _ahead_of(registry_pk: int, image_pk: int) -> int:
    """How many scans that wait for this registry go before the image's own."""
    waiting = waiting_for(registry_pk).exclude(image=image_pk)
    own = Scan.objects.active().filter(image=image_pk).values_list("priority", "pk").first()
    if own is not None:
        priority, pk = own
        waiting = waiting.filter(Q(priority__lt=priority) | Q(priority=priority, pk__lt=pk))
    return waiting.count()
