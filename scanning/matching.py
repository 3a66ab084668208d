"""Matches all known packages with a new vulnerability database: nothing is pulled, nothing is unpacked.

The run's row is the job. Whatever happens to a run, the next one finds out by comparing what is left to do:
packages whose matches are right already cost a question and no write.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from images.models import Image
from scanning import installed
from scanning.engine_models import MatchNews, MatchRun
from scanning.engines.protocol import (
    DatabaseVersion,
    EngineCancelled,
    EngineDatabaseError,
    EngineError,
    MatchFact,
)
from scanning.engines.sbom import KnownPackage, documents
from scanning.ingest import lock_facts
from scanning.match_facts import (
    MatchChanges,
    differing,
    images_with_packages,
    write_matches,
    write_vulnerabilities,
)
from scanning.models import Inventory, InventoryPackage, Match, Package
from scanning.pulse import Heartbeat
from scanning.summaries import refresh_summaries
from tcss.lifecycle import (
    HEARTBEAT_SECONDS,
    CancelRequestedError,
    Failure,
    LostLeaseError,
    State,
    held,
)
from tcss.stopping import WorkerStopsError, heed_the_end

log = logging.getLogger(__name__)

# Packages of one question to the engine: its answer stays within some tens of megabytes.
DOCUMENT_PACKAGES = 2_000
# Packages read at a time, and matches written in one transaction.
_READ_PACKAGES = 20_000
_WRITE_MATCHES = 20_000
_PAUSE = timedelta(seconds=60)
_UNEXPECTED = Failure(
    "ENG_CRASH",
    "Matching the known packages ended in an error that nobody expected.",
    "Look at the worker's log; it is tried again by itself.",
)
_PACKAGE_FIELDS = ("name", "version", "source_name", "source_version", "kind", "os_release", "purl")


@dataclass
class _Work:
    """What is matched with which database, and what was found but is not written yet."""

    database: Path
    beat: Callable[[], None]
    run: MatchRun | None = None
    facts: list[MatchFact] = field(default_factory=list)
    packages: dict[str, int] = field(default_factory=dict)
    described: set[str] = field(default_factory=set)
    back: list[int] = field(default_factory=list)
    images: set[int] = field(default_factory=set)

    def keep_going(self) -> bool:
        """Whether the engine may go on; what speaks against it is raised by `beat` afterwards."""
        try:
            self.beat()
        except (CancelRequestedError, LostLeaseError, WorkerStopsError):
            return False
        return True


def is_current(database: DatabaseVersion | None) -> bool:
    """Whether the matches of all known packages are those of this database."""
    if database is None:
        return False
    # A run that did not come to its end may have written some of its answers.
    last = MatchRun.objects.exclude(started_at=None).order_by("-pk").first()
    if last is not None:
        return last.state == State.SUCCEEDED and last.database_version == database.label
    return not Package.objects.exists()


def match_images(image_pks: Collection[int], heartbeat: Heartbeat) -> None:
    """Match the packages of these images with the database in use, and write what it says.

    Raises EngineError, EngineDatabaseError where there is no database, and what ends the scan.
    """
    database = installed.vulnerability_database().directory()
    if database is None:
        raise EngineDatabaseError(
            "There is no vulnerability database, so nothing is known of the packages' flaws.",
            "Download it with `manage.py vulnerability_db download`, or import a bundle, then scan again.",
        )
    held_by = InventoryPackage.objects.filter(inventory__images__in=image_pks)
    _match(_Work(database, heartbeat.check), Package.objects.filter(pk__in=held_by.values("package")))


def match_run(run_pk: int) -> None:
    """Do the run with this key if it waits: from claim to end."""
    run = MatchRun.objects.claim(run_pk)
    if run is None:
        return
    try:
        _match_fleet(run)
    except LostLeaseError:
        log.info("A matching was taken over or cancelled", extra={"run": run.pk})
    except CancelRequestedError:
        MatchRun.objects.end(run.pk, fence=run.fence, state=State.CANCELLED)
    except WorkerStopsError:
        MatchRun.objects.postpone(run.pk, fence=run.fence)
    except EngineError as error:
        failure = Failure(error.code, error.reason, error.remedy)
        log.warning("A matching failed", extra={"run": run.pk, "code": error.code, "detail": error.detail})
        MatchRun.objects.give_back(run.pk, fence=run.fence, failure=failure, wait=_PAUSE)
    except Exception:
        log.exception("A matching failed", extra={"run": run.pk})
        MatchRun.objects.give_back(run.pk, fence=run.fence, failure=_UNEXPECTED, wait=_PAUSE)


def _match_fleet(run: MatchRun) -> None:
    store = installed.vulnerability_database()
    database, version = store.directory(), store.current()
    if database is None or version is None:
        raise WorkerStopsError
    if version.label != run.database_version:
        if run.database_updated_at and version.updated_at and version.updated_at < run.database_updated_at:
            # This host has yet to get the database: a worker of another host may have it.
            raise WorkerStopsError
        # Another database is in use by now: it gets a run of its own.
        raise CancelRequestedError(f"matching {run.pk}")
    total = _matchable(Package.objects.all()).count()
    renewed = time.monotonic()
    MatchRun.objects.heartbeat(run.pk, fence=run.fence, packages_total=total, packages_done=0)

    def beat() -> None:
        nonlocal renewed
        heed_the_end()
        if time.monotonic() - renewed >= HEARTBEAT_SECONDS:
            MatchRun.objects.heartbeat(run.pk, fence=run.fence)
            renewed = time.monotonic()

    work = _Work(database, beat, run)
    done = 0

    def matched(count: int) -> None:
        nonlocal done
        done += count
        MatchRun.objects.heartbeat(run.pk, fence=run.fence, packages_done=done)
        if store.directory() != database:
            raise CancelRequestedError(f"matching {run.pk}")

    _match(work, Package.objects.all(), matched)
    _tell(run, work)
    MatchRun.objects.end(run.pk, fence=run.fence, state=State.SUCCEEDED)
    log.info("All known packages were matched", extra={"run": run.pk, "packages": done})


def _match(work: _Work, packages: QuerySet[Package], matched: Callable[[int], None] | None = None) -> None:
    """Match these packages, one release of a distribution after the other, then write what differs."""
    matchable = _matchable(packages)
    releases = sorted(set(matchable.order_by().values_list("os_release", flat=True)))
    for release in releases:
        for some in _reads(matchable.filter(os_release=release)):
            by_identity = {package.identity: key for key, package in some}
            for document in documents((package for _, package in some), DOCUMENT_PACKAGES):
                _ask(
                    work, {package.identity: by_identity[package.identity] for package in document}, document
                )
                if matched is not None:
                    matched(len(document))
    _flush(work)


def _matchable(packages: QuerySet[Package]) -> QuerySet[Package]:
    """Those that a database can say something of."""
    return packages.exclude(purl="")


def _reads(packages: QuerySet[Package]) -> Iterator[list[tuple[int, KnownPackage]]]:
    last = 0
    while True:
        rows = packages.filter(pk__gt=last).order_by("pk")
        some = [
            (key, KnownPackage(identity, *texts))
            for key, identity, *texts in rows.values_list("pk", "identity", *_PACKAGE_FIELDS)[:_READ_PACKAGES]
        ]
        if not some:
            return
        yield some
        last = some[-1][0]


def _ask(work: _Work, keys: dict[str, int], document: list[KnownPackage]) -> None:
    """Put one question to the engine, and note where the answer is not what is stored."""
    try:
        answers, strange = installed.matcher(installed.work_root()).match_what_can_be(
            document, database=work.database, keep_going=work.keep_going
        )
    except EngineCancelled:
        work.beat()
        raise
    work.beat()
    for package in strange:
        log.warning("The engine cannot match a package", extra={"identity": package.identity})
        del keys[package.identity]
    for answer in answers:
        texts = [each for each in answer.vulnerabilities if each.identifier not in work.described]
        if texts:
            with transaction.atomic():
                lock_facts()
                write_vulnerabilities(texts)
            work.described.update(each.identifier for each in texts)
        if answer.os_supported is not None:
            _write_support(document[0], supported=answer.os_supported)
    facts = [match for answer in answers for match in answer.matches]
    changed = differing(facts, keys)
    work.facts += [fact for fact in facts if fact.package_identity in changed]
    work.packages |= {identity: keys[identity] for identity in changed}
    if len(work.facts) >= _WRITE_MATCHES:
        _flush(work)


def _write_support(package: KnownPackage, *, supported: bool) -> None:
    name = package.os_release.removeprefix(package.kind).strip()
    Image.objects.filter(os_family=package.kind, os_name=name, os_end_of_life=supported).update(
        os_end_of_life=not supported
    )


def _flush(work: _Work) -> None:
    """Write the differences and the summaries of the images that hold the packages, as one."""
    if not work.packages:
        return
    with transaction.atomic():
        if work.run is not None:
            held(MatchRun.objects.all(), work.run.pk, work.run.fence)
        lock_facts()
        changes = write_matches(work.facts, work.packages)
        touched = images_with_packages(changes.packages)
        refresh_summaries(touched)
        if work.run is not None:
            _count(work.run, changes, len(touched - work.images))
    work.back += [row.pk for row in changes.back]
    work.images |= touched
    work.facts, work.packages = [], {}


def _count(run: MatchRun, changes: MatchChanges, images: int) -> None:
    """Add to the run's figures, renew its lease and note which flaws are news, to be counted at the end."""
    MatchRun.objects.heartbeat(
        run.pk,
        fence=run.fence,
        matches_new=F("matches_new") + len(changes.new),
        matches_gone=F("matches_gone") + len(changes.gone),
        images_changed=F("images_changed") + images,
    )
    flaws = sorted({row.vulnerability_id for row in changes.new})
    MatchNews.objects.bulk_create(
        [MatchNews(run=run, vulnerability_id=flaw, image_count=0) for flaw in flaws],
        ignore_conflicts=True,
        batch_size=1000,
    )


def _tell(run: MatchRun, work: _Work) -> None:
    """Say of each new flaw how many images have it that had it not before; what no image has is no news."""
    run.refresh_from_db()
    holders = Inventory.images.through.objects.order_by()
    is_new = Q(first_seen_at__gte=run.started_at) | Q(pk__in=work.back)
    for news in MatchNews.objects.filter(run=run).order_by("pk"):
        work.beat()
        of_flaw = Match.objects.filter(vulnerability=news.vulnerability_id)
        new, old = of_flaw.filter(is_new), of_flaw.exclude(is_new)
        images = set(
            holders.filter(inventory__entries__package__matches__in=new).values_list("image_id", flat=True)
        )
        if images and old.exists():
            images -= set(
                holders.filter(inventory__entries__package__matches__in=old).values_list(
                    "image_id", flat=True
                )
            )
        news.severity = new.aggregate(worst=Max("severity"))["worst"] or 0
        news.image_count = len(images)
        news.save(update_fields=["severity", "image_count"])
    MatchNews.objects.filter(run=run, image_count=0).delete()
