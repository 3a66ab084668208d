"""Reads manifests and indexes (OCI image specification 1.1, Docker image manifest 2.2), verified."""

import hashlib
from collections.abc import Mapping

from images.digests import parse_digest
from repositories.registries.answers import MalformedError, as_list, as_mapping, parse_json, size, text
from repositories.registries.failures import CannotPullError
from repositories.registries.protocol import Kind, LayerItem, ManifestBody, PlatformItem

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
# A registry that is not asked for all four converts, or says there is none.
ACCEPT = ", ".join([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])
IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_SIGNATURE_LAYERS = frozenset(
    {"application/vnd.dev.cosign.simplesigning.v1+json", "application/jose+json", "application/cose"}
)
_FOREIGN = (".foreign.", ".nondistributable.")
LAYERS = 1000
PLATFORMS = 1000


def verify(content: bytes, digest: str) -> None:
    """Raise CannotPullError (IMG_DIGEST) unless ``digest`` is that of exactly these bytes."""
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(algorithm, content).hexdigest() != expected:
        raise wrong_digest()


def wrong_digest() -> CannotPullError:
    """The error for content that is not what its digest says."""
    return CannotPullError(
        "IMG_DIGEST",
        "The registry's content is damaged: it does not match its digest.",
        "Push the image again, and check the registry's storage.",
    )


def parse_manifest(raw: bytes, digest: str, content_type: str) -> ManifestBody:
    """The manifest in ``raw``; raises CannotPullError (IMG_DIGEST, IMG_MALFORMED, IMG_UNSUPPORTED).

    A body that two readers could understand in two ways is refused: one with layers and manifests both, or
    one whose own media type is not that of the answer.
    """
    verify(raw, digest)
    try:
        body = as_mapping(parse_json(raw))
        media_type = _media_type(body, content_type)
        if media_type in INDEX_TYPES:
            return _index(raw, digest, media_type, body)
        return _manifest(raw, digest, media_type, body)
    except ValueError:
        raise CannotPullError(
            "IMG_MALFORMED", "The image's manifest is not of the form of a manifest."
        ) from None


def _media_type(body: Mapping[str, object], content_type: str) -> str:
    answered = content_type.partition(";")[0].strip().lower()
    own = text(body, "mediaType")
    if body.get("schemaVersion") != 2:
        raise CannotPullError(
            "IMG_UNSUPPORTED",
            "The image has a manifest of a kind that has been out of use since 2017.",
            "Push the image again with a current version of its build tool.",
        )
    if "layers" in body and "manifests" in body:
        raise MalformedError("both an image and an index")
    known = MANIFEST_TYPES | INDEX_TYPES
    if own and answered in known and own != answered:
        raise MalformedError("two media types")
    media_type = own or answered
    if media_type not in known:
        raise CannotPullError(
            "IMG_UNSUPPORTED", "This kind of artifact is not known.", "Nothing needs to be done."
        )
    if (media_type in INDEX_TYPES) != ("manifests" in body):
        raise MalformedError("not what its media type says")
    return media_type


def _manifest(raw: bytes, digest: str, media_type: str, body: Mapping[str, object]) -> ManifestBody:
    config = as_mapping(body.get("config"))
    layers = tuple(_layer(as_mapping(entry)) for entry in as_list(body.get("layers"), limit=LAYERS))
    config_type = text(config, "mediaType")
    return ManifestBody(
        digest=digest,
        media_type=media_type,
        raw=raw,
        kind=_kind(config_type, layers),
        artifact_type=text(body, "artifactType"),
        config_digest=parse_digest(config.get("digest")),
        config_size=size(config, "size"),
        config_media_type=config_type,
        layers=layers,
    )


def _kind(config_type: str, layers: tuple[LayerItem, ...]) -> Kind:
    if config_type == _CHART_CONFIG:
        return Kind.CHART
    if layers and all(layer.media_type in _SIGNATURE_LAYERS for layer in layers):
        return Kind.SIGNATURE
    if config_type not in IMAGE_CONFIGS or any("in-toto" in layer.media_type for layer in layers):
        return Kind.OTHER
    return Kind.IMAGE


def _layer(entry: Mapping[str, object]) -> LayerItem:
    media_type = text(entry, "mediaType")
    return LayerItem(
        digest=parse_digest(entry.get("digest")),
        size=size(entry, "size"),
        media_type=media_type,
        foreign=any(word in media_type for word in _FOREIGN),
    )


def _index(raw: bytes, digest: str, media_type: str, body: Mapping[str, object]) -> ManifestBody:
    platforms: dict[str, PlatformItem] = {}
    for entry in as_list(body.get("manifests"), limit=PLATFORMS):
        platform = _platform(as_mapping(entry))
        if platform.digest == digest:
            raise MalformedError("an index that holds itself")
        platforms.setdefault(platform.digest, platform)
    return ManifestBody(
        digest=digest,
        media_type=media_type,
        raw=raw,
        kind=Kind.INDEX,
        artifact_type=text(body, "artifactType"),
        platforms=tuple(platforms.values()),
    )


def _platform(entry: Mapping[str, object]) -> PlatformItem:
    platform = as_mapping(entry.get("platform") or {})
    return PlatformItem(
        digest=parse_digest(entry.get("digest")),
        media_type=text(entry, "mediaType"),
        size=size(entry, "size"),
        os=text(platform, "os", limit=64),
        architecture=text(platform, "architecture", limit=64),
        variant=text(platform, "variant", limit=64),
        os_version=text(platform, "os.version", limit=64),
    )
