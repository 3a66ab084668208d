"""Takes up data updates whose worker is gone, and rings again for those whose bell was not heard."""

import logging

from django.db import transaction
from django.db.models.functions import Now

from repositories.models import Sync
from repositories.updates import RUN_SYNC
from tcss.bell import ring
from tcss.lifecycle import MAX_ATTEMPTS, WORKER_LOST, Failure, State

log = logging.getLogger(__name__)

# A tick does a bounded amount of work; what is left waits for the next.
_BATCH = 100
_LOST_ONCE = Failure(
    WORKER_LOST.code,
    "The worker ended before the data update was done; it waits for another.",
    "Nothing needs to be done: it is tried again by itself.",
)


@transaction.atomic
def reap() -> None:
    """Bring data updates without a worker back to the queue or to their end, and ring for the unheard."""
    for row in Sync.objects.expired().select_for_update(skip_locked=True).order_by("pk")[:_BATCH]:
        log.warning("A data update's worker was lost", extra={"sync": row.pk, "attempt": row.attempt})
        if row.cancel_requested:
            Sync.objects.end(row.pk, fence=row.fence, state=State.CANCELLED, stage="")
        elif row.attempt >= MAX_ATTEMPTS:
            Sync.objects.end(row.pk, fence=row.fence, state=State.FAILED, failure=WORKER_LOST, stage="")
        elif Sync.objects.give_back(row.pk, fence=row.fence, failure=_LOST_ONCE):
            ring(RUN_SYNC, row.pk)
    for row in Sync.objects.unheard().select_for_update(skip_locked=True).order_by("pk")[:_BATCH]:
        if row.cancel_requested:
            # Told to stop while it ran, and given back before it heard.
            Sync.objects.advance(row.pk, fence=row.fence, source=State.QUEUED, target=State.CANCELLED)
            continue
        Sync.objects.filter(pk=row.pk, state=State.QUEUED).update(queued_at=Now())
        ring(RUN_SYNC, row.pk)
