"""Where an image can be pulled from: every registry and repository that names it, best first."""

from dataclasses import dataclass

from django.db.models import Q

from images.models import Image, Manifest, ManifestLayer
from repositories.models import Health, Registry, Tag
from scanning.contents import UnusableContentError, malformed
from scanning.store import Blob

_MOST = 20
_FOREIGN = ("foreign", "nondistributable")
_HEALTH_ORDER = {Health.HEALTHY: 0, Health.UNKNOWN: 1, Health.FAILING: 2}


@dataclass(frozen=True, slots=True)
class Source:
    """One manifest of an image in one repository; layers whose blobs live elsewhere are left out, counted."""

    registry: Registry
    repository: str
    config_size: int
    blobs: tuple[Blob, ...]
    foreign: int


def sources_of(image: Image) -> tuple[Source, ...]:
    """Every place the image can be pulled from, the most promising first.

    Raises UnusableContentError when no tag names the image any more, or its manifest and config disagree.
    """
    manifests = {each.pk: each for each in Manifest.objects.filter(image=image, is_read=True)}
    tags = (
        Tag.objects.visible()
        .filter(Q(manifest__in=manifests) | Q(manifest__platforms__manifest__in=manifests))
        .select_related("registry")
        .order_by("-pushed_at", "-pk")
        .distinct()
    )
    # A child of an index is in the repository of the index.
    children: dict[int, list[int]] = {}
    links = Manifest.objects.filter(pk__in=manifests).values_list("pk", "indexes__index")
    for child, index in links:
        children.setdefault(index or 0, []).append(child)
    ranked = sorted(
        tags[: _MOST * 5],
        key=lambda tag: (tag.missing_since is not None, _HEALTH_ORDER.get(Health(tag.registry.health), 1)),
    )
    places: dict[tuple[int, str, int], Registry] = {}
    for tag in ranked:
        named = [tag.manifest_id] if tag.manifest_id in manifests else children.get(tag.manifest_id, [])
        for manifest_pk in named:
            places.setdefault((tag.registry_id, tag.repository_name, manifest_pk), tag.registry)
    if not places:
        raise UnusableContentError(
            "REG_NOT_FOUND",
            "No registry names this image any more.",
            "Run a data update, then scan the image that the tag names now.",
        )
    diff_ids = list(image.image_layers.order_by("position").values_list("layer__diff_id", flat=True))
    blobs = {pk: _blobs(pk, diff_ids) for pk in manifests}
    return tuple(
        Source(registry, repository, manifests[pk].config_size, *blobs[pk])
        for (_, repository, pk), registry in list(places.items())[:_MOST]
    )


def _blobs(manifest_pk: int, diff_ids: list[str]) -> tuple[tuple[Blob, ...], int]:
    layers = list(ManifestLayer.objects.filter(manifest=manifest_pk).order_by("position"))
    if len(layers) != len(diff_ids):
        raise malformed(
            f"The manifest names {len(layers)} layers and the image's configuration {len(diff_ids)}."
        )
    blobs = tuple(
        Blob(layer.blob_digest, layer.size, diff_id)
        for layer, diff_id in zip(layers, diff_ids, strict=True)
        if not any(word in layer.media_type for word in _FOREIGN)
    )
    return blobs, len(layers) - len(blobs)
