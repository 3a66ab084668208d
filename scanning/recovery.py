"""Takes up scans whose worker is gone, and rings again for those whose bell was not heard."""

import logging

from django.db import transaction

from repositories.pull_limit import forget_old_pulls
from scanning.models import Part, Scan
from scanning.parts import at_its_beginning, close_part, end_cancelled, fail_categories, ring_for
from scanning.summaries import refresh_summaries
from scanning.waiting import bring_forward
from tcss.lifecycle import MAX_ATTEMPTS, WORKER_LOST, Failure

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
    for part in Part:
        with transaction.atomic():
            for scan_pk in Scan.objects.take_bells(_BATCH, part):
                ring_for(scan_pk, part)


@transaction.atomic
def take_up_expired() -> int:
    """Decide about one batch of running scans whose lease ran out; how many there were."""
    rows = list(Scan.objects.expired().select_for_update(skip_locked=True).order_by("pk").only("pk")[:_BATCH])
    closed = []
    for row in Scan.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk"):
        part = Part(row.part)
        if row.cancel_requested:
            end_cancelled(row)
            closed.append(row.image_id)
        elif row.attempt >= MAX_ATTEMPTS:
            # What the other part looks for is none the worse for it.
            fail_categories([row.pk], WORKER_LOST, part=part)
            close_part(row, WORKER_LOST)
            closed.append(row.image_id)
        elif Scan.objects.give_back(
            row.pk, fence=row.fence, failure=_LOST_ONCE, waits_for=None, **at_its_beginning(row)
        ):
            ring_for(row.pk, part)
        log.warning(
            "A scan's worker was lost", extra={"scan": row.pk, "attempt": row.attempt, "fence": row.fence}
        )
    refresh_summaries(closed)
    return len(rows)
