"""Writes the OCI image layout that an engine reads: uncompressed layers, and a history that says nothing."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
RUNTIME_TEXTS = ("User", "WorkingDir")
RUNTIME_LISTS = ("Env", "Entrypoint", "Cmd", "OnBuild")


def write_layout(directory: Path, config: bytes, layers: Sequence[tuple[str, Path | None]]) -> None:
    """Make `directory` an image layout of the verified layers (diff ID, uncompressed tar), base first.

    Without a tar a layer is only named. The tars are linked, not copied. Of the config only what engines
    look at is taken, and only where it has the right type: a strange config must not keep good layers from
    being scanned. Raises OSError.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    descriptors = []
    for diff_id, archive in layers:
        target = blobs / diff_id.removeprefix("sha256:")
        if archive is not None and not target.exists():
            _link(archive, target)
        size = 0 if archive is None else archive.stat().st_size
        descriptors.append({"mediaType": LAYER_TYPE, "digest": diff_id, "size": size})
    neutral = _neutral_config(config, [diff_id for diff_id, _ in layers])
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _put(blobs, CONFIG_TYPE, neutral),
        "layers": descriptors,
    }
    index = {"schemaVersion": 2, "manifests": [_put(blobs, MANIFEST_TYPE, manifest)]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _link(source: Path, target: Path) -> None:
    # A hard link keeps the layer readable though the store evicts it meanwhile; across devices there is none.
    try:
        target.hardlink_to(source)
    except OSError:
        target.symlink_to(source.resolve())


def _put(blobs: Path, media_type: str, document: Mapping[str, object]) -> dict[str, object]:
    content = json.dumps(document).encode(errors="replace")
    name = hashlib.sha256(content).hexdigest()
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(blobs / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(content)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}


def _neutral_config(content: bytes, diff_ids: Sequence[str]) -> dict[str, object]:
    """The config without its history's shape.

    Trivy takes layers below a `CMD` of the history for the base image's and does not look for secrets in
    them. The instructions themselves stay, as steps after the layers, since secrets may stand in them.
    """
    config = _document(content)
    runtime = config.get("config")
    steps = config.get("history")
    history: list[dict[str, object]] = [{"created_by": "layer"} for _ in diff_ids]
    for step in steps if isinstance(steps, list) else []:
        text = step.get("created_by") if isinstance(step, dict) else None
        if isinstance(text, str):
            history.append({"created_by": f"step {text}", "empty_layer": True})
    return {
        "architecture": _text(config.get("architecture")) or "amd64",
        "os": _text(config.get("os")) or "linux",
        "config": _runtime(runtime) if isinstance(runtime, dict) else {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": history,
    }


def _document(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _runtime(runtime: Mapping[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {key: _text(runtime.get(key)) for key in RUNTIME_TEXTS}
    for key in RUNTIME_LISTS:
        values = runtime.get(key)
        kept[key] = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
    labels = runtime.get("Labels")
    kept["Labels"] = {
        str(key): value
        for key, value in (labels.items() if isinstance(labels, dict) else ())
        if isinstance(value, str)
    }
    return kept


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
