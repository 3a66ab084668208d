"""Writes what a data update found in a repository: tags that are new, moved, back or gone."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Now

from images.models import ArtifactKind
from repositories.models import Registry, Repository, Tag
from repositories.registries.protocol import ArtifactItem
from repositories.sync_contents import Contents, Write
from tcss.text import clean_text

_BATCH = 500
_UPDATED = [
    "manifest",
    "manifest_digest",
    "image",
    "pushed_at",
    "seen_generation",
    "missing_since",
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a tag should be."""

    name: str
    digest: str
    pushed_at: datetime


class RepositoryTags:
    """The tags of one repository during one data update."""

    def __init__(self, registry: Registry, repository: Repository, generation: int, write: Write) -> None:
        self._registry = registry
        self._repository = repository
        self._generation = generation
        self._write = write
        # A tag that moves while it is listed shows up twice; the later push is where it is now.
        self._seen: dict[str, datetime] = {}
        self.new = 0
        self.missing = 0

    @property
    def seen(self) -> int:
        """Tags found so far."""
        return len(self._seen)

    def update(self, artifacts: Sequence[ArtifactItem], contents: Contents) -> None:
        """Bring the tags of these artifacts up to date; unchanged ones cost no write."""
        wanted = self._wanted(artifacts)
        existing = {tag.name: tag for tag in Tag.objects.filter(repository=self._repository, name__in=wanted)}
        changed = []
        for want in wanted.values():
            manifest = contents.rows[want.digest]
            image_id = contents.images.get(want.digest)
            tag = existing.get(want.name)
            if tag is None:
                self.new += 1
            elif (
                (tag.manifest_id, tag.pushed_at, tag.missing_since) == (manifest.pk, want.pushed_at, None)
            ) and tag.image_id == image_id:
                continue
            changed.append(
                Tag(
                    registry=self._registry,
                    repository=self._repository,
                    repository_name=self._repository.name,
                    name=want.name,
                    manifest=manifest,
                    manifest_digest=want.digest,
                    image_id=image_id,
                    pushed_at=want.pushed_at,
                    seen_generation=self._generation,
                    missing_since=None,
                )
            )
        if changed:
            self._write(lambda: self._upsert(changed))

    def _wanted(self, artifacts: Iterable[ArtifactItem]) -> dict[str, _Wanted]:
        wanted = {}
        for artifact in artifacts:
            names = [(tag.name, tag.pushed_at) for tag in artifact.tags]
            for name, pushed_at in names or [(artifact.digest, artifact.pushed_at)]:
                if name not in self._seen or self._seen[name] < pushed_at:
                    self._seen[name] = pushed_at
                    wanted[name] = _Wanted(name, artifact.digest, pushed_at)
        return wanted

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
            names = Tag.objects.filter(repository=self._repository, missing_since=None)
            gone = [pk for pk, name in names.values_list("pk", "name") if name not in self._seen]
            if gone:
                self._write(lambda: mark_missing(gone))
                self.missing = len(gone)
        newest = (
            Tag.objects.filter(
                repository=self._repository,
                missing_since=None,
                manifest__kind__in=[ArtifactKind.IMAGE, ArtifactKind.INDEX],
            )
            .order_by("-pushed_at", "-pk")
            .values_list("pk", flat=True)
            .first()
        )
        latest = Tag.objects.filter(repository=self._repository, is_latest=True)
        if list(latest.values_list("pk", flat=True)) != ([newest] if newest else []):
            self._write(lambda: self._set_latest([newest] if newest else []))

    def _set_latest(self, newest: list[int]) -> None:
        tags = Tag.objects.filter(repository=self._repository)
        tags.filter(is_latest=True).exclude(pk__in=newest).update(is_latest=False)
        tags.filter(pk__in=newest).update(is_latest=True)


def mark_missing(pks: Collection[int]) -> None:
    """Note since when tags are not in the data updates; nothing is deleted."""
    Tag.objects.filter(pk__in=pks, missing_since=None).update(missing_since=Now(), is_latest=False)


def note_repository_error(repository: Repository, code: str, reason: str, write: Write) -> None:
    """Keep why a repository could not be listed, or that it could."""
    fields = {"error_code": clean_text(code, 32), "error_reason": clean_text(reason, 500)}
    if any(getattr(repository, name) != value for name, value in fields.items()):
        write(lambda: Repository.objects.filter(pk=repository.pk).update(**fields))
