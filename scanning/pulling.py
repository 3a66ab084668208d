"""Brings an image's config and raw layers into an attempt's folder, from the first source that has them.

Before bytes of a layer are fetched, the registry's hourly limit is asked; what the store has costs nothing.
A layer is taken for what its diff ID says only with a blob that was once seen to unpack to it: an image's
config may claim any diff ID for any blob.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction

from images.models import Image, Layer, LayerBlob
from repositories.connections import connect, pull_client
from repositories.models import Registry
from repositories.pull_limit import database_now, grant
from repositories.registries.failures import (
    AccessRefusedError,
    LoginRefusedError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.protocol import PullClient
from repositories.services import note_health
from scanning.contents import WrongContentError
from scanning.failpoints import failpoint
from scanning.models import Scan, ScanStep
from scanning.pulse import Heartbeat
from scanning.sources import Source, sources_of
from scanning.store import Blob, BlobStore
from tcss.lifecycle import Failure, State

log = logging.getLogger(__name__)

CONFIG_LIMIT_BYTES = 8 * 2**20
_PULL_BEGINS, _PULL_ENDS = 5, 70
# A registry that asks for fewer requests without saying when is left alone for as long.
_SHORTEST_PAUSE = timedelta(minutes=1)


class MustWaitError(Exception):
    """Nothing is wrong: the registry gives the content later, not before `until`.

    `failure` is what the registry said, and None where our own limit for it is why.
    """

    def __init__(self, registry: Registry, until: datetime, failure: Failure | None = None) -> None:
        super().__init__(f"registry {registry.pk} may be asked again at {until}")
        self.registry = registry
        self.until = until
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image at hand: its config, and the raw layers (diff ID, tar) that were fetched, base first.

    `diff_ids` are those of all its layers but the `foreign` ones, which are kept outside the registry.
    """

    config: bytes
    layers: tuple[tuple[str, Path], ...]
    foreign: int
    diff_ids: tuple[str, ...]

    @property
    def layer_sizes(self) -> dict[str, int]:
        """Diff ID -> uncompressed bytes."""
        return {diff_id: path.stat().st_size for diff_id, path in self.layers}


def pull(
    image: Image,
    target: Path,
    store: BlobStore,
    heartbeat: Heartbeat,
    known: Collection[str] = frozenset(),
) -> Pulled:
    """The image's content, verified; every source is tried before one's error counts.

    Layers whose diff IDs are `known` are not fetched, if their blobs were verified before. Raises
    MustWaitError when a source that may work has to be left alone for now, RegistryError, ContentError and
    whatever the heartbeat raises.
    """
    target.mkdir()
    errors: list[RegistryError | WrongContentError] = []
    waits: list[MustWaitError] = []
    for source in sources_of(image):
        if source.registry.pk in {wait.registry.pk for wait in waits}:
            continue
        if source.registry.is_left_alone:
            errors.append(_left_alone())
            continue
        try:
            return _pull_from(source, image, target, store, heartbeat, known)
        except MustWaitError as wait:
            waits.append(wait)
        except (RegistryError, WrongContentError) as error:
            heartbeat.check()
            log.warning(
                "An image could not be pulled from one of its sources",
                extra={"image": image.pk, "registry": source.registry.pk, "cause": str(error)},
            )
            if isinstance(error, RegistryError) and error.code == "REG_AUTH":
                _look_into_login(source.registry, error)
            if isinstance(error, RegistryError) and error.code == "REG_RATE":
                waits.append(_as_asked(source.registry, error))
            errors.append(error)
    if waits:
        raise min(waits, key=lambda wait: wait.until)
    # What may pass is worth another attempt, whatever the other sources said.
    passing = [error for error in errors if isinstance(error, TryLaterError)]
    raise passing[0] if passing else errors[0]


def _look_into_login(registry: Registry, refusal: RegistryError) -> None:
    """Count it where the login itself is refused; a pull's refusal may only mean this one repository."""
    if isinstance(refusal, LoginRefusedError):
        # Listing may go by another account than pulling: that it works would prove nothing.
        note_health(registry, refusal)
        return
    try:
        next(connect(registry).list_projects(), None)
    except RegistryError as error:
        if error.code == "REG_AUTH":
            note_health(registry, error)


def _left_alone() -> AccessRefusedError:
    """Why a registry is not even asked: many scans with a refused password would lock the account."""
    return AccessRefusedError(
        "REG_AUTH",
        "The registry has refused this username and password several times, so it is not asked any more.",
        "Enter username and password of the image repository again, then scan again.",
    )


