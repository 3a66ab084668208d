"""Hints of webhooks: which repositories wait to be listed again, and when it is time to do so."""

from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from repositories.models import Registry, RepositoryHint, Sync
from tcss.lifecycle import State

# A push is many events within seconds; they become one data update.
QUIET = timedelta(seconds=5)
# Hints that may wait for one registry, and as many more that come while a data update runs. From here on
# names are dropped, and everything is listed instead.
HINT_LIMIT = 2000
# After a data update that did not come through, webhooks do not ask for another at once.
PAUSE_AFTER_TROUBLE = timedelta(minutes=10)
# A flood of webhooks does not list a whole registry over and over.
PAUSE_BETWEEN_WHOLE = timedelta(minutes=15)
# The nightly data update has been there since.
_OLDEST = timedelta(days=1)


def waiting(registry: Registry) -> QuerySet[RepositoryHint]:
    """The registry's hints."""
    return RepositoryHint.objects.filter(registry=registry)


@transaction.atomic
def note(registry: Registry, names: Iterable[str]) -> None:
    """Remember that these repositories are to be listed again; as often as one likes, it is one row each.

    A data update that runs may have listed one of them a moment ago. So its hint becomes younger, and a data
    update takes away only hints as old as those it saw (``received_at``).
    """
    wanted = sorted(set(names))
    running = Sync.objects.filter(registry=registry, state=State.RUNNING).first()
    named = waiting(registry).filter(repository_name__in=wanted).order_by("repository_name")
    known = set((named.select_for_update() if running else named).values_list("repository_name", flat=True))
    if running and known:
        waiting(registry).filter(repository_name__in=known).update(received_at=Now())
    new = [name for name in wanted if name not in known]
    if not new:
        return
    counted = waiting(registry)
    if running and running.started_at:
        # What it found when it began says nothing about names that are dropped only now.
        counted = counted.filter(received_at__gt=running.started_at)
    room = max(HINT_LIMIT - counted.count(), 0)
    RepositoryHint.objects.bulk_create(
        [RepositoryHint(registry=registry, repository_name=name) for name in new[:room]],
        ignore_conflicts=True,
    )


def names_were_dropped(registry: Registry) -> bool:
    """Whether more repositories were named than may wait."""
    return waiting(registry).count() >= HINT_LIMIT


def is_due(registry: Registry) -> bool:
    """Whether it is time to list what waits: a hint is old enough, and nothing stands against it."""
    ripe = waiting(registry).filter(received_at__lte=Now() - QUIET)
    latest = Sync.objects.filter(registry=registry).order_by("-pk").first()
    if latest is not None and latest.is_active:
        return False
    lately = Sync.objects.filter(finished_at__gt=Now() - PAUSE_AFTER_TROUBLE)
    if latest is not None and lately.filter(pk=latest.pk).exists():
        if latest.state != State.SUCCEEDED:
            return False
        if latest.is_partial:
            # What it was asked for and left alone will not be different now.
            ripe = ripe.filter(received_at__gt=latest.created_at)
    return ripe.exists()


def whole_is_due(registry: Registry) -> bool:
    """Whether the last data update of the whole registry is long enough ago for another."""
    recent = Sync.objects.filter(
        registry=registry, is_partial=False, created_at__gt=Now() - PAUSE_BETWEEN_WHOLE
    )
    return not recent.exists()


def hinted_registries() -> QuerySet[Registry]:
    """Registries with a hint that is old enough."""
    ripe = RepositoryHint.objects.filter(received_at__lte=Now() - QUIET)
    return Registry.objects.filter(pk__in=ripe.values("registry")).order_by("pk")


def forget_followed(registry: Registry, sync_pk: int) -> None:
    """Take away what was named, or dropped, before this complete data update of everything began."""
    began = Sync.objects.filter(pk=sync_pk).values("started_at")
    waiting(registry).filter(received_at__lte=began).delete()


def forget_old() -> None:
    """Take away hints that nothing could be done about for a day."""
    RepositoryHint.objects.filter(received_at__lt=Now() - _OLDEST).delete()
