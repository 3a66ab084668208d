"""Begins a matching of all known packages when the database has changed, and takes up what was left lying."""

import logging
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from scanning import installed, matching
from scanning.engine_models import MatchRun
from scanning.engines.protocol import DatabaseVersion
from scanning.models import Category, ScanCategory
from tcss.bell import ring
from tcss.lifecycle import MAX_ATTEMPTS, WORKER_LOST, Failure, State

log = logging.getLogger(__name__)

RUN_MATCHING = "scanning.run_matching"
# After three attempts in vain the same database is left alone for so long.
_AFTER_FAILURE = timedelta(hours=1)
_LOST_ONCE = Failure(
    WORKER_LOST.code,
    "The worker ended before the work was done; the matching waits for another.",
    "Nothing needs to be done: it is tried again by itself.",
)


def begin() -> MatchRun | None:
    """Have all known packages matched with the database in use; the run that waits or runs for it.

    A run with another database is told to stop. None where there is no database. Asking twice is harmless.
    """
    version = installed.vulnerability_database().current()
    if version is None:
        return None
    with transaction.atomic():
        active = MatchRun.objects.active().select_for_update().first()
        if active is not None and active.database_version == version.label:
            return active
        if active is not None and active.state == State.RUNNING:
            # Its end is heard of by the next tick, which begins anew.
            MatchRun.objects.filter(pk=active.pk).update(cancel_requested=True)
            return None
        if active is not None:
            MatchRun.objects.advance(
                active.pk, fence=active.fence, source=State.QUEUED, target=State.CANCELLED
            )
        try:
            with transaction.atomic():
                run = MatchRun.objects.create(
                    database_version=version.label, database_updated_at=version.updated_at
                )
        except IntegrityError:
            # Somebody else was faster.
            return MatchRun.objects.active().first()
        ring(RUN_MATCHING, run.pk)
        return run


def tick() -> None:
    """Look after runs, and begin one where not all packages were matched with the database in use."""
    _take_up()
    version = installed.vulnerability_database().current()
    if version is None or MatchRun.objects.active().filter(database_version=version.label).exists():
        return
    if (matching.is_current(version) and not _was_overtaken()) or _failed_lately(version):
        return
    if _is_behind(version):
        return
    begin()


def _take_up() -> None:
    """Bring a run whose worker is gone back to the queue or to its end, and ring where a bell was lost."""
    for run in MatchRun.objects.expired():
        if run.cancel_requested:
            MatchRun.objects.end(run.pk, fence=run.fence, state=State.CANCELLED)
        elif run.attempt >= MAX_ATTEMPTS:
            MatchRun.objects.end(run.pk, fence=run.fence, state=State.FAILED, failure=WORKER_LOST)
        else:
            MatchRun.objects.give_back(run.pk, fence=run.fence, failure=_LOST_ONCE)
        log.warning("A matching's worker was lost", extra={"run": run.pk, "attempt": run.attempt})
    for run in MatchRun.objects.due():
        ring(RUN_MATCHING, run.pk)


def _was_overtaken() -> bool:
    """Whether a scan that had begun with another database wrote its answer after the last matching began."""
    last = MatchRun.objects.filter(state=State.SUCCEEDED).order_by("-pk").first()
    if last is None:
        return False
    scans = ScanCategory.objects.filter(category=Category.VULNERABILITIES, finished_at__gte=last.started_at)
    return scans.exclude(database_version__in=["", last.database_version]).exists()


def _is_behind(version: DatabaseVersion) -> bool:
    """Whether another host has a newer database; who wants an older one on purpose says so by `begin`."""
    last = MatchRun.objects.exclude(state=State.CANCELLED).order_by("-pk").first()
    if last is None or last.database_updated_at is None or version.updated_at is None:
        return False
    return version.updated_at < last.database_updated_at


def _failed_lately(version: DatabaseVersion) -> bool:
    return MatchRun.objects.filter(
        state=State.FAILED,
        database_version=version.label,
        finished_at__gte=timezone.now() - _AFTER_FAILURE,
    ).exists()
