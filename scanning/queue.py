"""The queue of scans: cancelling in bulk, and whose bell was lost; who waits for a time is not called."""

from collections.abc import Collection
from typing import TypeVar

from django.db.models.functions import Now

from tcss.lifecycle import LifecycleModel, LifecycleQuerySet, State

_Row = TypeVar("_Row", bound=LifecycleModel)


class QueueQuerySet(LifecycleQuerySet[_Row]):
    """Scans by their place in the queue."""

    def cancel_waiting(self, pks: Collection[int]) -> int:
        """End those of these rows that still wait; how many."""
        return self.filter(pk__in=pks, state=State.QUEUED).update(
            state=State.CANCELLED, cancel_requested=True, finished_at=Now(), lease_until=None
        )

    def cancel_stopping(self, pks: Collection[int]) -> int:
        """End running rows that were told to stop, now; their worker's fence no longer holds."""
        return self.filter(pk__in=pks, state=State.RUNNING, cancel_requested=True).update(
            state=State.CANCELLED, finished_at=Now(), lease_until=None
        )

    def take_bells(self, limit: int, part: str) -> list[int]:
        """The first rows of a part whose bell was lost or never rung, marked as rung; needs a transaction.

        Rows another process is looking at are passed over.
        """
        pks = list(
            self.unheard()
            .filter(part=part)
            .order_by("priority", "pk")
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)[:limit]
        )
        self.filter(pk__in=pks, state=State.QUEUED).update(queued_at=Now())
        return pks
