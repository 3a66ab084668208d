"""Brings what was listed into the database, in batches: asks for manifests that are new, then writes.

Everything is read first and written after, in short transactions that hold the data update's row. A listing's
artifacts wait here for their manifests; how many may wait is the room of the listing's lane.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from images.models import ArtifactKind, Manifest
from repositories.models import Repository, RepositoryHint
from repositories.reading import Lane, Piece
from repositories.registries.failures import NotThereError, RegistryError
from repositories.registries.protocol import ArtifactItem, Kind, PullClient, RepositoryItem, TagItem
from repositories.sync_contents import (
    READABLE,
    Found,
    Unread,
    choose_platform,
    correct_unread,
    create_missing,
    is_refusal,
    known_manifests,
    listed_row,
    note_problems,
    read_contents,
    record,
    unread_platforms,
    with_index_images,
)
from repositories.sync_hold import Hold
from repositories.sync_listed import Listed
from repositories.sync_tags import RepositoryTags, TagRow, mark_missing, set_latest, upsert
from tcss.text import clean_text

# Artifacts written together: enough to share a statement's cost, few enough that a transaction is short.
_BATCH = 200
# A batch of few artifacts may have very many tags.
_BATCH_WEIGHT = 1500
_FINISHED_TOGETHER = 50
# Manifests one thread reads in a row.
_IN_A_ROW = 10
# Bytes of bodies that may wait to be written before they are written without the rest of their batch.
_BODIES = 8 * 2**20


@dataclass(slots=True, eq=False)
class Work:
    """One repository of a data update, from its listing until it is written."""

    item: RepositoryItem
    row: Repository
    tags: RepositoryTags
    position: int = 0
    hint: RepositoryHint | None = None
    # Nobody listed it: only a webhook named it.
    is_only_hinted: bool = False
    error: RegistryError | None = None
    is_listed: bool = False
    is_whole: bool = False
    waiting: int = 0

    def end(self, error: RegistryError | None) -> None:
        """The listing ended; that a repository somebody only named is not there is no error, and no proof."""
        self.is_listed = True
        self.is_whole = error is None
        self.error = None if self.is_only_hinted and isinstance(error, NotThereError) else error

    def gone(self) -> list[int]:
        """The keys of tags that a whole listing did not show."""
        return self.tags.gone() if self.is_whole else []

    @property
    def problem(self) -> dict[str, str]:
        """The columns that say why it could not be listed, or that it could."""
        error = self.error
        return {
            "error_code": clean_text(error.code, 32) if error else "",
            "error_reason": clean_text(error.reason, 500) if error else "",
        }

    @property
    def has_new_problem(self) -> bool:
        """Whether the row says something else."""
        return self.row.pk is not None and any(
            getattr(self.row, name) != value for name, value in self.problem.items()
        )


@dataclass(slots=True, eq=False)
class _Part:
    """Artifacts of one repository about which something is to be done."""

    work: Work
    unsettled: list[tuple[ArtifactItem, list[TagItem]]]
    weight: int


@dataclass(slots=True, eq=False)
class _Batch:
    """What is written together once all its manifests are read."""

    parts: list[_Part]
    artifacts: dict[str, ArtifactItem]
    reading: set[str] = field(default_factory=set)


class Intake:
    """What is on its way into the database; ``done`` is told of every repository that is."""

    def __init__(
        self,
        hold: Hold,
        listed: Listed,
        client: PullClient,
        lanes: tuple[Lane, Lane],
        done: Callable[[Work], None],
    ) -> None:
        self._hold = hold
        self._listed = listed
        self._client = client
        self._listing, self._contents = lanes
        self._done = done
        self._gathered: list[_Part] = []
        # Batches that wait for a manifest, each with the name of a repository it can be read from.
        self._wanted: dict[str, list[tuple[_Batch, str]]] = {}
        self._found: dict[str, Found] = {}
        self._found_weight = 0
        # What is written of them beside what they say themselves.
        self._rows: dict[str, Manifest] = {}
        self._finished: list[Work] = []
        self._refusals: dict[str, RegistryError] = {}
        # Why manifests could not be read, until that is written.
        self._problems: dict[str, RegistryError] = {}

    @property
    def is_empty(self) -> bool:
        """Whether everything that was added is written."""
        return not (self._gathered or self._wanted or self._finished)

    def add(self, work: Work, piece: Piece) -> None:
        """Take artifacts of a listing; the last ones end the repository's work."""
        before = work.tags.seen
        unsettled = work.tags.unsettled(item for item in piece.items if isinstance(item, ArtifactItem))
        self._hold.count("tags_seen", work.tags.seen - before)
        if piece.is_last:
            work.end(piece.error)
            if work.error is None:
                self._listed.note_listed()
                self._listed.images_listed += 1
            else:
                self._listed.note_unlisted(work.error)
        if not unsettled:
            self._listing.give_back(piece.weight)
            self._finish(work)
            return
        work.waiting += 1
        self._gathered.append(_Part(work, unsettled, piece.weight))
        artifacts = sum(len(part.unsettled) for part in self._gathered)
        if artifacts >= _BATCH or sum(part.weight for part in self._gathered) >= _BATCH_WEIGHT:
            self._ask()

    def take(self, piece: Piece) -> None:
        """Take manifests that were read from a repository, and write the batches that wait for no more."""
        self._found_weight += piece.weight
        settled = []
        for one in piece.items:
            if isinstance(one, Found):
                self._listed.note_read()
                self._hold.count("manifests_read")
                self._found[one.digest] = one
                settled += [(one.digest, batch) for batch, _ in self._wanted[one.digest]]
            elif isinstance(one, Unread):
                settled += [(one.digest, batch) for batch in self._missed(one, str(piece.key))]
        self._want_platforms([one for one in piece.items if isinstance(one, Found)])
        for digest, batch in settled:
            batch.reading.discard(digest)
        for one in piece.items:
            if isinstance(one, Found):
                del self._wanted[one.digest]
        for batch in dict.fromkeys(batch for _, batch in settled):
            if not batch.reading:
                self._write(batch)
        if self._found_weight >= _BODIES:
            self._hold.write(self._record)
            self._forget_found()

    def flush(self) -> None:
        """Let nothing wait for more to come."""
        if self._gathered:
            self._ask()
        if self._finished:
            self._finish_all()

    def _ask(self) -> None:
        """Make a batch of what was gathered, and read the manifests of it that are new."""
        parts, self._gathered = self._gathered, []
        listed = [artifact for part in parts for artifact, _ in part.unsettled]
        # One that is listed twice is an image if either listing says so.
        listed.sort(key=lambda artifact: artifact.kind in READABLE)
        batch = _Batch(parts, {artifact.digest: artifact for artifact in listed})
        known = known_manifests(batch.artifacts)
        wanted = defaultdict(list)
        for part in parts:
            for artifact, _ in part.unsettled:
                row = known.get(artifact.digest)
                if artifact.kind in READABLE and not (row and row.is_read):
                    self._rows[artifact.digest] = listed_row(artifact)
                    wanted[part.work.item.name].append(artifact.digest)
        platforms = unread_platforms({digest: row for digest, row in known.items() if row.is_read})
        for part in parts:
            for artifact, _ in part.unsettled:
                if artifact.digest in platforms:
                    child = platforms[artifact.digest]
                    self._rows.setdefault(child, Manifest(digest=child, kind=ArtifactKind.IMAGE))
                    wanted[part.work.item.name].append(child)
        for repository, digests in wanted.items():
            self._want(batch, repository, digests)
        if not batch.reading:
            self._write(batch)

    def _want(self, batch: _Batch, repository: str, digests: Iterable[str]) -> None:
        """Let a batch wait for manifests, and read those that nobody waits for yet."""
        fresh = []
        for digest in digests:
            batch.reading.add(digest)
            if digest in self._found:
                continue
            if digest not in self._wanted:
                fresh.append(digest)
            self._wanted.setdefault(digest, []).append((batch, repository))
        batch.reading -= self._found.keys()
        self._read(repository, fresh)

    def _read(self, repository: str, digests: Sequence[str]) -> None:
        for start in range(0, len(digests), _IN_A_ROW):
            some = digests[start : start + _IN_A_ROW]
            reading = read_contents(self._client, repository, some, self._refusal)
            self._contents.start(repository, reading, lambda one: one.weight)

    def _refusal(self, repository: str) -> RegistryError | None:
        """Why a repository is not to be asked any more; called in the threads."""
        return self._listed.cause if self._listed.given_up else self._refusals.get(repository)

    def _missed(self, one: Unread, repository: str) -> list[_Batch]:
        """The batches that go on without a manifest; others try another repository that has it too."""
        waiting = self._wanted.pop(one.digest)
        # A proxy cache has an index before it has its platforms: that is how it is, and no error.
        is_platform = not any(one.digest in batch.artifacts for batch, _ in waiting)
        if not (is_platform and isinstance(one.error, NotThereError)):
            self._listed.note_unread(one.error)
        if is_refusal(one.error):
            self._refusals.setdefault(repository, one.error)
        others = [(batch, name) for batch, name in waiting if name != repository]
        if others:
            self._wanted[one.digest] = others
            self._read(others[0][1], [one.digest])
        else:
            del self._rows[one.digest]
            self._problems[one.digest] = one.error
        return [batch for batch, name in waiting if name == repository]

    def _want_platforms(self, found: Iterable[Found]) -> None:
        """Read the platforms that stand for indexes, for the batches that wait for the indexes."""
        chosen = {
            one.digest: platform.digest
            for one in found
            if one.body.kind == Kind.INDEX and (platform := choose_platform(one.body.platforms))
        }
        if not chosen:
            return
        known = known_manifests(chosen.values())
        for index, digest in chosen.items():
            row = known.get(digest)
            if row and row.is_read:
                continue
            for batch, repository in self._wanted[index]:
                self._rows[digest] = Manifest(digest=digest, kind=ArtifactKind.IMAGE)
                self._want(batch, repository, [digest])

    def _write(self, batch: _Batch) -> None:
        self._hold.write(lambda: self._write_batch(batch))
        self._forget_found()
        for part in batch.parts:
            self._listing.give_back(part.weight)
            part.work.waiting -= 1
            self._finish(part.work)

    def _write_batch(self, batch: _Batch) -> None:
        self._record()
        rows = known_manifests(batch.artifacts)
        missing = {digest: each for digest, each in batch.artifacts.items() if digest not in rows}
        if missing:
            create_missing(missing)
            rows |= known_manifests(missing)
        correct_unread(batch.artifacts, rows)
        if self._problems:
            for digest in note_problems(self._problems):
                del self._problems[digest]
        rows = with_index_images(rows)
        works = list(dict.fromkeys(part.work for part in batch.parts))
        create_rows([work.row for work in works])
        new_before = sum(work.tags.new for work in works)
        tags: list[TagRow] = []
        for part in batch.parts:
            tags += part.work.tags.rows(self._hold.registry, part.work.row, part.unsettled, rows)
        upsert(tags)
        self._hold.count("tags_new", sum(work.tags.new for work in works) - new_before)

    def _record(self) -> None:
        """Write the manifests that were read, of whatever batch they are."""
        if self._found:
            record(self._found, {digest: self._rows[digest] for digest in self._found})

    def _forget_found(self) -> None:
        for digest in self._found:
            del self._rows[digest]
        self._found.clear()
        self._contents.give_back(self._found_weight)
        self._found_weight = 0

    def _finish(self, work: Work) -> None:
        """End a repository's work once nothing of it waits; where nothing changed, nothing is written."""
        if not work.is_listed or work.waiting:
            return
        if work.gone() or work.tags.needs_latest() or work.has_new_problem or work.hint:
            self._finished.append(work)
            if len(self._finished) >= _FINISHED_TOGETHER:
                self._finish_all()
        else:
            self._done(work)

    def _finish_all(self) -> None:
        works, self._finished = self._finished, []
        gone = {work: work.gone() for work in works}
        self._hold.write(lambda: _write_ends(gone))
        self._hold.count("tags_missing", sum(map(len, gone.values())))
        for work in works:
            self._done(work)


def create_rows(repositories: Iterable[Repository]) -> None:
    """Save the rows of repositories that were not known."""
    fresh = [row for row in repositories if row.pk is None]
    if fresh:
        Repository.objects.bulk_create(fresh)


def _write_ends(gone: Mapping[Work, list[int]]) -> None:
    """Mark what is gone and the newest pushes, keep the problems, take away the hints that were followed."""
    if missing := [pk for pks in gone.values() for pk in pks]:
        mark_missing(missing)
    if latest := [work.row.pk for work, pks in gone.items() if pks or work.tags.needs_latest()]:
        set_latest(latest)
    for work in gone:
        if work.has_new_problem:
            Repository.objects.filter(pk=work.row.pk).update(**work.problem)
        # What could not be listed waits for the next data update.
        if work.hint is not None and work.error is None:
            hints = RepositoryHint.objects.filter(pk=work.hint.pk)
            # A younger one was given while this ran.
            hints.filter(received_at__lte=work.hint.received_at).delete()
