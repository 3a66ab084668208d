"""One part of a scan from claim to end: pull the image, let engines look, write what they found.

Whatever happens the row ends: here, or, when this process dies, through the lease that then runs out.
"""

import errno
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models.functions import Now

from images.models import Image
from repositories.registries.failures import RegistryError, TryLaterError
from scanning import installed, malware
from scanning.contents import ContentError, NoRoomError
from scanning.engines.protocol import EngineCancelled, EngineError
from scanning.examination import (
    Examined,
    Verdict,
    doubted,
    examine,
    note_inventory,
    stored_analyses,
    unchanged,
    verdicts,
)
from scanning.failpoints import failpoint
from scanning.ingest import ingest, lacks_packages
from scanning.malware import MalwareOutcome
from scanning.models import (
    CATEGORIES_OF,
    GOOD_CATEGORY_STATES,
    Category,
    CategoryState,
    Part,
    Scan,
    ScanCategory,
    ScanStep,
)
from scanning.parts import (
    at_its_beginning,
    close_part,
    end_cancelled,
    fail_categories,
    ring_for,
    share_of,
)
from scanning.pulling import MustWaitError, pull
from scanning.pulse import Heartbeat, ScanTimeoutError
from scanning.services import ring_next
from scanning.summaries import refresh_summaries
from scanning.turns import next_in_line
from scanning.waiting import put_back, put_off
from tcss.lifecycle import (
    MAX_ATTEMPTS,
    CancelRequestedError,
    Failure,
    LostLeaseError,
    State,
    failure_fields,
    held,
)
from tcss.stopping import WorkerStopsError

log = logging.getLogger(__name__)

# Writes the facts and the ends of these categories; which images the facts are of, beside the scan's own.
_Write = Callable[[Sequence[ScanCategory]], set[int]]
_ATTEMPT = re.compile(r"scan-([0-9]+-[0-9]+)")
_UNEXPECTED = Failure(
    "ENG_CRASH",
    "The scan met an error that was not foreseen.",
    "Look at the worker's log for the cause, then scan again.",
)


def answer(part: Part) -> None:
    """A bell rang: take the scan whose turn it is, whichever the bell was for."""
    while (scan_pk := next_in_line(part)) is not None:
        scan = Scan.objects.claim(scan_pk)
        # Another worker may have been quicker.
        if scan is not None:
            _do(scan)
            return
    log.info("A bell rang and nothing waits", extra={"part": part})


def run(scan_pk: int) -> None:
    """Claim a scan and bring its part to an end; one that is gone, ended or somebody else's is left alone."""
    scan = Scan.objects.claim(scan_pk)
    if scan is None:
        log.info("A scan is not there to take", extra={"scan": scan_pk})
        return
    _do(scan)


def _do(scan: Scan) -> None:
    failpoint("claimed")
    log.info("A scan began", extra={"scan": scan.pk, "part": scan.part, "attempt": scan.attempt})
    look = _look_for_malware if scan.part == Part.MALWARE else _look
    seconds = settings.SCAN_TIMEOUT_SECONDS
    try:
        with (
            _work_directory(scan) as work,
            Heartbeat(scan, timeout_seconds=seconds, share=share_of(scan)) as heartbeat,
        ):
            write = look(scan, work, heartbeat)
            heartbeat.advance(ScanStep.SAVE, 95)
            failpoint("saving")
            _save(scan, write)
    except LostLeaseError:
        log.warning("A scan was taken away from this worker", extra={"scan": scan.pk})
    except CancelRequestedError:
        _end_cancelled(scan)
    except MustWaitError as wait:
        put_off(scan, wait)
    except WorkerStopsError:
        put_back(scan)
    except Exception as error:  # noqa: BLE001 - any error has to end the row
        _end_badly(scan, error)
    failpoint("ended")
    ring_next(Part(scan.part))


def _look(scan: Scan, work: Path, heartbeat: Heartbeat) -> _Write:
    kept = unchanged(scan.image)
    if kept is not None:
        log.info("Nothing has changed since an image was scanned: no engine runs", extra={"scan": scan.pk})
        return partial(_write_kept, kept)
    stored = stored_analyses(scan.image)
    pulled = pull(scan.image, work / "layers", installed.blob_store(), heartbeat, known=stored.keys())
    heartbeat.advance(ScanStep.ANALYSE, 70)
    failpoint("pulled")
    try:
        examined = examine(pulled, stored, work, heartbeat)
    except EngineCancelled:
        heartbeat.check()
        raise
    failpoint("analysed")
    return partial(_write_content, scan, examined)


def _look_for_malware(scan: Scan, work: Path, heartbeat: Heartbeat) -> _Write:
    try:
        outcome = malware.look(scan, work, heartbeat)
    except EngineCancelled:
        heartbeat.check()
        raise
    failpoint("judged")
    return partial(_write_malware, outcome)


def _save(scan: Scan, write: _Write) -> None:
    """Write the facts, the ends of the part's categories, what follows and the summaries as one."""
    with transaction.atomic():
        row = held(Scan.objects.all(), scan.pk, scan.fence)
        # Categories may have been added since the scan began: the engine looked for everything it can.
        categories = ScanCategory.objects.filter(
            scan=scan, state=CategoryState.WAITING, category__in=CATEGORIES_OF[Part(scan.part)]
        )
        ended = list(categories)
        touched = write(ended)
        if not close_part(row):
            raise LostLeaseError(f"scan {scan.pk} ended while it was locked")
        refresh_summaries({scan.image_id} | touched)
        _write_counts(scan, ended)
        failpoint("uncommitted")
    failpoint("saved")
    failed = sum(category.state == CategoryState.FAILED for category in ended)
    log.info("A part of a scan is done", extra={"scan": scan.pk, "part": scan.part, "failed": failed})


