"""Content-addressed blob store of one host: each blob pulled once, verified, bounded, evicted when idle.

A raw tar is kept under its diff ID and is right by its name: it appears there by a rename, after both digests
were verified. Whoever uses one holds a hard link of it, so what has no second link may be evicted.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scanning.contents import ContentError, NoRoomError, UnusableContentError, WrongContentError, too_large
from scanning.failpoints import failpoint
from scanning.unpacking import Bounds, unpack

_LOCK_POLL_SECONDS = 0.1
_HASH_CHUNK_BYTES = 1024 * 1024
_UNFINISHED = ".raw"
# Room is looked for up to this many bytes ahead of what is written.
_ROOM_STEP_BYTES = 64 * 2**20


class Pulse(Protocol):
    """How a long step learns that it has to stop."""

    def check(self) -> None:
        """Raise what ended the work, if anything did."""

    def wait(self, seconds: float) -> None:
        """Let time pass, no longer than until the work has to stop; then as `check`."""


class Ledger(Protocol):
    """What is known of blobs: an image's config may claim any diff ID for any of them."""

    def holds(self, blob: "Blob") -> bool:
        """Whether the blob was found to unpack to its diff ID."""

    def note(self, blob: "Blob") -> None:
        """It was found so."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One layer as a manifest names it and the diff ID its image's config gives it."""

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes the store may hold, bytes of the disk it leaves free, and bounds of one layer."""

    store_bytes: int
    floor_bytes: int
    bounds: Bounds = field(default_factory=Bounds)


# The bytes of a blob from an offset on.
Fetch = Callable[[int], AbstractContextManager[Iterator[bytes]]]


class BlobStore:
    """Raw layers in `directory`, shared by all processes of the host."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._limits = limits
        self._raw = directory / "raw"
        self._parts = directory / "parts"
        self._locks = directory / "locks"
        for each in (self._raw, self._parts, self._locks):
            # The layers of private images are nobody else's on this machine.
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lend(
        self,
        blob: Blob,
        target: Path,
        *,
        fetch: Fetch,
        pulse: Pulse,
        received: Callable[[int], None],
        ledger: Ledger,
    ) -> int:
        """Put a hard link of the blob's raw tar at `target`, pulling it first if need be; its size.

        One process pulls a blob while the others wait for it. That the layer is there is not enough: the
        ledger has to hold the blob too. `received` hears of every byte that came from the source. Raises
        ContentError, whatever `fetch` raises, and whatever `pulse` raises.
        """
        with self._locked(f"layer-{blob.diff_id}", pulse):
            raw = self._raw / _name(blob.diff_id)
            if not (raw.exists() and ledger.holds(blob)):
                with self._locked(f"blob-{blob.digest}", pulse), _full_disk_is_no_room():
                    part = self._download(blob, fetch, pulse, received)
                    self._unpack(blob, part, raw, pulse, ledger)
            os.utime(raw)
            target.unlink(missing_ok=True)
            target.hardlink_to(raw)
            return raw.stat().st_size

    def has(self, diff_id: str) -> bool:
        """Whether the layer's raw tar is here now."""
        return (self._raw / _name(diff_id)).exists()

    def used_bytes(self) -> int:
        """Bytes of everything the store holds."""
        return sum(_size(file) for file in self._files())

    def _download(self, blob: Blob, fetch: Fetch, pulse: Pulse, received: Callable[[int], None]) -> Path:
        if blob.size > self._limits.store_bytes:
            raise too_large(f"A layer of {blob.size} bytes is larger than the blob store may be.")
        part = self._parts / _name(blob.digest)
        was_begun = part.exists()
        try:
            self._fill(part, blob, fetch, pulse, received)
        except WrongContentError:
            part.unlink(missing_ok=True)
            if not was_begun:
                raise
            # What an earlier attempt left may have been the wrong half.
            self._fill(part, blob, fetch, pulse, received)
        return part

    def _fill(
        self, part: Path, blob: Blob, fetch: Fetch, pulse: Pulse, received: Callable[[int], None]
    ) -> None:
        algorithm, _, expected = blob.digest.partition(":")
        digest = hashlib.new(algorithm)
        size = 0
        with part.open("ab+") as file:
            file.seek(0)
            while chunk := file.read(_HASH_CHUNK_BYTES):
                pulse.check()
                digest.update(chunk)
                size += len(chunk)
            if size < blob.size:
                self._make_room(blob.size - size)
                with fetch(size) as chunks:
                    for chunk in chunks:
                        pulse.check()
                        size += len(chunk)
                        if size > blob.size:
                            break
                        file.write(chunk)
                        digest.update(chunk)
                        received(len(chunk))
                        failpoint("pulling")
        if size != blob.size or digest.hexdigest() != expected:
            part.unlink(missing_ok=True)
            raise WrongContentError("A layer's bytes are not those that its digest names.")

    def _unpack(self, blob: Blob, part: Path, raw: Path, pulse: Pulse, ledger: Ledger) -> None:
        algorithm, _, expected = blob.diff_id.partition(":")
        unsettled = 0

        def tick(count: int) -> None:
            nonlocal unsettled
            pulse.check()
            if unsettled < count:
                unsettled = max(count, min(_ROOM_STEP_BYTES, blob.size))
                self._make_room(unsettled)
            unsettled -= count

        unfinished = self._parts / f"{_name(blob.diff_id)}{_UNFINISHED}"
        try:
            with unfinished.open("wb") as target:
                found, _size = unpack(part, target, algorithm, self._limits.bounds, tick)
                if found != expected:
                    raise UnusableContentError(
                        "IMG_DIGEST",
                        "A layer's content is not what the image's configuration says it is.",
                        "Build the image again and push it again.",
                    )
                target.flush()
                os.fdatasync(target.fileno())
            unfinished.chmod(0o440)
            failpoint("unpacked")
            # First the note: a layer that is there without one would be pulled again.
            ledger.note(blob)
            unfinished.rename(raw)
        except ContentError as error:
            unfinished.unlink(missing_ok=True)
            if not isinstance(error, NoRoomError):
                part.unlink(missing_ok=True)
            raise
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        part.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Evict idle content until `needed` more bytes fit; raises NoRoomError when they do not."""
        with self._locked("room", None):
            if not self._shortage(needed):
                return
            for file in sorted(self._files(), key=_last_used):
                self._evict(file)
                if not self._shortage(needed):
                    return
        raise NoRoomError(self._shortage(needed))

    def _shortage(self, needed: int) -> str:
        """Why `needed` more bytes do not fit, or nothing."""
        free = shutil.disk_usage(self._raw).free
        if free - needed < self._limits.floor_bytes:
            return (
                f"The disk has {free // 2**20} MiB left, and {self._limits.floor_bytes // 2**20} MiB of it "
                "are kept free."
            )
        if self.used_bytes() + needed > self._limits.store_bytes:
            return (
                f"The blob store is full with {self._limits.store_bytes // 2**20} MiB that scans are using."
            )
        return ""

    def _evict(self, file: Path) -> None:
        """Remove one file, unless somebody makes it, looks at it or holds a link of it."""
        kind = "blob" if file.parent == self._parts and file.suffix != _UNFINISHED else "layer"
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = self._open_lock(f"{kind}-{file.stem}", blocking=False)
            try:
                if file.stat().st_nlink == 1:
                    file.unlink()
            finally:
                os.close(descriptor)

    def _files(self) -> Iterator[Path]:
        for directory in (self._raw, self._parts):
            yield from directory.iterdir()

    @contextmanager
    def _locked(self, key: str, pulse: Pulse | None) -> Iterator[None]:
        """Hold the lock file of a key alone among all processes; without a pulse the wait is short anyway."""
        while True:
            try:
                descriptor = self._open_lock(key, blocking=pulse is None)
                break
            except BlockingIOError:
                if pulse is not None:
                    pulse.wait(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            # The kernel lets go of the lock with the descriptor, also when the process is killed.
            os.close(descriptor)

    def _open_lock(self, key: str, *, blocking: bool) -> int:
        path = self._locks / _name(key)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _name(digest: str) -> str:
    return digest.replace(":", "-")


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _full_disk_is_no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoomError("The disk became full while a layer was being stored.") from error
        raise
