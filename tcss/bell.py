"""Rings a worker's bell after the transaction that made its row has committed."""

import logging

from django.db import transaction
from kombu.exceptions import OperationalError

from tcss.celery import app

log = logging.getLogger(__name__)


def ring(task: str, row_id: int) -> None:
    """Tell a worker, once the current transaction has committed, that row ``row_id`` waits for ``task``.

    A broker that is away is no error: the row stays queued, and the reaper rings again.
    """
    transaction.on_commit(lambda: ring_now(task, row_id))


def ring_now(task: str, row_id: int) -> None:
    """Tell a worker at once; used by the reaper, which runs outside a transaction."""
    try:
        app.send_task(task, [row_id])
    except OperationalError:
        log.warning(
            "The broker did not take a bell; the reaper will ring again", extra={"task": task, "row": row_id}
        )
