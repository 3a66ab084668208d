"""Runs one data update: lists a registry, reads what is new, and writes only what changed.

Threads ask the registry, as many at once as it takes well; this one thread alone talks to the database. What
was not listed is never taken for gone.
"""

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from repositories import hints
from repositories.connections import connect, pull_client
from repositories.models import Registry, Sync, Tag
from repositories.reading import Piece, Reader
from repositories.registries.failures import RegistryError, TryLaterError
from repositories.registries.pace import Pace
from repositories.registries.protocol import ArtifactItem, ProjectItem, RepositoryItem
from repositories.removal import settle
from repositories.services import note_health
from repositories.sync_hold import Hold, SettingsChangedError
from repositories.sync_intake import Intake, Work
from repositories.sync_known import KnownRepositories
from repositories.sync_listed import NO_PROJECTS, Listed
from repositories.updates import RUN_SYNC
from tcss.bell import ring
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

# Weights of what waits: a project or repository, an artifact and a tag weigh one each.
_LISTING_ROOM = 6000
_LISTING_PIECE = 400
# Bytes of manifests and configs.
_CONTENTS_ROOM = 32 * 2**20
_CONTENTS_PIECE = 2**20
# Listings that threads have or wait for, for each thread.
_AHEAD = 4
# Nothing came for so many seconds: what waits for more is written without it.
_QUIET_SECONDS = 0.2
_PROJECTS = object()

Item = TypeVar("Item")


def run(sync_id: int) -> None:
    """Claim and run a data update to its end; nothing happens where another worker has it."""
    sync = Sync.objects.claim(sync_id)
    if sync is None:
        return
    extra = {"sync": sync.pk, "registry": sync.registry_id, "attempt": sync.attempt}
    log.info("A data update began", extra=extra)
    try:
        _attempt(sync)
    except (LostLeaseError, Registry.DoesNotExist):
        log.warning("A data update was taken over", extra=extra)
    except CancelRequestedError:
        Sync.objects.end(sync.pk, fence=sync.fence, state=State.CANCELLED, stage="")
        log.info("A data update was cancelled", extra=extra)
    except (SettingsChangedError, WorkerStopsError) as cause:
        log.info("A data update begins anew", extra={**extra, "cause": type(cause).__name__})
        if Sync.objects.postpone(sync.pk, fence=sync.fence, stage="") and not _was_cancelled(sync):
            ring(RUN_SYNC, sync.pk)
    except TryLaterError as error:
        log.warning("A data update will be tried again", extra={**extra, "code": error.code})
        _give_back(sync, error)
    except RegistryError as error:
        log.warning("A data update failed", extra={**extra, "code": error.code})
        note_health(sync.registry, error)
        Sync.objects.end(sync.pk, fence=sync.fence, state=State.FAILED, failure=_failure(error), stage="")


def _attempt(sync: Sync) -> None:
    reader = Reader()
    try:
        _Update(Hold(sync), reader).run()
    finally:
        reader.stop()


def _give_back(sync: Sync, error: TryLaterError) -> None:
    """Queue the update again; its bell rings when the registry may be asked again."""
    note_health(sync.registry, error)
    Sync.objects.give_back(
        sync.pk,
        fence=sync.fence,
        failure=_failure(error),
        wait=timedelta(seconds=error.retry_after),
        stage="Waiting for the registry",
    )
    _was_cancelled(sync)


def _was_cancelled(sync: Sync) -> bool:
    """End an update that is queued again though somebody has asked for its end: nobody would take it."""
    unwanted = Sync.objects.filter(cancel_requested=True)
    return unwanted.advance(
        sync.pk,
        fence=sync.fence,
        source=State.QUEUED,
        target=State.CANCELLED,
        **failure_fields(None),
        stage="",
    )


def _failure(error: RegistryError) -> Failure:
    return Failure(error.code, error.reason, error.remedy)


