"""What a Harbor 1.10 can hold of a catalog: Docker's single images, and nothing that came after them.

The real server refuses OCI manifests and every kind of index. So each OCI image becomes what `docker push`
of the same image would have left there: the same config and layers under Docker's manifest type, with
another manifest digest. Indexes, signatures and charts are not there at all, nor is an index's untagged
child, for nobody could have pushed it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from demo.artifacts import DOCKER_LAYER, OCI_LAYER
from demo.blobs import BlobMissingError, BlobStore
from demo.catalog import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Artifact,
    Catalog,
    Repository,
)
from demo.layers import canonical

LAYERS = {
    OCI_LAYER: DOCKER_LAYER.removesuffix(".gzip"),
    f"{OCI_LAYER}+gzip": DOCKER_LAYER,
    f"{OCI_LAYER}+zstd": DOCKER_LAYER.replace(".gzip", ".zstd"),
}
"""Docker's word for each kind of layer; whatever has layers of another kind is no image to Docker."""


def docker_content(catalog: Catalog, store: BlobStore) -> Catalog:
    """The catalog as Harbor 1.10 has it; the manifests that come of it are put into the store."""
    projects = []
    for project in catalog.projects:
        held = [_repository(place, store) for place in project.repositories]
        projects.append(replace(project, repositories=tuple(place for place in held if place.artifacts)))
    return replace(catalog, projects=tuple(projects))


def _repository(place: Repository, store: BlobStore) -> Repository:
    children = {line.digest for artifact in place.artifacts for line in artifact.references}
    pushed = [
        _pushed(artifact, store)
        for artifact in place.artifacts
        if artifact.tags or artifact.digest not in children
    ]
    return replace(place, artifacts=tuple(artifact for artifact in pushed if artifact is not None))


def _pushed(artifact: Artifact, store: BlobStore) -> Artifact | None:
    """The artifact as Docker would have pushed it; None for what it could not."""
    if artifact.manifest_media_type == DOCKER_MANIFEST:
        return replace(artifact, accessories=())
    if (artifact.manifest_media_type, artifact.media_type) != (OCI_MANIFEST, OCI_CONFIG):
        return None
    try:
        manifest = json.loads(store.read(artifact.digest))
    except BlobMissingError:
        return None
    if any(layer["mediaType"] not in LAYERS for layer in manifest["layers"]):
        return None
    config = {**manifest["config"], "mediaType": DOCKER_CONFIG}
    layers = [{**layer, "mediaType": LAYERS[layer["mediaType"]]} for layer in manifest["layers"]]
    content = canonical(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    )
    return replace(
        artifact,
        digest=store.put(content),
        media_type=DOCKER_CONFIG,
        manifest_media_type=DOCKER_MANIFEST,
        size=len(content) + config["size"] + sum(layer["size"] for layer in layers),
        annotations=None,
        accessories=(),
    )
