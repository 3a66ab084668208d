"""A content-addressed directory of blobs in the layout of an OCI image store (`blobs/sha256/<hex>`)."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import BinaryIO

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class BlobMissingError(LookupError):
    """No blob with that digest is in the store."""


class BlobStore:
    """Blobs by the SHA-256 of their bytes, in one directory that several processes may share.

    A blob appears whole or not at all: it is written beside its place and renamed into it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """The file of a digest, whether it exists or not. Raises ValueError when it is no SHA-256 digest."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 digest: {digest!r}")
        return self._blobs / digest.removeprefix("sha256:")

    def put(self, content: bytes) -> str:
        """Keep these bytes and return their digest; a blob that is there already is left as it is."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.put_as(digest, content, replace=False)
        return digest

    def put_as(self, digest: str, content: bytes, *, replace: bool = True) -> None:
        """Keep bytes under a digest that need not be theirs: how a registry with a damaged disk is made."""
        target = self.path(digest)
        if target.exists() and not replace:
            return
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._blobs)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, digest: str) -> bytes:
        """The whole blob. Raises BlobMissingError."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissingError(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file to read from. Raises BlobMissingError."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise BlobMissingError(digest) from None

    def size(self, digest: str) -> int:
        """Length of the blob in bytes. Raises BlobMissingError."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobMissingError(digest) from None

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and bool(DIGEST.fullmatch(digest)) and self.path(digest).is_file()

    def digests(self) -> list[str]:
        """Every digest in the store, in order."""
        return sorted(
            f"sha256:{entry.name}" for entry in self._blobs.iterdir() if not entry.name.startswith(".")
        )
