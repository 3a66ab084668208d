"""The bytes of a tar archive in their order, counted and bounded, and the errors of those that read them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from scanning.engines.protocol import EngineBomb, ImageMalformed

BLOCK_BYTES = 512
CHUNK_BYTES = 2**20
_USUAL_EXTENSION_BYTES = 1024
_ZEROS = memoryview(bytes(CHUNK_BYTES))


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """How much of one layer is walked.

    `tar_bytes` bounds the archive, `hole_bytes` the holes of all sparse files together, `extension_bytes`
    each header that carries a long name, attributes or the map of a sparse file, and `extensions` their
    number before one member. `long_bytes` bounds all those together that are longer than honest ones usually
    are, since reading them takes more time than reading files.
    """

    entries: int = 1_000_000
    tar_bytes: int = 64 * 2**30
    hole_bytes: int = 4 * 2**30
    extension_bytes: int = 2**20
    extensions: int = 8
    long_bytes: int = 64 * 2**20


@runtime_checkable
class Readable(Protocol):
    """A binary file, or anything that is read like one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class ByteSource:
    """The bytes of a stream in their order, counted.

    `alive` is called for every chunk and may raise. All methods raise EngineBomb when the stream has more
    bytes than `limits` allow.
    """

    def __init__(
        self, stream: Readable | Iterable[bytes], limits: LayerLimits, alive: Callable[[], None]
    ) -> None:
        self._chunks = (
            iter(partial(stream.read, CHUNK_BYTES), b"") if isinstance(stream, Readable) else iter(stream)
        )
        self._limits = limits
        self._alive = alive
        self._chunk = b""
        self._view = memoryview(b"")
        self._at = 0
        self._chunk_begins = 0
        self._holes = 0
        self._long = 0

    @property
    def position(self) -> int:
        """Bytes taken so far."""
        return self._chunk_begins + self._at

    def piece(self, most: int) -> memoryview:
        """The next bytes, one at least and `most` at most; none at the end of the stream."""
        if self._at == len(self._chunk) and not self._next_chunk():
            return self._view
        piece = self._view[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or what is left of them."""
        end = self._at + size
        if end <= len(self._chunk):
            taken = self._chunk[self._at : end]
            self._at = end
            return taken
        parts = []
        while size > 0 and (piece := self.piece(size)):
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises ImageMalformed when the stream ends before."""
        taken = self.take(size)
        if len(taken) < size:
            raise ends_too_early()
        return taken

    def skip(self, size: int) -> int:
        """Leave `size` bytes out; how many of them the stream did not have."""
        while size > 0 and (piece := self.piece(size)):
            size -= len(piece)
        return size

    def hole(self, size: int) -> Iterator[memoryview]:
        """That many zeros, which the stream has not."""
        while size > 0:
            self._alive()
            piece = _ZEROS[:size]
            size -= len(piece)
            yield piece

    def expect_holes(self, size: int) -> None:
        """Count zeros that will be asked for. Raises EngineBomb when they are too many."""
        self._holes += size
        if self._holes > self._limits.hole_bytes:
            raise bomb(f"The holes of a layer's sparse files are more than {self._limits.hole_bytes} bytes.")

    def count_extension(self, size: int) -> None:
        """Count a header beside a member's own. Raises EngineBomb after too many long ones."""
        if size > _USUAL_EXTENSION_BYTES:
            self._long += size
            if self._long > self._limits.long_bytes:
                raise bomb(
                    f"A layer's long names and attributes take more than {self._limits.long_bytes} bytes."
                )

    def _next_chunk(self) -> bool:
        self._chunk_begins += len(self._chunk)
        for chunk in self._chunks:
            self._alive()
            if chunk:
                break
        else:
            chunk = b""
        self._chunk, self._view, self._at = chunk, memoryview(chunk), 0
        if self._chunk_begins + len(chunk) > self._limits.tar_bytes:
            raise bomb(f"A layer has more than {self._limits.tar_bytes} bytes.")
        return bool(chunk)


def malformed(reason: str) -> ImageMalformed:
    """The archive is not what an archive is."""
    return ImageMalformed(reason, "Build the image again with a current builder and push it again.")


def ends_too_early() -> ImageMalformed:
    """The archive stops within a member."""
    return malformed("A layer's archive ends in the middle of a file.")


def bomb(reason: str) -> EngineBomb:
    """The archive holds more than any honest one does."""
    return EngineBomb(
        reason, "Look at what this layer holds: it may have been made to exhaust whoever opens it."
    )
