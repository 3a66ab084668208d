"""Layer blobs made by hand, sources that count what is asked of them, and a pulse that a test can stop."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import zstandard

from scanning.store import Blob


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tar(**files: bytes) -> bytes:
    """An uncompressed layer; a file's name is its key with slashes for double underscores."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "gzip of several members": lambda raw: gzip.compress(raw[:700]) + gzip.compress(raw[700:]),
    "zstd": lambda raw: zstandard.compress(raw),
    "zstd of several frames": lambda raw: zstandard.compress(raw[:700]) + zstandard.compress(raw[700:]),
    "plain tar": bytes,
}


@dataclass
class FakeSource:
    """Serves one blob from an offset, counting; `cut_at` ends it early, as a broken connection does."""

    content: bytes
    cut_at: int | None = None
    asked: list[int] = field(default_factory=list)
    chunk: int = 1000

    @contextmanager
    def __call__(self, offset: int) -> Iterator[Iterator[bytes]]:
        self.asked.append(offset)
        yield self._chunks(offset)

    def _chunks(self, offset: int) -> Iterator[bytes]:
        end = len(self.content) if self.cut_at is None else self.cut_at
        for start in range(offset, end, self.chunk):
            yield self.content[start : min(end, start + self.chunk)]
        if self.cut_at is not None:
            raise ConnectionResetError


@dataclass
class FakePulse:
    """Beats until it is told to stop, or until it was asked `stop_after` times."""

    stop_after: int | None = None
    checks: int = 0

    def check(self) -> None:
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise InterruptedError

    def wait(self, seconds: float) -> None:
        self.check()


@dataclass
class FakeLedger:
    """Holds what was noted, or whatever it is asked about."""

    holds_all: bool = False
    noted: set[Blob] = field(default_factory=set)

    def holds(self, blob: Blob) -> bool:
        return self.holds_all or blob in self.noted

    def note(self, blob: Blob) -> None:
        self.noted.add(blob)


def blob_of(raw: bytes, compressed: bytes) -> Blob:
    return Blob(digest(compressed), len(compressed), digest(raw))
