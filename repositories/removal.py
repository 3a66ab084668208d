"""Removes images that a registry no longer lists, by a rule that no broken listing can satisfy.

An image version is removed when two complete data updates, an hour apart, did not see it and none between
them did. Removed is hidden, and kept for thirty days: it is back as soon as it is seen again. Where more than
a fifth of a registry's image versions are gone at once, a person has to confirm it first.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Coalesce, Now

from repositories.models import Registry, Repository, Sync, Tag
from scanning.models import Scan

log = logging.getLogger(__name__)

APART = timedelta(hours=1)
KEPT = timedelta(days=30)
# Of a registry's image versions, so many may go without anybody being asked.
MOST_PERCENT = 20
# A tick deletes a bounded number of rows; what is left waits for the next.
_BATCH = 1000
_BATCHES = 20


@dataclass(frozen=True, slots=True)
class RemovalOutcome:
    """How many image versions were removed, and how many wait until somebody confirms that they are gone."""

    removed: int
    held: int


@transaction.atomic
def settle(registry: Registry, sync_pk: int) -> RemovalOutcome:
    """Remove what this data update and an earlier one did not see; only for one that was complete.

    The caller holds the data update's row, and has marked as missing whatever was not listed.
    """
    _lock(registry)
    Tag.objects.missing().filter(registry=registry, absent_at=None).update(absent_at=Now())
    if held := _held(registry):
        log.warning("Too many images are gone at once", extra={"registry": registry.pk, "held": held})
        return RemovalOutcome(0, held)
    began = Sync.objects.annotate(began=Coalesce("started_at", Now())).values_list("began", flat=True)
    return RemovalOutcome(_remove(registry, began.get(pk=sync_pk)), 0)


class MoreIsHeldError(Exception):
    """More image versions are gone by now than the person was shown who confirms it."""

    def __init__(self, held: int) -> None:
        super().__init__(f"{held} image versions are gone")
        self.held = held


def confirm_removal(
    registry: Registry, user: AbstractBaseUser | AnonymousUser | None, *, shown: int
) -> RemovalOutcome:
    """Remove what is held back, on the word of a person who was shown so many; nothing where nothing is held.

    What two complete data updates have not missed yet stays held, and so does what is being scanned. Raises
    MoreIsHeldError, and removes nothing, where more are held by now.
    """
    with transaction.atomic():
        # A data update's writes hold its row: those under way end first, and the next ones wait.
        list(Sync.objects.active().filter(registry=registry).select_for_update())
        _lock(registry)
        complete = Sync.objects.filter(registry=registry, is_complete=True, started_at__isnull=False)
        last = complete.order_by("-started_at").values_list("started_at", flat=True).first()
        if last is None or not (held := _held(registry)):
            return RemovalOutcome(0, 0)
        if held <= shown:
            removed = _remove(registry, last)
            extra = {"registry": registry.pk, "user": user.pk if user else None, "removed": removed}
            log.info("A removal was confirmed", extra=extra)
            return RemovalOutcome(removed, _held(registry))
    # The count that the page shows next is kept: it is what can be confirmed then.
    raise MoreIsHeldError(held)


def review() -> None:
    """Look again at what is held: where the images came back, nobody needs to confirm anything."""
    for registry in Registry.objects.filter(removal_held_since__isnull=False).only("pk"):
        with transaction.atomic():
            _lock(registry)
            _held(registry)


def purge() -> int:
    """Delete what was removed long ago, and repositories that are long empty; how many image versions went.

    Images, their licenses and their results stay.
    """
    old = Tag.objects.filter(removed_at__lt=Now() - KEPT)
    deleted = 0
    for _ in range(_BATCHES):
        pks = list(old.order_by("removed_at").values_list("pk", flat=True)[:_BATCH])
        # Asked again in the statement that deletes: one that came back meanwhile stays.
        deleted += old.filter(pk__in=pks).delete()[0]
        if len(pks) < _BATCH:
            break
    _purge_repositories()
    return deleted


def _purge_repositories() -> None:
    """Delete repositories that have had nothing in them for long; one that is listed again gets a new row."""
    empty = Repository.objects.filter(
        ~Exists(Tag.objects.filter(repository=OuterRef("pk"))),
        first_seen_at__lt=Now() - KEPT,
        seen_generation__lt=F("registry__generation"),
    )
    for registry in Registry.objects.filter(Exists(empty.filter(registry=OuterRef("pk")))).only("pk"):
        with transaction.atomic():
            # A data update takes a number from the registry's row before it reads its repositories.
            _lock(registry)
            if not Sync.objects.active().filter(registry=registry).exists():
                pks = empty.filter(registry=registry).values_list("pk", flat=True)[:_BATCH]
                Repository.objects.filter(pk__in=list(pks)).delete()


def _lock(registry: Registry) -> None:
    """Until the end of the transaction, let nobody else decide about this registry's images."""
    list(Registry.objects.select_for_update(no_key=True).filter(pk=registry.pk).values_list("pk"))


def _held(registry: Registry) -> int:
    """How many image versions are gone at once, 0 where they are few enough; kept in the registry's row."""
    mine = Tag.objects.filter(registry=registry)
    missing, visible = mine.missing().count(), mine.visible().count()
    held = missing if missing * 100 > visible * MOST_PERCENT else 0
    row = Registry.objects.filter(pk=registry.pk)
    if held:
        row = row.exclude(removal_held_since__isnull=False, removal_held_count=held)
        row.update(removal_held_since=Coalesce("removal_held_since", Now()), removal_held_count=held)
    else:
        row.filter(removal_held_since__isnull=False).update(removal_held_since=None, removal_held_count=0)
    return held


def _remove(registry: Registry, began: datetime) -> int:
    """Hide what a complete data update that began then missed, and another one an hour before it."""
    return _due(registry, began).update(removed_at=Now(), is_latest=False)


def _due(registry: Registry, began: datetime) -> QuerySet[Tag]:
    scanned = Scan.objects.active().filter(image=OuterRef("image"))
    due = Tag.objects.missing().filter(registry=registry, absent_at__lte=began - APART)
    return due.exclude(Exists(scanned))
