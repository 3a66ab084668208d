"""Takes up scans whose worker is gone, and rings again for those whose bell was not heard."""

import logging

from django.db import transaction

from repositories.pull_limit import forget_old_pulls
from scanning.models import Scan
from scanning.services import RUN_SCAN, cancel_categories, fail_categories
from scanning.summaries import refresh_summaries
from scanning.waiting import bring_forward
from tcss.bell import ring
from tcss.lifecycle import MAX_ATTEMPTS, WORKER_LOST, Failure, State

log = logging.getLogger(__name__)

_BATCH = 50
_LOST_ONCE = Failure(
    WORKER_LOST.code,
    "The worker ended before the work was done; the scan waits for another.",
    "Nothing needs to be done: it is tried again by itself.",
)
# A tick does a bounded amount of work; what is left waits for the next.
_MOST_BATCHES = 20


def reap() -> None:
    """Bring expired scans back to the queue or to their end, then ring for those that wait unheard.

    Those that wait for a registry's limit are brought forward before, where they need not wait so long.
    """
    for _ in range(_MOST_BATCHES):
        if take_up_expired() < _BATCH:
            break
    forget_old_pulls()
    bring_forward()
    with transaction.atomic():
        for scan_pk in Scan.objects.take_bells(_BATCH):
            ring(RUN_SCAN, scan_pk)


@transaction.atomic
def take_up_expired() -> int:
    """Decide about one batch of running scans whose lease ran out; how many there were."""
    rows = list(Scan.objects.expired().select_for_update(skip_locked=True).order_by("pk").only("pk")[:_BATCH])
    ended = []
    for row in Scan.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk"):
        if row.cancel_requested:
            if Scan.objects.end(row.pk, fence=row.fence, state=State.CANCELLED):
                cancel_categories([row.pk])
                ended.append(row.image_id)
        elif row.attempt >= MAX_ATTEMPTS:
            if Scan.objects.end(row.pk, fence=row.fence, state=State.FAILED, failure=WORKER_LOST):
                fail_categories([row.pk], WORKER_LOST)
                ended.append(row.image_id)
        elif Scan.objects.give_back(row.pk, fence=row.fence, failure=_LOST_ONCE, waits_for=None):
            ring(RUN_SCAN, row.pk)
        log.warning(
            "A scan's worker was lost", extra={"scan": row.pk, "attempt": row.attempt, "fence": row.fence}
        )
    refresh_summaries(ended)
    return len(rows)
