"""Runs one data update: lists a registry, reads what is new, and writes only what changed.

Everything is fetched first and written after, in short transactions that hold the data update's row: who
lost it writes nothing. What was not listed is never taken for gone.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from repositories.connections import connect, pull_client
from repositories.models import Registry, Repository, Sync, Tag
from repositories.registries.failures import AccessRefusedError, RegistryError, TryLaterError
from repositories.registries.protocol import ArtifactItem, ProjectItem, RepositoryItem, TagItem
from repositories.services import note_health
from repositories.sync_contents import read_contents
from repositories.sync_tags import RepositoryTags, mark_missing, note_repository_error
from tcss.lifecycle import CancelRequestedError, Failure, LostLeaseError, State, held

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
_CHUNK = 100
_BATCH = 500
_FAILURES_IN_A_ROW = 3

NO_PROJECTS = Failure(
    "REG_PROTOCOL",
    "The registry answered with an empty list, though it had images before. Nothing was marked as missing.",
    "Check that the account still has its rights in the registry, then run the data update again.",
)


def run(sync_id: int) -> None:
    """Claim and run a data update to its end; nothing happens where another worker has it."""
    sync = Sync.objects.claim(sync_id)
    if sync is None:
        return
    registry = sync.registry
    extra = {"sync": sync.pk, "registry": registry.pk, "attempt": sync.attempt}
    log.info("A data update began", extra=extra)
    try:
        _Update(sync).run()
    except LostLeaseError:
        log.warning("A data update was taken over", extra=extra)
    except CancelRequestedError:
        Sync.objects.end(sync.pk, fence=sync.fence, state=State.CANCELLED, stage="")
        log.info("A data update was cancelled", extra=extra)
    except TryLaterError as error:
        log.warning("A data update will be tried again", extra={**extra, "code": error.code})
        _give_back(sync, error)
    except RegistryError as error:
        log.warning("A data update failed", extra={**extra, "code": error.code})
        note_health(registry, error)
        Sync.objects.end(sync.pk, fence=sync.fence, state=State.FAILED, failure=_failure(error), stage="")


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


def _failure(error: RegistryError) -> Failure:
    return Failure(error.code, error.reason, error.remedy)


@dataclass(slots=True)
class _Listed:
    """What was listed, and what could not be."""

    projects: list[ProjectItem] = field(default_factory=list)
    repositories: list[RepositoryItem] = field(default_factory=list)
    # Namespaces whose repositories were all listed; nothing is known of others.
    complete_namespaces: set[str] = field(default_factory=set)
    projects_complete: bool = False
    unlisted: int = 0
    unread: int = 0
    failures_in_a_row: int = 0
    given_up: bool = False
    cause: RegistryError | None = None

    def note(self, error: RegistryError) -> None:
        """Remember the first cause; the others are counted."""
        self.cause = self.cause or error

    def note_unlisted(self, error: RegistryError) -> None:
        """Count a listing that failed, and give up where going on is of no use or may lock the account."""
        self.unlisted += 1
        self.failures_in_a_row += 1
        refused = isinstance(error, AccessRefusedError) and error.code == "REG_AUTH"
        away = isinstance(error, TryLaterError) and self.failures_in_a_row >= _FAILURES_IN_A_ROW
        if refused or away:
            self.given_up = True
            self.cause = error
        self.note(error)


def _chunks(artifacts: Iterator[ArtifactItem]) -> Iterator[list[ArtifactItem]]:
    """The artifacts in lists; what came before an error is not lost with it."""
    chunk: list[ArtifactItem] = []
    try:
        for artifact in artifacts:
            chunk.append(artifact)
            if len(chunk) >= _CHUNK:
                yield chunk
                chunk = []
    except RegistryError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


class _Update:
    """One attempt at one data update."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._registry = sync.registry
        self._adapter = connect(self._registry, alive=self._beat)
        self._client = pull_client(self._registry, alive=self._beat)
        self._listed = _Listed()
        self._last_beat = 0.0
        self._progress: dict[str, int | str] = {
            "stage": "Listing projects",
            "projects_seen": 0,
            "repositories_total": 0,
            "repositories_seen": 0,
            "tags_seen": 0,
            "tags_new": 0,
            "tags_missing": 0,
        }

    def run(self) -> None:
        """All of it; raises RegistryError when nothing could be listed."""
        self._write(self._begin)
        self._show(stage="Listing projects")
        self._list_projects()
        for project in self._listed.projects:
            if not self._listed.given_up:
                self._list_repositories(project)
        self._rows = {row.name: row for row in Repository.objects.filter(registry=self._registry)}
        for item in self._listed.repositories:
            if self._listed.given_up:
                self._listed.unlisted += 1
            else:
                self._update_repository(item)
        self._mark_gone_repositories()
        self._write(self._end)

    def _begin(self) -> None:
        Registry.objects.filter(pk=self._registry.pk).update(generation=F("generation") + 1)
        self._registry.refresh_from_db(fields=["generation"])
        Sync.objects.filter(pk=self._sync.pk).update(generation=self._registry.generation)

    def _list_projects(self) -> None:
        try:
            for project in self._adapter.list_projects():
                self._listed.projects.append(project)
                self._show(projects_seen=len(self._listed.projects))
            self._listed.projects_complete = True
        except RegistryError as error:
            if not self._listed.projects:
                raise
            self._listed.note(error)

    def _list_repositories(self, project: ProjectItem) -> None:
        self._show(stage=f"Listing repositories of {project.name}"[:120])
        try:
            for item in self._adapter.list_repositories(project):
                self._listed.repositories.append(item)
                self._show(repositories_total=len(self._listed.repositories))
            self._listed.complete_namespaces.add(project.name)
            self._listed.failures_in_a_row = 0
        except RegistryError as error:
            self._listed.note_unlisted(error)

    def _update_repository(self, item: RepositoryItem) -> None:
        self._show(stage=f"Listing images of {item.name}"[:120])
        row = self._rows.get(item.name)
        if row is None:
            row = Repository(
                registry=self._registry,
                name=item.name,
                namespace=item.namespace,
                seen_generation=self._registry.generation,
            )
            self._write(row.save)
        tags = RepositoryTags(self._registry, row, self._registry.generation, self._write)
        before = dict(self._progress)
        error: RegistryError | None = None
        artifacts = self._adapter.list_artifacts(item)
        try:
            for chunk in _chunks(artifacts):
                self._beat()
                unsettled = tags.unsettled(chunk)
                if unsettled:
                    self._update_tags(tags, item.name, unsettled)
                self._show(
                    tags_seen=int(before["tags_seen"]) + tags.seen,
                    tags_new=int(before["tags_new"]) + tags.new,
                )
            self._listed.failures_in_a_row = 0
        except RegistryError as caught:
            error = caught
            self._listed.note_unlisted(caught)
        tags.finish(complete=error is None)
        note_repository_error(row, error.code if error else "", error.reason if error else "", self._write)
        self._show(
            repositories_seen=int(before["repositories_seen"]) + 1,
            tags_missing=int(before["tags_missing"]) + tags.missing,
        )

    def _update_tags(
        self, tags: RepositoryTags, repository: str, unsettled: list[tuple[ArtifactItem, list[TagItem]]]
    ) -> None:
        artifacts = [artifact for artifact, _ in unsettled]
        contents = read_contents(self._client, repository, artifacts, self._write)
        for problem in contents.problems:
            self._listed.unread += 1
            self._listed.note(problem)
        tags.update(unsettled, contents)

    def _mark_gone_repositories(self) -> None:
        """Mark the tags of repositories that a complete listing no longer shows."""
        listed = self._listed
        if not (listed.projects_complete and listed.repositories):
            return
        seen = {item.name for item in listed.repositories}
        projects = {project.name for project in listed.projects}
        gone = [
            row.pk
            for row in self._rows.values()
            if row.name not in seen
            and (row.namespace in listed.complete_namespaces or row.namespace not in projects)
        ]
        for start in range(0, len(gone), _BATCH):
            tags = Tag.objects.filter(repository__in=gone[start : start + _BATCH], missing_since=None)
            pks = list(tags.values_list("pk", flat=True))
            if pks:
                self._write(partial(mark_missing, pks))
                self._show(tags_missing=int(self._progress["tags_missing"]) + len(pks))

    def _end(self) -> None:
        """End the update as what it was, together with the registry's own columns."""
        listed = self._listed
        failure = self._failure()
        nothing = bool(listed.projects) and not listed.repositories and listed.unlisted > 0
        nothing = nothing or 0 < len(listed.repositories) <= listed.unlisted
        state = State.FAILED if nothing else State.INCOMPLETE if failure else State.SUCCEEDED
        progress = {**self._progress, "stage": ""}
        if not Sync.objects.end(
            self._sync.pk, fence=self._sync.fence, state=state, failure=failure, **progress
        ):
            raise LostLeaseError(f"data update {self._sync.pk} ended while it was held")
        note_health(self._registry, listed.cause if nothing or listed.given_up else None)
        if state == State.SUCCEEDED:
            Registry.objects.filter(pk=self._registry.pk).update(last_synced_at=Now())
        log.info("A data update ended", extra={"sync": self._sync.pk, "state": state.value, **progress})

    def _failure(self) -> Failure | None:
        listed = self._listed
        if listed.cause is None:
            suspicious = not listed.repositories and Tag.objects.filter(
                registry=self._registry, missing_since=None
            )
            return NO_PROJECTS if suspicious else None
        counts = [
            f"{count} {what}"
            for count, what in (
                (listed.unlisted, "listings could not be read to their end"),
                (listed.unread, "manifests could not be read"),
            )
            if count
        ]
        reason = " ".join([listed.cause.reason, f"({', '.join(counts)})" if counts else ""]).strip()
        return Failure(listed.cause.code, reason, listed.cause.remedy)

    def _write(self, change: Callable[[], object]) -> None:
        """Make a change while we hold the update; raises LostLeaseError and changes nothing otherwise."""
        with transaction.atomic():
            held(Sync.objects.all(), self._sync.pk, self._sync.fence)
            change()

    def _show(self, **progress: int | str) -> None:
        self._progress.update(progress)
        self._beat()

    def _beat(self) -> None:
        """Renew the lease, show progress and hear a cancellation, every two seconds."""
        now = time.monotonic()
        if now - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = now
            Sync.objects.heartbeat(self._sync.pk, fence=self._sync.fence, **self._progress)
