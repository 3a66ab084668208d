"""What a registry adapter is: the values it answers with, its verbs, and the errors it raises.

Listings are iterators. One that ends by itself was complete; one that was not raises after the items it could
give, so whatever came before the error is good and whatever is absent proves nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from repositories.registries.failures import RegistryError


class Kind(StrEnum):
    """What a manifest describes; the words are those of images.models.ArtifactKind."""

    IMAGE = "image"
    INDEX = "index"
    CHART = "chart"
    SIGNATURE = "signature"
    SBOM = "sbom"
    WASM = "wasm"
    CNAB = "cnab"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProjectItem:
    """A namespace of repositories; ``number`` is the registry's own, 0 where nothing is asked by it."""

    name: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class RepositoryItem:
    """A named collection of artifacts; ``name`` is whole, with its namespace."""

    name: str
    namespace: str
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TagItem:
    """A movable name, and when it was last pushed."""

    name: str
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactItem:
    """One manifest of a repository as its listing shows it; ``size`` is bytes as the registry counts them."""

    digest: str
    media_type: str
    manifest_media_type: str
    kind: Kind
    size: int
    pushed_at: datetime
    tags: tuple[TagItem, ...] = ()
    os: str = ""
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class LayerItem:
    """One layer as a manifest names it: the compressed blob. ``urls`` is True where it lives elsewhere."""

    digest: str
    size: int
    media_type: str
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class PlatformItem:
    """One child of an index."""

    digest: str
    media_type: str
    size: int
    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""

    @property
    def is_attestation(self) -> bool:
        """Whether the child is BuildKit's note about another child and no image."""
        return self.os == "unknown" and self.architecture == "unknown"


@dataclass(frozen=True, slots=True)
class ManifestBody:
    """One manifest, read: an image has a config and layers, an index has platforms.

    ``raw`` is exactly what was received, and its digest was verified.
    """

    digest: str
    media_type: str
    raw: bytes = field(repr=False)
    kind: Kind
    artifact_type: str = ""
    config_digest: str = ""
    config_size: int = 0
    config_media_type: str = ""
    layers: tuple[LayerItem, ...] = ()
    platforms: tuple[PlatformItem, ...] = ()


class StepState(StrEnum):
    """How one step of a connection test ended."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CertificateItem:
    """A server's certificate as a connection test shows it; texts are cleaned and bounded, and still hostile.

    ``fingerprint`` is the SHA-256 of the whole certificate, as browsers write it: 32 pairs with colons.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of a connection test, in a sentence made by us."""

    name: str
    state: StepState
    sentence: str
    error: RegistryError | None = None
    certificate: CertificateItem | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A connection test, step by step."""

    steps: tuple[CheckStep, ...]

    @property
    def error(self) -> RegistryError | None:
        """Why the connection is of no use, or None when it is."""
        return next((step.error for step in self.steps if step.state == StepState.FAILED), None)


class Registry(Protocol):
    """The verbs of a data update and of the connection test; every one raises RegistryError."""

    def list_projects(self) -> Iterator[ProjectItem]:
        """Every project this account sees."""
        ...

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        """Every repository of a project."""
        ...

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        """Every artifact of a repository, tagged or not; the children of an index are not listed."""
        ...

    def check(self) -> CheckReport:
        """Try the connection step by step; raises nothing."""
        ...


class PullClient(Protocol):
    """The verbs of reading content by digest; every one raises RegistryError."""

    def get_manifest(self, repository: str, digest: str) -> ManifestBody:
        """The manifest with that digest, verified against it."""
        ...

    def read_blob(self, repository: str, digest: str, *, limit: int) -> bytes:
        """A small blob, whole and verified; one of more than ``limit`` bytes is refused."""
        ...

    def get_blob(
        self, repository: str, digest: str, size: int, *, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes]]:
        """The blob's bytes from ``offset`` on, resumed where a connection breaks.

        Never gives more than ``size - offset`` bytes, and raises unless it gives exactly as many. From offset
        0 the digest is verified at the end; with another offset only the caller has all the bytes to do so.
        """
        ...