def _write_content(scan: Scan, examined: Examined, categories: Sequence[ScanCategory]) -> set[int]:
    # Where the distribution's packages are in a layer that was not fetched, their absence says nothing.
    if not examined.foreign_layers and lacks_packages(scan.image, examined.report):
        examined = doubted(examined)
    ends = verdicts(examined, {Category(row.category) for row in categories})
    touched: set[int] = set()
    if examined.report is not None:
        good = {category for category, end in ends.items() if end.state != CategoryState.FAILED}
        touched = ingest(
            scan.image,
            examined.report,
            vulnerabilities=Category.VULNERABILITIES in good,
            secrets=Category.SENSITIVE in good,
            packages=not examined.lacks_packages,
        )
        note_inventory(scan.image_id, examined)
    _write_kept(ends, categories)
    return touched


def _write_kept(ends: Mapping[Category, Verdict], categories: Sequence[ScanCategory]) -> set[int]:
    """The ends alone: the facts are what they were."""
    for row in categories:
        end = ends[Category(row.category)]
        row.engine, row.engine_version = end.engine.name, end.engine.version
        _write_end(row, end)
    return set()


def _write_malware(outcome: MalwareOutcome, categories: Sequence[ScanCategory]) -> set[int]:
    for row in categories:
        row.engine, row.engine_version = outcome.engine, outcome.engine_version
        _write_end(row, outcome)
    return set()


def _write_end(row: ScanCategory, end: Verdict | MalwareOutcome) -> None:
    row.state = end.state
    row.database_version, row.database_updated_at = end.database_version, end.database_updated_at
    for name, value in failure_fields(end.failure).items():
        setattr(row, name, value)
    row.finished_at = Now()
    row.save()


def _write_counts(scan: Scan, categories: Sequence[ScanCategory]) -> None:
    """What each of these categories found, as the image's summary counts it."""
    image = Image.objects.get(pk=scan.image_id)
    counts = {
        Category.VULNERABILITIES: image.vulnerability_count,
        Category.MALWARE: image.malware_count,
        Category.SENSITIVE: image.sensitive_count,
    }
    for row in categories:
        if row.state in GOOD_CATEGORY_STATES:
            ScanCategory.objects.filter(pk=row.pk).update(finding_count=counts[Category(row.category)])


def _end_cancelled(scan: Scan) -> None:
    with transaction.atomic():
        if end_cancelled(scan):
            refresh_summaries([scan.image_id])
    log.info("A scan was cancelled", extra={"scan": scan.pk})


def _end_badly(scan: Scan, error: Exception) -> None:
    """Queue the part again after an error that may pass, else end it with its cause."""
    failure, may_pass = _judged(error)
    if isinstance(error, DatabaseError | InterfaceError):
        # A deadlock is over by now; where the database is away the row cannot be written, and its lease runs
        # out.
        connection.close()
    log.warning(
        "A scan failed",
        extra={"scan": scan.pk, "attempt": scan.attempt, "code": failure.code},
        exc_info=error if failure is _UNEXPECTED else None,
    )
    with transaction.atomic():
        mine = Scan.objects.filter(pk=scan.pk, fence=scan.fence, state=State.RUNNING)
        row = mine.select_for_update().first()
        if row is None:
            # Ended after all: a commit whose answer was lost, or somebody else's doing.
            return
        if row.cancel_requested:
            end_cancelled(row)
        elif may_pass and row.attempt < MAX_ATTEMPTS:
            Scan.objects.give_back(
                scan.pk,
                fence=scan.fence,
                failure=failure,
                wait=_pause_after(error),
                waits_for=None,
                **at_its_beginning(row),
            )
            # A registry that is not well gets a pause: the reaper rings after a while of silence.
            if not isinstance(error, TryLaterError | NoRoomError):
                ring_for(scan.pk, Part(scan.part))
        else:
            # Without its content the other part would find nothing either; an engine's failure is its own.
            is_of_image = isinstance(error, RegistryError | ContentError)
            fail_categories([scan.pk], failure, part=None if is_of_image else Part(scan.part))
            close_part(row, failure)
        refresh_summaries([scan.image_id])


def _pause_after(error: Exception) -> timedelta | None:
    """How long the registry asks to be left alone."""
    return timedelta(seconds=error.retry_after) if isinstance(error, TryLaterError) else None


def _judged(error: Exception) -> tuple[Failure, bool]:
    """The cause in the operator's words, and whether trying again may help."""
    if isinstance(error, RegistryError):
        return Failure(error.code, error.reason, error.remedy), isinstance(error, TryLaterError)
    if isinstance(error, ContentError):
        return error.failure, isinstance(error, NoRoomError)
    if isinstance(error, EngineError):
        return Failure(error.code, error.reason, error.remedy), error.code in {"ENG_CRASH", "DISK_FULL"}
    if isinstance(error, ScanTimeoutError):
        return error.failure, False
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}:
        return NoRoomError(f"The scan could not write its files: {error.strerror}.").failure, True
    return _UNEXPECTED, True


@contextmanager
def _work_directory(scan: Scan) -> Iterator[Path]:
    """A folder of this attempt alone, gone at its end."""
    root = installed.work_root()
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    directory = root / f"scan-{scan.pk}-{scan.fence}"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what attempts that ended with their process left behind."""
    folders = {found[1]: path for path in root.iterdir() if (found := _ATTEMPT.fullmatch(path.name))}
    pks = [int(name.partition("-")[0]) for name in folders]
    running = Scan.objects.filter(pk__in=pks, state=State.RUNNING).values_list("pk", "fence")
    held_now = {f"{pk}-{fence}" for pk, fence in running}
    for name in folders.keys() - held_now:
        shutil.rmtree(folders[name], ignore_errors=True)
