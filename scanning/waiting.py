"""Scans that wait for a registry: put off at no cost of an attempt, brought forward when there is room."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from repositories.models import Registry
from repositories.pull_limit import Places, places_of, waiting_for
from repositories.registries.failures import NotThereError
from scanning.models import Part, Scan
from scanning.parts import at_its_beginning, end_cancelled, ring_for
from scanning.pulling import MustWaitError
from scanning.summaries import refresh_summaries
from tcss.lifecycle import State

log = logging.getLogger(__name__)

# A tick looks at so many scans at the head of each registry's line; the others keep the time they were told.
_HEAD = 200
_MOST_AT_ONCE = 5000
# A time that is so little wrong is left as it was told.
_CLOSE = timedelta(seconds=15)


def put_off(scan: Scan, wait: MustWaitError) -> None:
    """Let a scan that we hold wait until its registry may be asked again."""
    # The registry may have been deleted meanwhile.
    registry = Registry.objects.filter(pk=wait.registry.pk).values("pk")[:1]
    _postpone(scan, until=wait.until, failure=wait.failure, waits_for=registry)
    log.info("A scan waits for a registry", extra={"scan": scan.pk, "registry": wait.registry.pk})


def put_back(scan: Scan) -> None:
    """Leave a scan that we hold to another worker, since this one ends."""
    with transaction.atomic():
        _postpone(scan, waits_for=None)
        ring_for(scan.pk, Part(scan.part))
    log.info("A scan is left to another worker", extra={"scan": scan.pk})


@transaction.atomic
def _postpone(scan: Scan, **fields: Any) -> None:
    row = Scan.objects.filter(pk=scan.pk, fence=scan.fence, state=State.RUNNING).select_for_update().first()
    if row is None:
        log.warning("A scan was taken away from this worker", extra={"scan": scan.pk})
        return
    if row.cancel_requested:
        end_cancelled(row)
        refresh_summaries([scan.image_id])
        return
    Scan.objects.postpone(scan.pk, fence=scan.fence, **at_its_beginning(row), **fields)


def bring_forward() -> int:
    """Let the waiting scans of every registry wait no longer than they must, the urgent ones first; how many.

    Places get free early: a limit was raised or removed, a scan was cancelled or found its layers here. And a
    scan that a person asked for moves ahead of those that were told a time before it.
    """
    # Without a registry, because it was deleted, there is no limit either.
    moved = _release(Q(waits_for__hourly_pull_limit=None) | Q(waits_for__hourly_pull_limit=0))
    limited = Scan.objects.filter(state=State.QUEUED, error_code="", waits_for__hourly_pull_limit__gt=0)
    for registry_pk in limited.order_by().values_list("waits_for", flat=True).distinct():
        try:
            places = places_of(registry_pk)
        except NotThereError:
            continue
        if places is not None:
            moved += _line_up(registry_pk, places)
    return moved


def _release(condition: Q) -> int:
    """Let scans go on at once for whom there is nothing to wait for any more."""
    held = Scan.objects.filter(condition, state=State.QUEUED, error_code="", available_at__gt=Now())
    pks = list(held.order_by("priority", "pk").values_list("pk", flat=True)[:_MOST_AT_ONCE])
    return Scan.objects.filter(pk__in=pks, state=State.QUEUED).update(available_at=Now())


def _agree(told: datetime, at: datetime, now: datetime) -> bool:
    """Whether a time that was told is as good as the right one."""
    if at <= now:
        return told <= now
    return told > now and abs(told - at) < _CLOSE


def _line_up(registry_pk: int, places: Places) -> int:
    """Tell the head of one registry's line the times that hold now; how many were told another."""
    line = waiting_for(registry_pk).order_by("priority", "pk").only("pk", "state", "available_at")
    moved = 0
    for ahead, scan in enumerate(line[:_HEAD]):
        at, told = places.at(ahead), scan.available_at
        if scan.state != State.QUEUED or told is None or _agree(told, at, places.now):
            continue
        # Only as it was seen: a worker, or its own next question, may have been quicker.
        row = Scan.objects.filter(pk=scan.pk, state=State.QUEUED, waits_for=registry_pk, available_at=told)
        moved += row.update(available_at=at)
    return moved
