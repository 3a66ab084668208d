"""Docker's first, signed manifest format: what a registry of Harbor 1.10's time makes of an image on demand.

Whoever asks for a tag and does not name schema 2 in `Accept` gets this, with a digest of its own. The
conversion follows the registry's `schema1.ConfigManifestBuilder`, the signature its `libtrust`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from demo.gojson import go_json

SIGNED_MANIFEST = "application/vnd.docker.distribution.manifest.v1+prettyjws"
EMPTY_LAYER = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
"""A gzipped tar without files; it stands for every step that changed nothing."""

TAIL = "\n}"
COORDINATE = 32
"""Length of a P-256 number in bytes."""


class NotConvertibleError(ValueError):
    """The image's config has no history or not one layer for each of its steps."""


def payload(name: str, tag: str, manifest: Mapping[str, Any], config: bytes) -> bytes:
    """The manifest in the first format without its signature. Raises NotConvertibleError."""
    steps = list(_steps(manifest, config))
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": json.loads(config).get("architecture", ""),
        "fsLayers": [{"blobSum": blob} for blob, _ in reversed(steps)],
        "history": [{"v1Compatibility": text} for _, text in reversed(steps)],
    }
    return go_json(document, indent=3).encode()


def _steps(manifest: Mapping[str, Any], config: bytes) -> Iterator[tuple[str, str]]:
    """Blob and description of each history entry, oldest first; the newest carries the whole config."""
    image = json.loads(config)
    history = image.get("history") or []
    blobs = [layer["digest"] for layer in manifest["layers"]]
    if not history or len(blobs) != sum(not step.get("empty_layer") for step in history):
        raise NotConvertibleError(_problem(history))
    parent = ""
    for number, step in enumerate(history):
        empty = bool(step.get("empty_layer"))
        blob = EMPTY_LAYER if empty else blobs.pop(0)
        seed = f"{blob.removeprefix('sha256:')} {parent}"
        if number == len(history) - 1:
            identity = hashlib.sha256(seed.encode() + b" " + config).hexdigest()
            kept = {key: value for key, value in image.items() if key not in ("rootfs", "history")}
            top = {**kept, "id": identity, "parent": parent, "throwaway": empty}
            present = {key: top[key] for key in sorted(top) if key in kept or top[key]}
            yield blob, go_json(present)
            return
        identity = hashlib.sha256(seed.encode()).hexdigest()
        described = {
            "id": identity,
            "parent": parent,
            "comment": step.get("comment"),
            "created": step.get("created", "0001-01-01T00:00:00Z"),
            "container_config": {"Cmd": [step.get("created_by", "")]},
            "author": step.get("author"),
            "throwaway": empty,
        }
        yield blob, go_json({key: value for key, value in described.items() if value})
        parent = identity


def _problem(history: list[Any]) -> str:
    if not history:
        return "empty history when trying to create schema1 manifest"
    return "number of descriptors and number of layers in rootfs must match"


class Signer:
    """A key made when the server starts, as a registry without a configured one does."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        letters = base64.b32encode(hashlib.sha256(encoded).digest()[:30]).decode()
        point = public.public_numbers()
        self._jwk = {
            "crv": "P-256",
            "kid": ":".join(letters[start : start + 4] for start in range(0, len(letters), 4)),
            "kty": "EC",
            "x": _pack(point.x.to_bytes(COORDINATE, "big")),
            "y": _pack(point.y.to_bytes(COORDINATE, "big")),
        }

    def signed(self, content: bytes) -> bytes:
        """The payload with a signature put in before its last line."""
        head = content.decode().removesuffix(TAIL)
        claims = {
            "formatLength": len(head.encode()),
            "formatTail": _pack(TAIL.encode()),
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        protected = _pack(go_json(claims).encode())
        pair = decode_dss_signature(
            self._key.sign(f"{protected}.{_pack(content)}".encode(), ec.ECDSA(SHA256()))
        )
        signature = {
            "header": {"jwk": self._jwk, "alg": "ES256"},
            "signature": _pack(b"".join(number.to_bytes(COORDINATE, "big") for number in pair)),
            "protected": protected,
        }
        block = go_json({"signatures": [signature]}, indent=3).removeprefix("{").removesuffix(TAIL)
        return f"{head},{block}{TAIL}".encode()


def _pack(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
