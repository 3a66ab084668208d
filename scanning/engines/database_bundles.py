"""Writes the vulnerability database as a file that another host imports, or that a registry takes in."""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("trivy.db", "metadata.json")
# What Trivy looks for in the repository it downloads from.
_CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
_LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_TAG = "2"


def write_bundle(directory: Path, target: Path) -> None:
    """Write a database folder as the tar.gz file that `vulnerability_db import` takes. Raises OSError."""
    with _complete(target) as fresh:
        _pack(directory, fresh)


def write_oci_archive(directory: Path, target: Path) -> None:
    """Write a database folder as an OCI image layout in a tar, tag 2, as skopeo copies it to a registry.

    The layout is that of the OCI image specification; the media types are those of Trivy's own repository.
    Raises OSError.
    """
    with (
        _complete(target) as fresh,
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".mirror-") as name,
    ):
        layer = Path(name) / "db.tar.gz"
        _pack(directory, layer)
        with layer.open("rb") as file:
            layer_digest = hashlib.file_digest(file, "sha256").hexdigest()
        config = b"{}"
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST_TYPE,
                "config": _descriptor(_CONFIG_TYPE, hashlib.sha256(config).hexdigest(), len(config)),
                "layers": [
                    _descriptor(_LAYER_TYPE, layer_digest, layer.stat().st_size)
                    | {"annotations": {"org.opencontainers.image.title": "db.tar.gz"}}
                ],
            }
        ).encode()
        manifest_digest = hashlib.sha256(manifest).hexdigest()
        described = _descriptor(_MANIFEST_TYPE, manifest_digest, len(manifest))
        index = {
            "schemaVersion": 2,
            "manifests": [described | {"annotations": {"org.opencontainers.image.ref.name": _TAG}}],
        }
        with tarfile.open(fresh, "w") as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            _add(archive, "index.json", json.dumps(index).encode())
            _add(archive, f"blobs/sha256/{hashlib.sha256(config).hexdigest()}", config)
            _add(archive, f"blobs/sha256/{manifest_digest}", manifest)
            archive.add(layer, f"blobs/sha256/{layer_digest}", filter=_plain)


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _pack(directory: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in NAMES:
            archive.add(directory / name, name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of this machine's users travels along."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """A name beside the target that becomes the target at the end: half a file is never taken for one."""
    fresh = target.with_name(f".{target.name}.new")
    try:
        yield fresh
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
