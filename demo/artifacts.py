"""Manifests around the sample images' layers: images, indexes, signatures, charts."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from demo.blobs import BlobStore
from demo.catalog import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    LONG_AGO,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Accessory,
    Addition,
    Artifact,
    Platform,
    Reference,
)
from demo.layers import Image, canonical, digest_of, timestamp

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IN_TOTO_LAYER = "application/vnd.in-toto+json"
SIGNATURE_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

PUSHED_AFTER = timedelta(minutes=12)
"""How long after its build an image reaches the registry."""

Json = Mapping[str, object]


def image(store: BlobStore, source: Image, *, docker: bool = False) -> Artifact:
    """One platform's image; with `docker` under Docker's media types, which gives another manifest digest."""
    layers = []
    for layer in source.layers:
        store.put_as(layer.digest, layer.stored)
        media_type = DOCKER_LAYER if docker else f"{OCI_LAYER}+{layer.compression}"
        layers.append(_descriptor(media_type, layer.blob, digest=layer.digest))
    config_type = DOCKER_CONFIG if docker else OCI_CONFIG
    artifact = _manifest(
        store, DOCKER_MANIFEST if docker else OCI_MANIFEST, config_type, source.config, layers, source.created
    )
    return replace(
        artifact,
        history=source.history,
        extra_attrs={
            "architecture": source.architecture,
            "author": source.author,
            "config": source.runtime,
            "created": timestamp(source.created),
            "os": "linux",
        },
    )


def index(store: BlobStore, children: Sequence[Artifact]) -> Artifact:
    """An index over images and the attestations that BuildKit lists beside them."""
    references, descriptors = [], []
    for child in children:
        attributes = child.extra_attrs or {}
        platform = Platform(
            str(attributes.get("architecture", "unknown")), str(attributes.get("os", "unknown"))
        )
        described = {"architecture": platform.architecture, "os": platform.os}
        descriptor: dict[str, object] = {
            **_descriptor(child.manifest_media_type, store.read(child.digest)),
            "platform": described,
        }
        if child.annotations:
            descriptor["annotations"] = dict(child.annotations)
        descriptors.append(descriptor)
        references.append(Reference(child.digest, platform, child.annotations))
    content = canonical({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors})
    return Artifact(
        digest=store.put(content),
        media_type=OCI_INDEX,
        manifest_media_type=OCI_INDEX,
        size=len(content) + sum(child.size for child in children),
        push_time=max(child.push_time for child in children),
        references=tuple(references),
    )


def attestation(store: BlobStore, subject: Artifact) -> Artifact:
    """What BuildKit says about how an image was built: no image, though an index lists it like one."""
    statement = canonical(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "image", "digest": {"sha256": subject.digest.removeprefix("sha256:")}}],
        }
    )
    config = canonical(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(statement)]},
        }
    )
    layer = _put(
        store, IN_TOTO_LAYER, statement, {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
    )
    artifact = _manifest(store, OCI_MANIFEST, OCI_CONFIG, config, [layer], subject.push_time - PUSHED_AFTER)
    return replace(
        artifact,
        extra_attrs={"architecture": "unknown", "author": "", "config": {}, "created": None, "os": "unknown"},
        annotations={
            "vnd.docker.reference.digest": subject.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


def signature(store: BlobStore, repository: str, subject: Artifact) -> Artifact:
    """A cosign signature of an artifact; its signed text is right, its signature was made by no key."""
    payload = canonical(
        {
            "critical": {
                "identity": {"docker-reference": f"registry.example/{repository}"},
                "image": {"docker-manifest-digest": subject.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    config = canonical(
        {
            "architecture": "",
            "created": "0001-01-01T00:00:00Z",
            "config": {},
            "history": [{"created": "0001-01-01T00:00:00Z"}],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(payload)]},
        }
    )
    layer = _put(store, SIGNATURE_LAYER, payload, {"dev.cosignproject.cosign/signature": "TUVVQ0lRRGVtbw=="})
    artifact = _manifest(store, OCI_MANIFEST, OCI_CONFIG, config, [layer], subject.push_time)
    return replace(
        artifact,
        extra_attrs={
            "architecture": "",
            "author": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "os": "",
        },
    )


def signed(subject: Artifact, by: Artifact) -> Artifact:
    """The subject with a signature attached to it."""
    return replace(
        subject,
        accessories=(*subject.accessories, Accessory(by.digest, "signature.cosign", by.size, by.push_time)),
    )


def chart(store: BlobStore) -> Artifact:
    """A Helm chart: an artifact that is no image at all."""
    about = {
        "apiVersion": "v2",
        "appVersion": "1.1.0",
        "description": "The shop, its API and its front end",
        "name": "shop",
        "type": "application",
        "version": "1.6.0",
    }
    readme = b"# shop\n\nInstalls the shop with `helm install`.\n"
    values = b"replicaCount: 2\nimage:\n  repository: shop/web\n  tag: 1.1.0\n"
    about_text = "".join(f"{key}: {value}\n" for key, value in about.items()).encode()
    archive = _archive({"shop/Chart.yaml": about_text, "shop/README.md": readme, "shop/values.yaml": values})
    layer = _put(store, CHART_LAYER, archive)
    built = datetime(2024, 4, 22, 17, 30, tzinfo=UTC)
    artifact = _manifest(store, OCI_MANIFEST, CHART_CONFIG, canonical(about), [layer], built)
    return replace(
        artifact,
        type="CHART",
        extra_attrs=about,
        additions={
            "readme.md": Addition(readme, "text/markdown; charset=utf-8"),
            "values.yaml": Addition(values, "text/plain; charset=utf-8"),
            "dependencies": Addition(b"[]", "application/json; charset=utf-8"),
        },
    )


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.mtime, member.size = int(LONG_AGO.timestamp()), len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)


def _descriptor(media_type: str, content: bytes, *, digest: str = "") -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest or digest_of(content), "size": len(content)}


def _put(
    store: BlobStore, media_type: str, content: bytes, annotations: Json | None = None
) -> dict[str, object]:
    store.put(content)
    descriptor = _descriptor(media_type, content)
    return {**descriptor, "annotations": dict(annotations)} if annotations else descriptor


def _manifest(
    store: BlobStore,
    media_type: str,
    config_type: str,
    config: bytes,
    layers: Sequence[Json],
    created: datetime,
) -> Artifact:
    content = canonical(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _put(store, config_type, config),
            "layers": layers,
        }
    )
    sizes = [size for layer in layers if isinstance(size := layer["size"], int)]
    return Artifact(
        digest=store.put(content),
        media_type=config_type,
        manifest_media_type=media_type,
        size=len(content) + len(config) + sum(sizes),
        push_time=created + PUSHED_AFTER,
    )