@dataclass
class _Permission:
    """Leave to fetch an image's content from a registry, asked for once and only when bytes are needed."""

    registry: Registry
    image: Image
    is_given: bool = field(default=False, init=False)

    def demand(self) -> None:
        """Raises MustWaitError when the registry's hourly limit is reached."""
        if self.is_given:
            return
        # As one, so that the others in line never see it at two places.
        with transaction.atomic():
            until = grant(self.registry.pk, self.image.pk)
            if until is not None:
                raise MustWaitError(self.registry, until)
            _leave_the_line(self.image)
        self.is_given = True


def _leave_the_line(image: Image) -> None:
    """The image's scan waits no more, for whatever registry it did."""
    Scan.objects.filter(image=image, state=State.RUNNING).exclude(waits_for=None).update(waits_for=None)


def _as_asked(registry: Registry, error: RegistryError) -> MustWaitError:
    """The wait a registry asked for, by the database's clock."""
    pause = timedelta(seconds=error.retry_after if isinstance(error, TryLaterError) else 0)
    failure = Failure(error.code, error.reason, error.remedy)
    return MustWaitError(registry, database_now() + max(pause, _SHORTEST_PAUSE), failure)


class _VerifiedBlobs:
    """The ledger of all hosts: the table of blobs that were unpacked and found to be their layers."""

    def holds(self, blob: Blob) -> bool:
        return bool(self.among([blob]))

    def among(self, blobs: Collection[Blob]) -> set[Blob]:
        """Those of the blobs that it holds."""
        digests = {blob.digest for blob in blobs}
        rows = LayerBlob.objects.filter(blob_digest__in=digests)
        pairs = set(rows.values_list("blob_digest", "layer__diff_id"))
        return {blob for blob in blobs if (blob.digest, blob.diff_id) in pairs}

    def note(self, blob: Blob) -> None:
        layers = Layer.objects.filter(diff_id=blob.diff_id)
        rows = [LayerBlob(layer=layer, blob_digest=blob.digest) for layer in layers]
        LayerBlob.objects.bulk_create(rows, ignore_conflicts=True)


def _pull_from(
    source: Source,
    image: Image,
    target: Path,
    store: BlobStore,
    heartbeat: Heartbeat,
    known: Collection[str],
) -> Pulled:
    permission = _Permission(source.registry, image)
    ledger = _VerifiedBlobs()
    verified = ledger.among(source.blobs)
    wanted = [blob for blob in source.blobs if blob.diff_id not in known or blob not in verified]
    if all(blob in verified and store.has(blob.diff_id) for blob in wanted):
        _leave_the_line(image)
    else:
        permission.demand()
    client = pull_client(source.registry, alive=heartbeat.check)
    config = client.read_blob(source.repository, image.image_id, limit=CONFIG_LIMIT_BYTES)
    algorithm, _, expected = image.image_id.partition(":")
    if hashlib.new(algorithm, config).hexdigest() != expected:
        raise WrongContentError("The image's configuration is not what its digest names.")
    failpoint("configured")
    whole = sum(blob.size for blob in wanted) or 1
    done = 0

    def received(count: int) -> None:
        nonlocal done
        done += count
        part = min(1.0, done / whole)
        heartbeat.advance(ScanStep.PULL, int(_PULL_BEGINS + part * (_PULL_ENDS - _PULL_BEGINS)))

    layers = []
    heartbeat.advance(ScanStep.PULL, _PULL_BEGINS)
    for number, blob in enumerate(wanted):
        before = done
        path = target / f"{number}.tar"
        store.lend(
            blob,
            path,
            fetch=_fetch(client, source.repository, blob, permission),
            pulse=heartbeat,
            received=received,
            ledger=ledger,
        )
        layers.append((blob.diff_id, path))
        # What the store had already, or another scan pulled meanwhile, is progress too.
        received(max(0, before + blob.size - done))
    return Pulled(
        config=config,
        layers=tuple(layers),
        foreign=source.foreign,
        diff_ids=tuple(blob.diff_id for blob in source.blobs),
    )


def _fetch(
    client: PullClient, repository: str, blob: Blob, permission: _Permission
) -> Callable[[int], AbstractContextManager[Iterator[bytes]]]:
    def fetch(offset: int) -> AbstractContextManager[Iterator[bytes]]:
        # What the store had a moment ago may have been evicted.
        permission.demand()
        return client.get_blob(repository, blob.digest, blob.size, offset=offset)

    return fetch
