"""Whether this worker was told to end: what runs in it then ends soon, or goes back to the queue."""

import mmap
import struct
import time

from celery.signals import worker_shutting_down

# A pool's children are forked after this page was made and share it: they read what their parent writes when
# it hears the signal. The clock is that of the machine, the same in every process.
_page = mmap.mmap(-1, mmap.PAGESIZE)
_MOMENT = struct.Struct("d")
# What has not ended so long after its worker was told to end goes back to the queue. The supervisor and the
# containers wait longer than this and what it takes to hear of it.
STOP_SECONDS = 3.0


class WorkerStopsError(Exception):
    """The worker was told to end, which is no fault of the job: postpone it."""


def heed_the_end() -> None:
    """Raises WorkerStopsError when this worker was told to end and what runs has had its time."""
    if stopping_for() > STOP_SECONDS:
        raise WorkerStopsError


def stopping_for() -> float:
    """Seconds since this worker was told to end; 0 while it was not."""
    [told] = _MOMENT.unpack_from(_page)
    return max(0.0, time.monotonic() - told) if told else 0.0


def note_that_it_stops(**_details: object) -> None:
    """Celery's word that the worker takes nothing new; what runs has some seconds."""
    if not stopping_for():
        _MOMENT.pack_into(_page, 0, time.monotonic())


worker_shutting_down.connect(note_that_it_stops)
