"""Records what manifests and configs say: images, their layers, and the blobs and platforms of manifests."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import transaction

from images.config import ImageConfig, parse_config
from images.models import ArtifactKind, Image, ImageLayer, Layer, Manifest, ManifestLayer, Platform
from repositories.registries.protocol import Kind, ManifestBody
from tcss import bulk
from tcss.text import clean_text


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """A manifest's row with its body, and the bytes of its config where it is an image."""

    row: Manifest
    body: ManifestBody
    config: bytes = b""


def record_manifest(manifest: Manifest, body: ManifestBody, config: bytes = b"") -> Image | None:
    """Record one manifest that was read; the image it is of, if it is one."""
    record_manifests([ReadManifest(manifest, body, config)])
    return manifest.image


def record_manifests(read: Sequence[ReadManifest]) -> None:
    """Record manifests that were read, in a few statements for all of them, and mark their rows as read.

    Needs a transaction or makes one. A row need not be saved yet; it is then. Rows another process wrote
    meanwhile are taken as they are: content that has the same digest is the same. The children of an index
    must have rows already. What a manifest is, its content says and nothing else: every registry shares the
    rows, and a listing that calls an image a signature would hide it everywhere.
    """
    with transaction.atomic():
        configs = {
            one.body.config_digest: parse_config(one.config) for one in read if one.body.kind == Kind.IMAGE
        }
        for one in read:
            one.row.kind = ArtifactKind(one.body.kind)
        images = _record_images([one for one in read if one.row.kind == ArtifactKind.IMAGE], configs)
        for one in read:
            row, body = one.row, one.body
            row.media_type = clean_text(body.media_type, 255)
            row.artifact_type = clean_text(body.artifact_type, 255)
            row.config_digest = body.config_digest
            row.config_size = body.config_size
            row.image_id = images.get(body.config_digest) if row.kind == ArtifactKind.IMAGE else None
            row.is_read = True
        _record_rows(read)
        _record_blobs(read)
        _record_platforms([one for one in read if one.body.platforms])


def _record_rows(read: Sequence[ReadManifest]) -> None:
    """Write the rows of the manifests themselves; one that is there keeps its size, which a listing knows."""
    learned = ["media_type", "artifact_type", "kind", "config_digest", "config_size", "image", "is_read"]
    bulk.insert(
        Manifest,
        ["digest", "size", *learned],
        [
            (
                row.digest,
                row.size,
                row.media_type,
                row.artifact_type,
                str(row.kind),
                row.config_digest,
                row.config_size,
                row.image_id,
                True,
            )
            for row in sorted((one.row for one in read), key=lambda row: row.digest)
        ],
        key=["digest"],
        update=learned,
    )
    found = Manifest.objects.filter(digest__in=[one.row.digest for one in read])
    keys = dict(found.values_list("digest", "pk"))
    for one in read:
        one.row.pk = keys[one.row.digest]


def _record_images(read: Sequence[ReadManifest], configs: dict[str, ImageConfig]) -> dict[str, int]:
    """The keys of these manifests' images by image ID; what is new is written with its layers."""
    wanted = {one.body.config_digest: one for one in read}
    images = _keys(wanted)
    fresh = {image_id: one for image_id, one in sorted(wanted.items()) if image_id not in images}
    if fresh:
        bulk.insert(
            Image,
            ["image_id", "os", "architecture", "variant", "built_at", "size", "author", "history", "labels"],
            [_image(image_id, one.body, configs[image_id]) for image_id, one in fresh.items()],
        )
        images |= _keys(fresh)
        _record_layers({images[image_id]: configs[image_id] for image_id in fresh})
    return images


def _keys(image_ids: Collection[str]) -> dict[str, int]:
    return dict(Image.objects.filter(image_id__in=image_ids).values_list("image_id", "pk"))


def _image(image_id: str, body: ManifestBody, config: ImageConfig) -> tuple[object, ...]:
    return (
        image_id,
        config.os,
        config.architecture,
        config.variant,
        config.built_at,
        min(sum(layer.size for layer in body.layers), 2**63 - 1),
        config.author,
        json.dumps(config.history),
        json.dumps(dict(config.labels)),
    )


def _record_layers(configs: dict[int, ImageConfig]) -> None:
    # In the order of their key, so that two processes that share layers wait instead of locking each other.
    diff_ids = sorted({diff_id for config in configs.values() for diff_id in config.diff_ids})
    known = _layer_keys(diff_ids)
    if fresh := [diff_id for diff_id in diff_ids if diff_id not in known]:
        bulk.insert(Layer, ["diff_id"], [(diff_id,) for diff_id in fresh])
        known |= _layer_keys(fresh)
    bulk.insert(
        ImageLayer,
        ["image", "position", "layer", "created_by"],
        [
            (image, position, known[diff_id], instruction)
            for image, config in configs.items()
            for position, (diff_id, instruction) in enumerate(
                zip(config.diff_ids, config.instructions(), strict=True)
            )
        ],
    )


def _layer_keys(diff_ids: Collection[str]) -> dict[str, int]:
    return dict(Layer.objects.filter(diff_id__in=diff_ids).values_list("diff_id", "pk"))


def _record_blobs(read: Sequence[ReadManifest]) -> None:
    bulk.insert(
        ManifestLayer,
        ["manifest", "position", "blob_digest", "size", "media_type"],
        [
            (one.row.pk, position, layer.digest, layer.size, clean_text(layer.media_type, 255))
            for one in read
            for position, layer in enumerate(one.body.layers)
        ],
    )


def _record_platforms(read: Sequence[ReadManifest]) -> None:
    digests = {platform.digest for one in read for platform in one.body.platforms}
    children = dict(Manifest.objects.filter(digest__in=digests).values_list("digest", "pk"))
    Platform.objects.bulk_create(
        [
            Platform(
                index=one.row,
                manifest_id=children[platform.digest],
                os=clean_text(platform.os, 64),
                architecture=clean_text(platform.architecture, 64),
                variant=clean_text(platform.variant, 64),
            )
            for one in read
            for platform in one.body.platforms
            if platform.digest in children
        ],
        ignore_conflicts=True,
    )
