"""Compare-and-set life of a job row: claim, lease, fence, heartbeat, end.

::

    queued -> running -> succeeded | incomplete | failed
    queued | running -> cancelled
    running -> queued     (lost worker or transient error; at most MAX_ATTEMPTS attempts)
    running -> queued     (has to wait for something that is not its fault; costs no attempt)
    running -> queued     (one part of its work is done; the next begins with no attempt used)

The row is the job and the database's clock is the only clock. A claim raises the row's fence; whoever holds
an older fence writes nothing, however late it wakes. Terminal states are final.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models.functions import Now

from tcss.text import clean_text

MAX_ATTEMPTS = 3
LEASE = timedelta(seconds=60)
HEARTBEAT_SECONDS = 10
# A queued row whose bell is this old is rung again.
BELL_LOST_AFTER = timedelta(seconds=20)


class State(models.TextChoices):
    """Where a job is in its life."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    INCOMPLETE = "incomplete", "Incomplete"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


ACTIVE = (State.QUEUED, State.RUNNING)
TERMINAL = (State.SUCCEEDED, State.INCOMPLETE, State.FAILED, State.CANCELLED)
_ALLOWED = {
    State.QUEUED: {State.RUNNING, State.CANCELLED, State.FAILED},
    State.RUNNING: {State.QUEUED, *TERMINAL},
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong as the operator needs it: a fixed code, one sentence why, one sentence what to do."""

    code: str
    reason: str
    remedy: str


WORKER_LOST = Failure(
    "WORKER_LOST",
    f"The worker ended {MAX_ATTEMPTS} times before the work was done.",
    "Look at the worker's log for memory or disk shortage, then start it again.",
)


class LostLeaseError(Exception):
    """The row is no longer ours: it was cancelled, taken over or ended; stop and write nothing."""


class CancelRequestedError(Exception):
    """A person asked for the job to stop; stop its children, then end it as cancelled."""


_Row = TypeVar("_Row", bound="LifecycleModel")


class LifecycleQuerySet(models.QuerySet[_Row]):
    """The only writer of a job's state."""

    def active(self) -> Self:
        """Rows that wait or run."""
        return self.filter(state__in=ACTIVE)

    def advance(self, row_id: int, *, fence: int, source: State, target: State, **fields: Any) -> bool:
        """Move one row from ``source`` to ``target`` if it is there and the fence is ours, else False."""
        if target not in _ALLOWED.get(source, set()):
            raise ValueError(f"a job never goes from {source} to {target}")
        if target in TERMINAL:
            fields = {"finished_at": Now(), "lease_until": None, **fields}
        return self.filter(pk=row_id, state=source, fence=fence).update(state=target, **fields) == 1

    def claim(self, row_id: int) -> _Row | None:
        """Take a queued row, or a running one whose lease ran out; None when there is nothing to take."""
        takeable = (models.Q(state=State.QUEUED) & _due()) | models.Q(
            state=State.RUNNING, lease_until__lt=Now()
        )
        claimed = self.filter(takeable, pk=row_id, attempt__lt=MAX_ATTEMPTS, cancel_requested=False).update(
            state=State.RUNNING,
            fence=models.F("fence") + 1,
            attempt=models.F("attempt") + 1,
            lease_until=Now() + LEASE,
            started_at=models.functions.Coalesce("started_at", Now()),
        )
        return self.get(pk=row_id) if claimed else None

    def heartbeat(self, row_id: int, *, fence: int, **fields: Any) -> None:
        """Renew the lease, and write progress beside it.

        Raises LostLeaseError when the row is no longer ours, CancelRequestedError when somebody wants it
        stopped.
        """
        mine = self.filter(pk=row_id, state=State.RUNNING, fence=fence)
        if not mine.update(lease_until=Now() + LEASE, **fields):
            raise LostLeaseError(f"job {row_id} is no longer held with fence {fence}")
        if mine.filter(cancel_requested=True).exists():
            raise CancelRequestedError(f"job {row_id}")

    def end(
        self, row_id: int, *, fence: int, state: State, failure: Failure | None = None, **fields: Any
    ) -> bool:
        """End a running row as ``state`` with its cause; False when it is no longer ours."""
        return self.advance(
            row_id, fence=fence, source=State.RUNNING, target=state, **failure_fields(failure), **fields
        )

    def give_back(
        self, row_id: int, *, fence: int, failure: Failure, wait: timedelta | None = None, **fields: Any
    ) -> bool:
        """Put a running row back in the queue after a passing error; after the last attempt it fails instead.

        Nobody takes it before ``wait`` is over. True when the row was queued again (ring its bell), False
        when it failed or is no longer ours.
        """
        again = self.filter(pk=row_id, state=State.RUNNING, fence=fence, attempt__lt=MAX_ATTEMPTS)
        if again.update(
            state=State.QUEUED,
            lease_until=None,
            queued_at=Now(),
            available_at=Now() + wait if wait else None,
            **failure_fields(failure),
            **fields,
        ):
            return True
        self.end(row_id, fence=fence, state=State.FAILED, failure=failure)
        return False

    def postpone(
        self,
        row_id: int,
        *,
        fence: int,
        until: datetime | None = None,
        failure: Failure | None = None,
        **fields: Any,
    ) -> bool:
        """Put a running row back in the queue through no fault of its own: the attempt does not count.

        Nobody takes it before ``until``; ``failure`` is why, where the reason is worth telling. False when it
        is no longer ours.
        """
        return (
            self.filter(pk=row_id, state=State.RUNNING, fence=fence).update(
                state=State.QUEUED,
                attempt=models.F("attempt") - 1,
                lease_until=None,
                queued_at=Now(),
                available_at=until,
                **failure_fields(failure),
                **fields,
            )
            == 1
        )

    def hand_over(self, row_id: int, *, fence: int, **fields: Any) -> bool:
        """Queue a running row for the next part of its work; the attempts begin anew.

        False when it is no longer ours, or when somebody wants it stopped.
        """
        return (
            self.filter(pk=row_id, state=State.RUNNING, fence=fence, cancel_requested=False).update(
                state=State.QUEUED,
                attempt=0,
                lease_until=None,
                queued_at=Now(),
                available_at=None,
                **failure_fields(None),
                **fields,
            )
            == 1
        )

    def expired(self) -> Self:
        """Running rows whose lease has run out: their worker is gone."""
        return self.filter(state=State.RUNNING, lease_until__lt=Now())

    def due(self) -> Self:
        """Queued rows that nothing keeps waiting but the lack of a worker."""
        return self.filter(_due(), state=State.QUEUED)

    def unheard(self) -> Self:
        """Queued rows that have waited long enough for their bell to be thought lost."""
        return self.due().filter(queued_at__lt=Now() - BELL_LOST_AFTER)


def _due() -> models.Q:
    """Rows that nothing keeps waiting."""
    return models.Q(available_at=None) | models.Q(available_at__lte=Now())


def failure_fields(failure: Failure | None) -> dict[str, str]:
    """The three columns that tell a failure, or that there was none."""
    if failure is None:
        return {"error_code": "", "error_reason": "", "error_remedy": ""}
    return {
        "error_code": clean_text(failure.code, 32),
        "error_reason": clean_text(failure.reason, 500),
        "error_remedy": clean_text(failure.remedy, 500),
    }


class LifecycleModel(models.Model):
    """A job row: state, who holds it, and what it died of."""

    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=32, blank=True)
    error_reason = models.CharField(max_length=500, blank=True)
    error_remedy = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    queued_at = models.DateTimeField(db_default=Now(), editable=False)
    # Queued, but to be left alone until then.
    available_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_active(self) -> bool:
        """Whether the job still waits or runs."""
        return self.state in ACTIVE

    @property
    def failure(self) -> Failure | None:
        """The stored cause, if there is one."""
        return Failure(self.error_code, self.error_reason, self.error_remedy) if self.error_code else None


def held(queryset: LifecycleQuerySet[_Row], row_id: int, fence: int) -> _Row:
    """Lock the running row we hold inside the current transaction, so that results and state change as one.

    Raises LostLeaseError when it is no longer ours.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("held() needs a transaction")
    row = queryset.select_for_update().filter(pk=row_id, state=State.RUNNING, fence=fence).first()
    if row is None:
        raise LostLeaseError(f"job {row_id} is no longer held with fence {fence}")
    return row
