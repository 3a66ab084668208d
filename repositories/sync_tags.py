"""What a data update finds in a repository beside what the last one left: tags new, moved, back or gone."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from images.models import ArtifactKind, Manifest, Platform
from repositories.models import Registry, Repository, Tag
from repositories.registries.protocol import ArtifactItem, TagItem
from repositories.sync_contents import READABLE, ManifestRow
from tcss import bulk

_IMAGES = (ArtifactKind.IMAGE, ArtifactKind.INDEX)
_COLUMNS = (
    "registry",
    "repository",
    "repository_name",
    "name",
    "seen_generation",
    "manifest",
    "manifest_digest",
    "image",
    "pushed_at",
)
_ABSENCE = ("missing_since", "absent_at", "removed_at")

TagRow = tuple[object, ...]
"""The values of ``_COLUMNS``."""


class KnownTag(NamedTuple):
    """A tag as the last data update left it."""

    name: str
    pk: int
    digest: str
    pushed_at: datetime
    image_id: int | None
    missing_since: datetime | None
    is_latest: bool
    kind: str
    # Of an index: whether another platform should stand for it than does.
    is_behind: bool = False

    def is_settled(self, artifact: ArtifactItem, pushed_at: datetime) -> bool:
        """Whether nothing is to be done about it: it is where it was, and its image is known."""
        unmoved = (
            self.digest == artifact.digest and self.pushed_at == pushed_at and self.missing_since is None
        )
        if self.is_behind or not unmoved:
            return False
        # Another listing may have called an image something else.
        return self.image_id is not None or (self.kind not in _IMAGES and artifact.kind not in READABLE)


def kinds_beside_images(tags: QuerySet[Tag]) -> dict[int, str]:
    """The kinds of the manifests of these tags by their keys, without the many that are images."""
    others = Manifest.objects.exclude(kind=ArtifactKind.IMAGE)
    return dict(others.filter(Exists(tags.filter(manifest=OuterRef("pk")))).values_list("pk", "kind"))


def known_tags(repositories: Collection[int], kinds: Mapping[int, str]) -> Mapping[int, dict[str, KnownTag]]:
    """The tags of some repositories by the repositories' keys and their own names.

    ``kinds`` are those of the manifests that are no images. To ask for them here would read the whole table
    of manifests once for every batch, or an index once for every tag.
    """
    rows = Tag.objects.filter(repository__in=repositories).values_list(
        "name", "pk", "manifest_digest", "pushed_at", "image_id", "missing_since", "is_latest",
        "repository_id", "manifest_id",
    )  # fmt: skip
    found: defaultdict[int, dict[str, KnownTag]] = defaultdict(dict)
    with_indexes: set[int] = set()
    image = str(ArtifactKind.IMAGE)
    for row in rows:
        repository, manifest = row[7:]
        kind = kinds.get(manifest, image)
        found[repository][row[0]] = KnownTag(*row[:7], kind)
        if kind == ArtifactKind.INDEX:
            with_indexes.add(repository)
    behind = _behind(with_indexes) if with_indexes else set()
    for repository in with_indexes:
        tags = found[repository]
        tags |= {name: tag._replace(is_behind=True) for name, tag in tags.items() if tag.pk in behind}
    return found


def _behind(repositories: Collection[int]) -> set[int]:
    """The keys of tags of indexes that have the platform set, and are shown with another one.

    They were listed under another setting, or the platform could not be read yet.
    """
    wanted = settings.PLATFORM
    platforms = Platform.objects.filter(
        index=OuterRef("manifest"), os=wanted.os, architecture=wanted.architecture
    )
    if wanted.variant:
        platforms = platforms.filter(variant=wanted.variant)
    tags = Tag.objects.filter(repository__in=repositories, manifest__kind=ArtifactKind.INDEX)
    tags = tags.filter(Exists(platforms), ~Exists(platforms.filter(manifest__image=OuterRef("image"))))
    return set(tags.values_list("pk", flat=True))


class RepositoryTags:
    """The tags of one repository during one data update; what is as it was costs no query and no write."""

    def __init__(self, known: dict[str, KnownTag]) -> None:
        self._known = known
        # A tag that moves while it is listed shows up twice; the later push is where it is now.
        self._seen: dict[str, datetime] = {}
        self._changed: set[str] = set()
        self.new = 0

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
                before = self._seen.get(tag.name)
                if before is not None and before >= tag.pushed_at:
                    continue
                self._seen[tag.name] = tag.pushed_at
                known = self._known.get(tag.name)
                if known is None or not known.is_settled(artifact, tag.pushed_at):
                    tags.append(tag)
            if tags:
                found.append((artifact, tags))
        return found

    def rows(
        self,
        registry: Registry,
        repository: Repository,
        unsettled: Iterable[tuple[ArtifactItem, list[TagItem]]],
        manifests: Mapping[str, ManifestRow],
    ) -> list[TagRow]:
        """The rows of these tags as they are now; those that were so already are left out."""
        changed: dict[str, TagRow] = {}
        for artifact, tags in unsettled:
            manifest = manifests[artifact.digest]
            for tag in tags:
                # It may have moved on since this page of the list was made.
                if self._seen[tag.name] != tag.pushed_at:
                    continue
                known = self._known.get(tag.name)
                state = (artifact.digest, tag.pushed_at, manifest.image_id, None)
                if known is not None and known[2:6] == state:
                    continue
                self.new += known is None and tag.name not in self._changed
                self._changed.add(tag.name)
                changed[tag.name] = (
                    registry.pk,
                    repository.pk,
                    repository.name,
                    tag.name,
                    registry.generation,
                    manifest.pk,
                    artifact.digest,
                    manifest.image_id,
                    tag.pushed_at,
                )
        return list(changed.values())

    def gone(self) -> list[int]:
        """The keys of those that a complete listing did not show, and that were not known to be missing."""
        return [
            known.pk
            for name, known in self._known.items()
            if name not in self._seen and known.missing_since is None
        ]

    def needs_latest(self) -> bool:
        """Whether another may be the newest push; a data update may have ended before it came to that."""
        if self._changed:
            return True
        present = [
            known for known in self._known.values() if known.missing_since is None and known.kind in _IMAGES
        ]
        newest = max(present, key=lambda known: (known.pushed_at, known.pk), default=None)
        latest = [known.pk for known in self._known.values() if known.is_latest]
        return latest != ([newest.pk] if newest else [])


def upsert(rows: Iterable[TagRow]) -> None:
    """Write rows of tags, new or not; one that was missing or removed is there again."""
    bulk.insert(Tag, _COLUMNS, rows, key=["repository", "name"], update=[*_COLUMNS[4:], *_ABSENCE])


def mark_missing(pks: Collection[int]) -> None:
    """Note since when tags are not in the data updates; nothing is deleted."""
    Tag.objects.filter(pk__in=pks, missing_since=None).update(missing_since=Now(), is_latest=False)


def set_latest(repositories: Collection[int]) -> None:
    """Mark the newest push of each of these repositories, and no other."""
    tags = Tag.objects.filter(repository__in=repositories)
    present = tags.filter(missing_since=None, manifest__kind__in=_IMAGES)
    ordered = present.order_by("repository", "-pushed_at", "-pk").distinct("repository")
    newest = list(ordered.values_list("pk", flat=True))
    tags.filter(is_latest=True).exclude(pk__in=newest).update(is_latest=False)
    tags.filter(pk__in=newest, is_latest=False).update(is_latest=True)
