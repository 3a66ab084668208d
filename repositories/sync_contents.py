"""Reads the manifests a data update has not seen before, each once in its life, and records them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from images.models import ArtifactKind, Manifest, Platform
from images.services import ReadManifest, record_manifests
from repositories.registries.failures import AccessRefusedError, RegistryError
from repositories.registries.protocol import ArtifactItem, Kind, ManifestBody, PlatformItem, PullClient
from tcss.text import clean_text

DEFAULT_PLATFORM = ("linux", "amd64")
CONFIG_BYTES = 8 * 2**20
# Bodies held before they are written: by number, and by bytes.
_BATCH = 50
_BATCH_BYTES = 16 * 2**20

# Runs a function in a short transaction that holds the data update.
Write = Callable[[Callable[[], object]], None]


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest that was read, with the config of an image."""

    body: ManifestBody
    config: bytes = b""


@dataclass(slots=True)
class Contents:
    """What the manifests of some artifacts turned out to be, by digest."""

    rows: dict[str, Manifest]
    images: dict[str, int] = field(default_factory=dict)
    problems: list[RegistryError] = field(default_factory=list)


def choose_platform(platforms: Sequence[PlatformItem]) -> PlatformItem | None:
    """The platform of an index that stands for it: linux/amd64, else another linux one, else the first."""
    real = [platform for platform in platforms if not platform.is_attestation]
    return min(real, key=lambda platform: _rank(platform.os, platform.architecture), default=None)


def _rank(os: str, architecture: str) -> tuple[bool, bool]:
    return ((os, architecture) != DEFAULT_PLATFORM, os != DEFAULT_PLATFORM[0])


def read_contents(
    client: PullClient, repository: str, artifacts: Sequence[ArtifactItem], write: Write
) -> Contents:
    """The rows of these artifacts' manifests and the images behind them; what is new is read and recorded.

    What cannot be read is a problem of that manifest alone; it is tried again by the next data update. An
    account without the right to pull is not tried on every manifest.
    """
    rows = _rows(artifact.digest for artifact in artifacts)
    contents = Contents(rows)
    fresh = [artifact for artifact in artifacts if artifact.digest not in rows]
    if fresh:
        write(partial(_create_rows, fresh))
        rows.update(_rows(artifact.digest for artifact in fresh))
    unread = [
        artifact
        for artifact in artifacts
        if artifact.kind in {Kind.IMAGE, Kind.INDEX} and not rows[artifact.digest].is_read
    ]
    for batch in _batches(_read(client, repository, unread, contents)):
        write(partial(_record, batch, rows))
    contents.images = _images(rows)
    return contents


def _rows(digests: Iterable[str]) -> dict[str, Manifest]:
    return {row.digest: row for row in Manifest.objects.filter(digest__in=set(digests))}


def _create_rows(artifacts: Sequence[ArtifactItem]) -> None:
    Manifest.objects.bulk_create(
        [
            Manifest(
                digest=artifact.digest,
                media_type=clean_text(artifact.manifest_media_type, 255),
                kind=ArtifactKind(artifact.kind),
                size=artifact.size,
            )
            for artifact in sorted(artifacts, key=lambda artifact: artifact.digest)
        ],
        ignore_conflicts=True,
    )


def _read(
    client: PullClient, repository: str, artifacts: Sequence[ArtifactItem], contents: Contents
) -> Iterator[_Found]:
    for artifact in artifacts:
        try:
            found = _read_one(client, repository, artifact.digest)
            if found.body.kind == Kind.INDEX:
                yield from _read_child(client, repository, found.body)
            yield found
        except AccessRefusedError as error:
            contents.problems.append(error)
            if error.code == "REG_AUTH":
                return
        except RegistryError as error:
            contents.problems.append(error)


def _read_one(client: PullClient, repository: str, digest: str) -> _Found:
    body = client.get_manifest(repository, digest)
    if body.kind != Kind.IMAGE:
        return _Found(body)
    return _Found(body, client.read_blob(repository, body.config_digest, limit=CONFIG_BYTES))


def _read_child(client: PullClient, repository: str, index: ManifestBody) -> Iterator[_Found]:
    chosen = choose_platform(index.platforms)
    if chosen and not Manifest.objects.filter(digest=chosen.digest, is_read=True).exists():
        yield _read_one(client, repository, chosen.digest)


def _batches(found: Iterator[_Found]) -> Iterator[list[_Found]]:
    batch: list[_Found] = []
    size = 0
    for one in found:
        batch.append(one)
        size += len(one.config) + len(one.body.raw)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record(batch: Sequence[_Found], rows: dict[str, Manifest]) -> None:
    """Record the bodies; ``rows`` get what their manifests turned out to be."""
    children = {
        platform.digest: Manifest(
            digest=platform.digest,
            media_type=clean_text(platform.media_type, 255),
            kind=ArtifactKind.OTHER if platform.is_attestation else ArtifactKind.IMAGE,
            size=platform.size,
        )
        for one in batch
        for platform in one.body.platforms
    }
    Manifest.objects.bulk_create([children[key] for key in sorted(children)], ignore_conflicts=True)
    fresh = _rows(one.body.digest for one in batch)
    record_manifests(
        [ReadManifest(fresh[digest], one.body, one.config) for digest, one in _by_digest(batch).items()]
    )
    rows.update({digest: row for digest, row in fresh.items() if digest in rows})


def _by_digest(batch: Sequence[_Found]) -> dict[str, _Found]:
    return {one.body.digest: one for one in batch}


def _images(rows: dict[str, Manifest]) -> dict[str, int]:
    """The image shown for each manifest: its own, or that of the chosen platform of an index."""
    images = {digest: row.image_id for digest, row in rows.items() if row.image_id is not None}
    indexes = {row.pk: digest for digest, row in rows.items() if row.kind == ArtifactKind.INDEX}
    if indexes:
        platforms = Platform.objects.filter(index__in=indexes).select_related("manifest").order_by("pk")
        for platform in sorted(platforms, key=lambda platform: _rank(platform.os, platform.architecture)):
            if platform.manifest.image_id is not None:
                images.setdefault(indexes[platform.index_id], platform.manifest.image_id)
    return images
