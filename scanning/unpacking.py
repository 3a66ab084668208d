"""Decompresses one layer blob to its raw tar: format by magic bytes, digest on the way, within bounds."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard
from isal import igzip, isal_zlib

from scanning.contents import bomb, malformed, unsupported

CHUNK_BYTES = 1024 * 1024
# RFC 8878 lets a frame ask for terabytes of window; `zstd --long=27` is the most that occurs in images.
_ZSTD_WINDOW_BYTES = 128 * 2**20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# A zstd:chunked or eStargz layer may begin with a skippable frame.
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16))
_OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one blob may unpack to: bytes in all, and times its own size once beyond `free_bytes`."""

    layer_bytes: int = 64 * 2**30
    ratio: int = 250
    free_bytes: int = 256 * 2**20


# The stubs of isal give its error no base class.
_DAMAGED = cast("tuple[type[Exception]]", (isal_zlib.IsalError,))


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack(
    source: Path, target: BinaryIO, algorithm: str, bounds: Bounds, tick: Callable[[int], None]
) -> tuple[str, int]:
    """Write the raw tar of a blob file; its hexadecimal digest and its size.

    `tick` is called with the number of bytes before each is written and may raise. Raises
    UnusableContentError, and OSError when `target` cannot be written.
    """
    most = min(bounds.layer_bytes, max(bounds.free_bytes, source.stat().st_size * bounds.ratio))
    digest = hashlib.new(algorithm)
    size = 0
    with _opened(source) as reader:
        while chunk := _read(reader):
            size += len(chunk)
            if size > most:
                raise bomb(
                    f"A layer of {source.stat().st_size} bytes unpacks to more than {most} bytes: "
                    "it was not unpacked further."
                )
            tick(len(chunk))
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest(), size


@contextmanager
def _opened(source: Path) -> Iterator[_Reader]:
    with source.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(_GZIP):
            with igzip.open(file, "rb") as reader:  # type: ignore[no-untyped-call]
                yield cast("_Reader", reader)
        elif head.startswith((_ZSTD, *_ZSTD_SKIPPABLE)):
            decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
            with decompressor.stream_reader(file, read_across_frames=True) as stream:
                yield stream
        else:
            for magic, name in _OTHERS.items():
                if head.startswith(magic):
                    raise unsupported(f"A layer is compressed with {name}, which images may not use.")
            yield file


def _read(reader: _Reader) -> bytes:
    try:
        return reader.read(CHUNK_BYTES)
    except EOFError:
        raise malformed("A layer's compressed data ends too early.") from None
    except (*_DAMAGED, gzip.BadGzipFile, zlib.error, zstandard.ZstdError):
        raise malformed("A layer's compressed data is damaged.") from None
