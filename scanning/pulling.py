"""Brings an image's config and raw layers into an attempt's folder, from the first source that has them."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from images.models import Image
from repositories.connections import pull_client
from repositories.registries.failures import RegistryError, TryLaterError
from repositories.registries.protocol import PullClient
from scanning.contents import WrongContentError
from scanning.failpoints import failpoint
from scanning.models import ScanStep
from scanning.pulse import Heartbeat
from scanning.sources import Source, sources_of
from scanning.store import Blob, BlobStore

log = logging.getLogger(__name__)

CONFIG_LIMIT_BYTES = 8 * 2**20
_PULL_BEGINS, _PULL_ENDS = 5, 70


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image at hand: its config, its raw layers (diff ID, tar) base first; `foreign` were not fetched."""

    config: bytes
    layers: tuple[tuple[str, Path], ...]
    foreign: int

    @property
    def layer_sizes(self) -> dict[str, int]:
        """Diff ID -> uncompressed bytes."""
        return {diff_id: path.stat().st_size for diff_id, path in self.layers}


def pull(image: Image, target: Path, store: BlobStore, heartbeat: Heartbeat) -> Pulled:
    """The image's content, verified; every source is tried before one's error counts.

    Raises RegistryError, ContentError and whatever the heartbeat raises.
    """
    target.mkdir()
    errors: list[RegistryError | WrongContentError] = []
    for source in sources_of(image):
        try:
            return _pull_from(source, image, target, store, heartbeat)
        except (RegistryError, WrongContentError) as error:
            heartbeat.check()
            log.warning(
                "An image could not be pulled from one of its sources",
                extra={"image": image.pk, "registry": source.registry.pk, "cause": str(error)},
            )
            errors.append(error)
    # What may pass is worth another attempt, whatever the other sources said.
    passing = [error for error in errors if isinstance(error, TryLaterError)]
    raise passing[0] if passing else errors[0]


def _pull_from(source: Source, image: Image, target: Path, store: BlobStore, heartbeat: Heartbeat) -> Pulled:
    client = pull_client(source.registry, alive=heartbeat.check)
    config = client.read_blob(source.repository, image.image_id, limit=CONFIG_LIMIT_BYTES)
    algorithm, _, expected = image.image_id.partition(":")
    if hashlib.new(algorithm, config).hexdigest() != expected:
        raise WrongContentError("The image's configuration is not what its digest names.")
    failpoint("configured")
    whole = sum(blob.size for blob in source.blobs) or 1
    done = 0

    def received(count: int) -> None:
        nonlocal done
        done += count
        part = min(1.0, done / whole)
        heartbeat.advance(ScanStep.PULL, int(_PULL_BEGINS + part * (_PULL_ENDS - _PULL_BEGINS)))

    layers = []
    heartbeat.advance(ScanStep.PULL, _PULL_BEGINS)
    for number, blob in enumerate(source.blobs):
        before = done
        path = target / f"{number}.tar"
        store.lend(
            blob, path, fetch=_fetch(client, source.repository, blob), pulse=heartbeat, received=received
        )
        layers.append((blob.diff_id, path))
        # What the store had already, or another scan pulled meanwhile, is progress too.
        received(max(0, before + blob.size - done))
    return Pulled(config=config, layers=tuple(layers), foreign=source.foreign)


def _fetch(
    client: PullClient, repository: str, blob: Blob
) -> Callable[[int], AbstractContextManager[Iterator[bytes]]]:
    def fetch(offset: int) -> AbstractContextManager[Iterator[bytes]]:
        return client.get_blob(repository, blob.digest, blob.size, offset=offset)

    return fetch
