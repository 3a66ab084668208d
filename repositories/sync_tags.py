"""Writes what a data update found in a repository: tags that are new, moved, back or gone."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Now

from images.models import ArtifactKind, Manifest
from repositories.models import Registry, Repository, Tag
from repositories.registries.protocol import ArtifactItem, TagItem
from repositories.sync_contents import Contents, Write
from tcss.text import clean_text

_BATCH = 500
_IMAGES = (ArtifactKind.IMAGE, ArtifactKind.INDEX)
_UPDATED = [
    "manifest",
    "manifest_digest",
    "image",
    "pushed_at",
    "seen_generation",
    "missing_since",
    "absent_at",
    "removed_at",
]


@dataclass(frozen=True, slots=True)
class _Known:
    """A tag as the last data update left it."""

    pk: int
    digest: str
    pushed_at: datetime
    image_id: int | None
    missing_since: datetime | None
    is_latest: bool
    kind: str

    def is_settled(self, digest: str, pushed_at: datetime) -> bool:
        """Whether nothing is to be done about it: it is where it was, and its image is known."""
        unmoved = (self.digest, self.pushed_at, self.missing_since) == (digest, pushed_at, None)
        return unmoved and (self.image_id is not None or self.kind not in _IMAGES)


class RepositoryTags:
    """The tags of one repository during one data update; what is as it was costs one query and no write."""

    def __init__(self, registry: Registry, repository: Repository, generation: int, write: Write) -> None:
        self._registry = registry
        self._repository = repository
        self._generation = generation
        self._write = write
        columns = (
            "name",
            "pk",
            "manifest_digest",
            "pushed_at",
            "image_id",
            "missing_since",
            "is_latest",
            "manifest__kind",
        )
        rows = Tag.objects.filter(repository=repository).values_list(*columns)
        self._known = {name: _Known(*values) for name, *values in rows}
        # A tag that moves while it is listed shows up twice; the later push is where it is now.
        self._seen: dict[str, datetime] = {}
        self._changed = False
        self.new = 0
        self.missing = 0

    @property
    def seen(self) -> int:
        """Tags found so far."""
        return len(self._seen)

    def unsettled(self, artifacts: Iterable[ArtifactItem]) -> list[tuple[ArtifactItem, list[TagItem]]]:
        """The artifacts about which something is to be done, each with the tags concerned."""
        found = []
        for artifact in artifacts:
            tags = []
            for tag in artifact.tags or [TagItem(artifact.digest, artifact.pushed_at)]:
                if tag.name in self._seen and self._seen[tag.name] >= tag.pushed_at:
                    continue
                self._seen[tag.name] = tag.pushed_at
                known = self._known.get(tag.name)
                if known is None or not known.is_settled(artifact.digest, tag.pushed_at):
                    tags.append(tag)
            if tags:
                found.append((artifact, tags))
        return found

    def update(self, unsettled: Iterable[tuple[ArtifactItem, list[TagItem]]], contents: Contents) -> None:
        """Bring these tags up to date."""
        changed: dict[str, Tag] = {}
        for artifact, tags in unsettled:
            image_id = contents.images.get(artifact.digest)
            for tag in tags:
                known = self._known.get(tag.name)
                if known is None:
                    self.new += tag.name not in changed
                elif (known.digest, known.pushed_at, known.image_id, known.missing_since) == (
                    artifact.digest,
                    tag.pushed_at,
                    image_id,
                    None,
                ):
                    continue
                changed[tag.name] = self._row(tag, contents.rows[artifact.digest], image_id)
        if changed:
            self._changed = True
            self._write(lambda: self._upsert(list(changed.values())))

    def _row(self, tag: TagItem, manifest: Manifest, image_id: int | None) -> Tag:
        return Tag(
            registry=self._registry,
            repository=self._repository,
            repository_name=self._repository.name,
            name=tag.name,
            manifest=manifest,
            manifest_digest=manifest.digest,
            image_id=image_id,
            pushed_at=tag.pushed_at,
            seen_generation=self._generation,
            missing_since=None,
        )

    def _upsert(self, tags: Sequence[Tag]) -> None:
        Tag.objects.bulk_create(
            tags,
            batch_size=_BATCH,
            update_conflicts=True,
            unique_fields=["repository", "name"],
            update_fields=_UPDATED,
        )

    def finish(self, *, complete: bool) -> None:
        """After the last artifact: mark what a complete listing did not show, and the newest push."""
        if complete:
            gone = [
                known.pk
                for name, known in self._known.items()
                if name not in self._seen and known.missing_since is None
            ]
            if gone:
                self._changed = True
                self._write(lambda: mark_missing(gone))
                self.missing = len(gone)
        if self._changed or not self._latest_is_known():
            self._write(self._set_latest)

    def _latest_is_known(self) -> bool:
        """Whether the newest push was marked before; a data update may have ended before it came to that."""
        present = [
            known for known in self._known.values() if known.missing_since is None and known.kind in _IMAGES
        ]
        newest = max(present, key=lambda known: (known.pushed_at, known.pk), default=None)
        latest = [known.pk for known in self._known.values() if known.is_latest]
        return latest == ([newest.pk] if newest else [])

    def _set_latest(self) -> None:
        tags = Tag.objects.filter(repository=self._repository)
        present = tags.filter(missing_since=None, manifest__kind__in=_IMAGES)
        newest = list(present.order_by("-pushed_at", "-pk").values_list("pk", flat=True)[:1])
        tags.filter(is_latest=True).exclude(pk__in=newest).update(is_latest=False)
        tags.filter(pk__in=newest, is_latest=False).update(is_latest=True)


def mark_missing(pks: Collection[int]) -> None:
    """Note since when tags are not in the data updates; nothing is deleted."""
    Tag.objects.filter(pk__in=pks, missing_since=None).update(missing_since=Now(), is_latest=False)


def note_repository_error(repository: Repository, code: str, reason: str, write: Write) -> None:
    """Keep why a repository could not be listed, or that it could."""
    fields = {"error_code": clean_text(code, 32), "error_reason": clean_text(reason, 500)}
    if any(getattr(repository, name) != value for name, value in fields.items()):
        write(lambda: Repository.objects.filter(pk=repository.pk).update(**fields))
