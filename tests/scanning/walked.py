"""Forged layers walked through, and what was heard and asked for on the way."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from scanning.engines.layers import File, FileHeader, LayerEntry, LayerLimits, walk
from tests.fakes.tar_forge import archive

HONEST = LayerLimits()


def entries(*parts: bytes, limits: LayerLimits = HONEST) -> list[LayerEntry]:
    return list(walk([archive(*parts)], limits=limits, alive=lambda: None))


def paths(*parts: bytes) -> list[str]:
    return [entry.path for entry in entries(*parts)]


def only_file(*parts: bytes) -> File:
    (entry,) = entries(*parts)
    assert isinstance(entry, File)
    return entry


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Listener:
    """Keeps every content that goes by."""

    heard: dict[bytes, bytes] = field(default_factory=dict)

    def __call__(self, file: FileHeader) -> Callable[[bytes], None]:
        self.heard[file.raw_path] = b""

        def take(piece: bytes) -> None:
            self.heard[file.raw_path] += piece

        return take


@dataclass
class Counted:
    """Chunks, and how many bytes of them were asked for."""

    chunks: Iterable[bytes]
    size: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.size += len(chunk)
            yield chunk
