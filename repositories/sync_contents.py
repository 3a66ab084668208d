"""Reads the manifests a data update has not seen before, each once in its life, and records them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q

from images.models import ArtifactKind, Manifest, Platform
from images.services import ReadManifest, record_manifests
from repositories.registries.failures import AccessRefusedError, RegistryError
from repositories.registries.protocol import ArtifactItem, Kind, ManifestBody, PlatformItem, PullClient
from tcss.environment import Platform as PlatformSetting
from tcss.text import clean_text

CONFIG_BYTES = 8 * 2**20
READABLE = frozenset({Kind.IMAGE, Kind.INDEX})
# As PlatformItem.is_attestation; what it names may be an image all the same, with a tag of its own.
_ATTESTATION = Q(os="unknown", architecture="unknown")
# What a body takes beside its bytes, roughly.
_OVERHEAD = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest that was read, with the config of an image."""

    body: ManifestBody
    config: bytes = b""

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.body.digest

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly."""
        return len(self.body.raw) + len(self.config) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Unread:
    """A manifest that could not be read, which is a problem of that manifest alone."""

    digest: str
    error: RegistryError
    weight: int = _OVERHEAD


class ManifestRow(NamedTuple):
    """What is known of a manifest; for an index, the image is that of the platform that stands for it."""

    pk: int
    kind: str
    is_read: bool
    image_id: int | None


def choose_platform(platforms: Sequence[PlatformItem]) -> PlatformItem | None:
    """The platform of an index that stands for it: the one set, else one of its system, else the first."""
    real = [platform for platform in platforms if not platform.is_attestation]
    return min(real, key=lambda one: _rank(one.os, one.architecture, one.variant), default=None)


def _rank(os: str, architecture: str, variant: str) -> tuple[bool, bool, bool]:
    wanted: PlatformSetting = settings.PLATFORM
    other_variant = bool(wanted.variant) and variant != wanted.variant
    return ((os, architecture) != (wanted.os, wanted.architecture), os != wanted.os, other_variant)


def read_contents(
    client: PullClient,
    repository: str,
    digests: Iterable[str],
    refusal: Callable[[str], RegistryError | None],
) -> Iterator[Found | Unread]:
    """Read manifests and configs; called in a thread, and knows no database.

    ``refusal`` tells why a repository is not to be asked any more: an account without the right to pull is
    not tried on every manifest.
    """
    refused: RegistryError | None = None
    for digest in digests:
        refused = refused or refusal(repository)
        if refused is not None:
            yield Unread(digest, refused)
            continue
        try:
            body = client.get_manifest(repository, digest)
            config = b""
            if body.kind == Kind.IMAGE:
                config = client.read_blob(repository, body.config_digest, limit=CONFIG_BYTES)
            yield Found(body, config)
        except RegistryError as error:
            if is_refusal(error):
                refused = error
            yield Unread(digest, error)


def is_refusal(error: RegistryError) -> bool:
    """Whether the account may not pull from the repository at all."""
    return isinstance(error, AccessRefusedError) and error.code == "REG_AUTH"


def known_manifests(digests: Collection[str]) -> dict[str, ManifestRow]:
    """What is known of these manifests, by digest."""
    rows = Manifest.objects.filter(digest__in=digests)
    columns = ("digest", "pk", "kind", "is_read", "image_id")
    return {digest: ManifestRow(*values) for digest, *values in rows.values_list(*columns)}


def with_index_images(rows: dict[str, ManifestRow]) -> dict[str, ManifestRow]:
    """The same rows, indexes with the image of the platform that stands for them."""
    indexes = {row.pk: digest for digest, row in rows.items() if row.kind == ArtifactKind.INDEX}
    if not indexes:
        return rows
    images = _index_images(indexes, deeper=True)
    return {digest: row._replace(image_id=images.get(row.pk, row.image_id)) for digest, row in rows.items()}


def _index_images(indexes: Collection[int], *, deeper: bool) -> dict[int, int]:
    """The image that stands for each of these indexes; an index may hold another one, no deeper."""
    rows = list(
        Platform.objects.filter(index__in=indexes)
        .exclude(_ATTESTATION)
        .order_by("pk")
        .values_list(
            "index_id",
            "os",
            "architecture",
            "variant",
            "manifest_id",
            "manifest__kind",
            "manifest__image_id",
        )
    )
    held = {pk for *_, pk, kind, _ in rows if kind == ArtifactKind.INDEX} if deeper else set()
    below = _index_images(held, deeper=False) if held else {}
    chosen: dict[int, tuple[tuple[bool, bool, bool], int]] = {}
    for index, os, architecture, variant, pk, _, own_image in rows:
        rank, image = _rank(os, architecture, variant), own_image or below.get(pk)
        if image is not None and (index not in chosen or rank < chosen[index][0]):
            chosen[index] = (rank, image)
    return {index: image for index, (_, image) in chosen.items()}


def unread_platforms(rows: Mapping[str, ManifestRow]) -> dict[str, str]:
    """For indexes that were read: the platform that should stand for each, where that was not read itself."""
    indexes = {row.pk: digest for digest, row in rows.items() if row.kind == ArtifactKind.INDEX}
    if not indexes:
        return {}
    platforms = Platform.objects.filter(index__in=indexes).exclude(_ATTESTATION)
    # What was not read may be called something else by another listing, and be an image.
    platforms = platforms.exclude(manifest__kind=ArtifactKind.OTHER, manifest__is_read=True)
    chosen: dict[int, tuple[tuple[bool, bool, bool], str, bool]] = {}
    for index, os, architecture, variant, digest, is_read in platforms.order_by("pk").values_list(
        "index_id", "os", "architecture", "variant", "manifest__digest", "manifest__is_read"
    ):
        rank = _rank(os, architecture, variant)
        if index not in chosen or rank < chosen[index][0]:
            chosen[index] = (rank, digest, is_read)
    return {indexes[index]: digest for index, (_, digest, is_read) in chosen.items() if not is_read}


def note_problems(problems: Mapping[str, RegistryError]) -> list[str]:
    """Keep why manifests could not be read; the digests of those that have a row to keep it in."""
    known = list(Manifest.objects.filter(digest__in=problems).values_list("digest", flat=True))
    for digest in sorted(known):
        error = problems[digest]
        fields = {
            "error_code": clean_text(error.code, 32),
            "error_reason": clean_text(error.reason, 500),
            "error_remedy": clean_text(error.remedy, 500),
        }
        Manifest.objects.filter(digest=digest, is_read=False).exclude(**fields).update(**fields)
    return known


def create_missing(artifacts: Mapping[str, ArtifactItem]) -> None:
    """Rows for manifests that were listed and not read, because they are no images or cannot be."""
    Manifest.objects.bulk_create(
        [listed_row(artifacts[digest]) for digest in sorted(artifacts)], ignore_conflicts=True
    )


def correct_unread(artifacts: Mapping[str, ArtifactItem], rows: dict[str, ManifestRow]) -> None:
    """Call images what was first listed as something else and could not be read; never the other way."""
    for digest, artifact in sorted(artifacts.items()):
        row = rows[digest]
        if artifact.kind in READABLE and row.kind not in READABLE and not row.is_read:
            kind = ArtifactKind(artifact.kind)
            Manifest.objects.filter(pk=row.pk, is_read=False).update(kind=kind)
            rows[digest] = row._replace(kind=kind)


def listed_row(artifact: ArtifactItem) -> Manifest:
    """An unsaved row for a manifest as its listing shows it."""
    return Manifest(
        digest=artifact.digest,
        media_type=clean_text(artifact.manifest_media_type, 255),
        kind=ArtifactKind(artifact.kind),
        size=artifact.size,
    )


def record(found: Mapping[str, Found], rows: Mapping[str, Manifest]) -> None:
    """Record what was read into the rows of those digests, saved or not."""
    children = {
        platform.digest: Manifest(
            digest=platform.digest,
            media_type=clean_text(platform.media_type, 255),
            kind=ArtifactKind.OTHER if platform.is_attestation else ArtifactKind.IMAGE,
            size=platform.size,
        )
        for one in found.values()
        for platform in one.body.platforms
    }
    if children:
        Manifest.objects.bulk_create([children[key] for key in sorted(children)], ignore_conflicts=True)
    record_manifests(
        [ReadManifest(rows[digest], one.body, one.config) for digest, one in sorted(found.items())]
    )