class _Update:
    """One attempt at one data update."""

    def __init__(self, hold: Hold, reader: Reader) -> None:
        self._hold = hold
        self._reader = reader
        pace = Pace()
        self._adapter = connect(hold.registry, alive=self._alive, pace=pace)
        self._client = pull_client(hold.registry, alive=self._alive, pace=pace)
        self._ahead = pace.most * _AHEAD
        self._listing = reader.lane(pace.most, room=_LISTING_ROOM, piece=_LISTING_PIECE)
        self._contents = reader.lane(pace.most, room=_CONTENTS_ROOM, piece=_CONTENTS_PIECE)
        self._begin_counting()

    def _alive(self) -> None:
        """End the requests that nobody wants; called in the threads that wait for their answers."""
        self._reader.alive()
        if self._listed.given_up and self._listed.cause is not None:
            raise self._listed.cause

    def _lazily(self, listing: Callable[..., Iterable[Item]], *arguments: object) -> Iterator[Item]:
        """The listing, begun by the thread that walks through it, if anybody wants it by then."""
        self._alive()
        yield from listing(*arguments)

    def _begin_counting(self) -> None:
        self._listed = Listed()
        self._hold.restart_counts()
        lanes = (self._listing, self._contents)
        self._intake = Intake(self._hold, self._listed, self._client, lanes, self._finished)
        self._items: list[RepositoryItem] = []
        self._is_done = bytearray()

    def run(self) -> None:
        """All of it; raises RegistryError when nothing could be listed."""
        self._hold.write(self._begin)
        if self._hold.sync.is_partial:
            known = KnownRepositories(self._hold)
            self._list_images(known, known.hinted())
            if self._end_partial():
                return
            # Somebody has asked for everything meanwhile.
            self._hold.sync.refresh_from_db(fields=["stop_at", "is_partial"])
            self._begin_counting()
        known = KnownRepositories(self._hold)
        self._list_images(known, self._list_names())
        if self._listed.projects_complete and self._items:
            known.mark_gone({item.name for item in self._items}, self._listed)
        self._hold.write(self._end)

    def _begin(self) -> None:
        registry = self._hold.registry
        Registry.objects.filter(pk=registry.pk).update(generation=F("generation") + 1)
        registry.refresh_from_db(fields=["generation"])
        Sync.objects.filter(pk=self._hold.sync.pk).update(generation=registry.generation)

    def _next(self) -> Piece | None:
        self._hold.beat()
        return self._reader.next(_QUIET_SECONDS)

    @property
    def _night_is_over(self) -> bool:
        sync = self._hold.sync
        if sync.stop_at is None or timezone.now() < sync.stop_at:
            return False
        # Somebody may have asked for it by hand meanwhile: then it goes on.
        sync.refresh_from_db(fields=["stop_at"])
        return sync.stop_at is not None

    def _list_names(self) -> list[RepositoryItem]:
        """The names of all repositories, by their projects."""
        self._hold.stage = "Listing projects"
        found: dict[str, RepositoryItem] = {}
        projects: deque[ProjectItem] = deque()
        under_way = 1
        self._listing.start(_PROJECTS, self._lazily(self._adapter.list_projects), _one)
        while under_way:
            piece = self._next()
            if piece is None:
                continue
            self._listing.give_back(piece.weight)
            under_way -= piece.is_last
            if piece.key is _PROJECTS:
                projects += self._took_projects(piece)
            else:
                self._took_repositories(piece, found)
            while projects and under_way < self._ahead and self._goes_on():
                project = projects.popleft()
                self._hold.stage = f"Listing repositories of {project.name}"
                self._listing.start(project, self._lazily(self._adapter.list_repositories, project), _one)
                under_way += 1
        return [found[name] for name in sorted(found)]

    def _goes_on(self) -> bool:
        self._listed.cut = self._listed.cut or self._night_is_over
        return not (self._listed.given_up or self._listed.cut)

    def _took_projects(self, piece: Piece) -> list[ProjectItem]:
        projects = [item for item in piece.items if isinstance(item, ProjectItem)]
        self._listed.projects |= {project.name for project in projects}
        self._hold.count("projects_seen", len(projects))
        if piece.error is not None:
            if not self._listed.projects:
                raise piece.error
            self._listed.note(piece.error)
        self._listed.projects_complete = piece.is_last and piece.error is None
        return projects

    def _took_repositories(self, piece: Piece, found: dict[str, RepositoryItem]) -> None:
        before = len(found)
        found |= {item.name: item for item in piece.items if isinstance(item, RepositoryItem)}
        self._hold.count("repositories_total", len(found) - before)
        if piece.error is not None:
            self._listed.note_unlisted(piece.error)
        elif piece.is_last and isinstance(piece.key, ProjectItem):
            self._listed.complete_namespaces.add(piece.key.name)
            self._listed.note_listed()

    def _list_images(self, known: KnownRepositories, items: list[RepositoryItem]) -> None:
        """The images of repositories, in the order of their names, from where the last night ended."""
        self._items = items
        cursor = self._hold.registry.sync_cursor
        if cursor and not self._hold.sync.is_partial:
            names = [item.name for item in self._items]
            start = bisect_right(names, cursor)
            self._items = [*self._items[start:], *self._items[:start]]
        self._listed.repositories = self._hold.counts["repositories_total"] = len(self._items)
        self._is_done = bytearray(len(self._items))
        works = known.works(self._items)
        under_way = 0
        is_all = False
        while True:
            while not is_all and under_way < self._ahead:
                work = next(works, None) if self._goes_on() else None
                if work is None:
                    is_all = True
                    break
                self._hold.stage = f"Listing images of {work.item.name}"
                self._listing.start(work, self._lazily(self._adapter.list_artifacts, work.item), _weigh)
                under_way += 1
            if is_all and not under_way:
                self._intake.flush()
                if self._intake.is_empty:
                    break
            piece = self._next()
            if piece is None:
                self._intake.flush()
            elif isinstance(piece.key, Work):
                under_way -= piece.is_last
                self._intake.add(piece.key, piece)
            else:
                self._intake.take(piece)
        # After the last attempt what was listed counts for more.
        if self._listed.pause is not None and self._hold.sync.attempt < MAX_ATTEMPTS:
            raise self._listed.pause
        if self._listed.given_up:
            self._listed.unlisted += self._is_done.count(0)

    def _finished(self, work: Work) -> None:
        self._is_done[work.position] = 1
        self._hold.count("repositories_seen")

    def _end_partial(self) -> bool:
        """End an update of what webhooks named; False where it is to be one of everything by now."""
        ended = False

        def end() -> None:
            nonlocal ended
            if held(Sync.objects.all(), self._hold.sync.pk, self._hold.sync.fence).is_partial:
                self._end()
                ended = True

        self._hold.write(end)
        return ended

    def _end(self) -> None:
        """End the update as what it was, together with the registry's own columns."""
        listed, sync, registry = self._listed, self._hold.sync, self._hold.registry
        failure = self._failure()
        state = State.FAILED if listed.is_nothing else State.INCOMPLETE if failure else State.SUCCEEDED
        is_complete = not sync.is_partial and listed.is_complete and failure is not NO_PROJECTS
        if is_complete:
            self._hold.counts["tags_removed"] = settle(registry, sync.pk).removed
            hints.forget_followed(registry, sync.pk)
        if not Sync.objects.end(
            sync.pk,
            fence=sync.fence,
            state=state,
            failure=failure,
            stage="",
            is_complete=is_complete,
            **self._hold.counts,
        ):
            raise LostLeaseError(f"data update {sync.pk} ended while it was held")
        # What a webhook names may be public: that it could be listed proves no login.
        if listed.trouble is not None or not sync.is_partial:
            note_health(registry, listed.trouble)
        if not sync.is_partial:
            self._note_where_it_ended(state)
        log.info("A data update ended", extra={"sync": sync.pk, "state": state.value, **self._hold.counts})

    def _note_where_it_ended(self, state: State) -> None:
        """Where the next night goes on: after the last repository before which all are done."""
        row = Registry.objects.filter(pk=self._hold.registry.pk)
        if state == State.SUCCEEDED:
            row.update(last_synced_at=Now())
        done = self._is_done.find(0)
        if self._listed.cut and done > 0:
            row.update(sync_cursor=self._items[done - 1].name)
        elif not (self._listed.cut or self._listed.given_up) and self._hold.registry.sync_cursor:
            row.update(sync_cursor="")

    def _failure(self) -> Failure | None:
        if self._listed.cut:
            counts = self._hold.counts
            return Failure(
                "NIGHT_OVER",
                "The night's window ended before the data update did: "
                f"{counts['repositories_seen']} of {counts['repositories_total']} repositories were listed.",
                "Nothing needs to be done: it goes on there next night, or with a data update by hand.",
            )
        if self._listed.cause is None and not self._listed.repositories and not self._hold.sync.is_partial:
            known = Tag.objects.filter(registry=self._hold.registry, missing_since=None)
            return NO_PROJECTS if known.exists() else None
        return self._listed.failure()


def _one(_: object) -> int:
    return 1


def _weigh(artifact: ArtifactItem) -> int:
    return 1 + len(artifact.tags)
