"""Keeps a running scan's lease alive from a thread, shows its progress, and hears that it must stop."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from django.db import DatabaseError, InterfaceError, connection

from scanning.models import Scan, ScanStep
from tcss.lifecycle import (
    HEARTBEAT_SECONDS,
    LEASE,
    CancelRequestedError,
    Failure,
    LostLeaseError,
    State,
)
from tcss.stopping import WorkerStopsError, heed_the_end

log = logging.getLogger(__name__)

LISTEN_SECONDS = 2.0


class ScanTimeoutError(Exception):
    """The scan used up the time an image may take."""

    def __init__(self, seconds: float, step: ScanStep) -> None:
        super().__init__(step)
        self.failure = Failure(
            "ENG_TIMEOUT",
            f"The scan was not done after {seconds:.0f} seconds; it was at: {step.label.lower()}.",
            "Scan again when registry and machine are less busy, or raise TCSS_SCAN_TIMEOUT.",
        )


class Heartbeat:
    """A context in which a claimed scan stays ours.

    The thread renews the lease every ten seconds, or sooner when there is progress to show, and looks for a
    cancellation every two. What ends the work is raised by `check` in the thread that does the work. `share`
    is where the work begins and ends in percent of the whole scan, of which it may be one part.
    """

    def __init__(self, scan: Scan, *, timeout_seconds: float, share: tuple[int, int] = (0, 100)) -> None:
        self._scan_pk = scan.pk
        self._fence = scan.fence
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._begins, self._ends = share
        self._shown = (ScanStep.WAITING, self._begins)
        self._step = ScanStep.MANIFEST
        self._progress = self._begins
        self._cause: Exception | None = None
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pulse of scan {scan.pk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def advance(self, step: ScanStep, progress: int) -> None:
        """Note where the work is, in percent of it; the thread shows it as percent of the whole scan."""
        self.check()
        done = max(0, min(100, progress))
        self._step, self._progress = step, self._begins + done * (self._ends - self._begins) // 100

    def check(self) -> None:
        """Raises what ends the work: cancelled, lost, out of time, or its worker told to end."""
        if self._cause is not None:
            raise self._cause
        if time.monotonic() > self._deadline:
            raise ScanTimeoutError(self._timeout_seconds, self._step)

    def wait(self, seconds: float) -> None:
        """Let time pass, no longer than until the work has to stop."""
        self._stop.wait(seconds)
        self.check()

    def keep_going(self) -> bool:
        """Whether nothing speaks against going on; what does is then raised by `check`."""
        return self._cause is None and time.monotonic() <= self._deadline

    def seconds_left(self) -> float:
        """Until the scan has used up its time."""
        return max(1.0, self._deadline - time.monotonic())

    def _run(self) -> None:
        renewed = time.monotonic()
        wait = 0.0
        try:
            while not self._done.wait(wait):
                wait = LISTEN_SECONDS
                heed_the_end()
                try:
                    if self._beat(due=time.monotonic() - renewed >= HEARTBEAT_SECONDS):
                        renewed = time.monotonic()
                except (DatabaseError, InterfaceError):
                    log.warning("A heartbeat was not written", extra={"scan": self._scan_pk})
                    connection.close()
                    # Somebody else may have taken the scan by now; what goes on here would be in vain.
                    if time.monotonic() - renewed > LEASE.total_seconds():
                        raise LostLeaseError(
                            f"the lease of scan {self._scan_pk} could not be renewed"
                        ) from None
        except (CancelRequestedError, LostLeaseError, WorkerStopsError) as error:
            self._cause = error
            self._stop.set()
        finally:
            connection.close()

    def _beat(self, *, due: bool) -> bool:
        """Write if there is anything to write, else only listen; whether the lease was renewed."""
        now = (self._step, self._progress)
        if due or now != self._shown:
            Scan.objects.heartbeat(self._scan_pk, fence=self._fence, step=now[0], progress=now[1])
            self._shown = now
            return True
        mine = Scan.objects.filter(pk=self._scan_pk, state=State.RUNNING, fence=self._fence)
        cancel_requested = mine.values_list("cancel_requested", flat=True).first()
        if cancel_requested is None:
            raise LostLeaseError(f"scan {self._scan_pk} is no longer ours")
        if cancel_requested:
            raise CancelRequestedError(f"scan {self._scan_pk}")
        return False
