"""Reads a tar archive as a stream of members: ustar, GNU and PAX headers, nothing believed, all bounded.

What a header means is taken as Go's `archive/tar` takes it, since the programs that run images are built on
that: a reader that understands a size or a name in another way would look at other files than those that run.
The formats are described in POSIX.1-2001 (pax) and in the manual of GNU tar, "Tar Internals".
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from scanning.engines.tar_fields import OCTAL, attributes, check, decimal, number, text
from scanning.engines.tar_sparse import Pieces, check_pieces, listed_pieces, old_pieces
from scanning.engines.tar_stream import (
    BLOCK_BYTES,
    ByteSource,
    LayerLimits,
    bomb,
    ends_too_early,
    malformed,
)

_TIME = re.compile(rb"[\x80-\xff]|" + OCTAL.pattern)
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _GNU_SPARSE = b"L", b"K", b"x", b"g", b"S"
_EXTENSIONS = frozenset((_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL))
# Nothing follows the header of these, whatever size it gives.
_WITHOUT_CONTENT = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))


class Kind(enum.Enum):
    """What a member is; SPECIAL is a device, a pipe, or something no image has."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    SYMBOLIC_LINK = enum.auto()
    HARD_LINK = enum.auto()
    SPECIAL = enum.auto()


_KINDS: Final = {
    b"0": Kind.FILE,
    b"7": Kind.FILE,
    _GNU_SPARSE: Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMBOLIC_LINK,
    b"5": Kind.DIRECTORY,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the archive has it.

    `size` is that of the content; `stored` bytes of it are in the archive, from `offset` on. `pieces` tells
    where in the content they belong (offset, length); it is None when they are the content.
    """

    name: bytes
    kind: Kind
    link: bytes
    size: int
    stored: int
    offset: int
    pieces: Pieces | None


def members(source: ByteSource, limits: LayerLimits) -> Iterator[Member]:
    """Every member of the archive; what its consumer did not read of a content is skipped.

    An archive may end without its two empty blocks, and what follows them is not read. Raises ImageMalformed
    and EngineBomb.
    """
    extension = _Extension()
    for count, block in enumerate(_headers(source)):
        if count >= limits.entries:
            raise bomb(f"A layer has more than {limits.entries} entries.")
        if block[156:157] in _EXTENSIONS:
            extension = _extended(extension, block, source, limits)
            continue
        member = _member(block, extension, source, limits)
        if extension.count:
            extension = _Extension()
        yield member
        unread = member.offset + member.stored - source.position
        if unread and source.skip(unread):
            raise ends_too_early()
        # The last member may lack its padding.
        source.skip(-member.stored % BLOCK_BYTES)
    if extension.name or extension.link or extension.records:
        raise malformed("A layer's archive ends after a long name, without the file that it names.")


def content(source: ByteSource, member: Member) -> Iterator[memoryview]:
    """A file's content in pieces, right after `members` gave it. Raises ImageMalformed when it is cut."""
    if member.pieces is None:
        yield from _stored(source, member.stored)
        return
    at = 0
    for offset, length in member.pieces:
        yield from source.hole(offset - at)
        yield from _stored(source, length)
        at = offset + length
    yield from source.hole(member.size - at)


def _stored(source: ByteSource, size: int) -> Iterator[memoryview]:
    while size > 0:
        piece = source.piece(size)
        if not piece:
            raise ends_too_early()
        size -= len(piece)
        yield piece


@dataclass(slots=True)
class _Extension:
    """What the headers before a member say about it."""

    count: int = 0
    name: bytes = b""
    link: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)


def _headers(source: ByteSource) -> Iterator[bytes]:
    while block := source.take(BLOCK_BYTES):
        if block == _ZERO_BLOCK:
            if source.take(BLOCK_BYTES).strip(b"\0"):
                raise malformed("A layer's archive goes on after its end.")
            return
        if len(block) < BLOCK_BYTES:
            raise malformed("A layer is not a tar archive, or was cut.")
        check(block)
        yield block


def _extended(extension: _Extension, block: bytes, source: ByteSource, limits: LayerLimits) -> _Extension:
    """What is known of the next member after one more extension header."""
    size = number(block[124:136])
    if size > limits.extension_bytes:
        raise malformed(f"A file's name or attributes take more than {limits.extension_bytes} bytes.")
    extension.count += 1
    if extension.count > limits.extensions:
        raise malformed(f"A file has more than {limits.extensions} headers for its name and attributes.")
    source.count_extension(size)
    data = source.exactly(size)
    source.skip(-size % BLOCK_BYTES)
    kind = block[156:157]
    if kind == _PAX:
        extension.records = attributes(data)
    elif kind == _LONG_NAME:
        extension.name = text(data)
    elif kind == _LONG_LINK:
        extension.link = text(data)
    else:
        # Those who run images pass a global header over, and forget what stood before it.
        attributes(data)
        return _Extension(count=extension.count)
    return extension


def _member(block: bytes, extension: _Extension, source: ByteSource, limits: LayerLimits) -> Member:
    records = extension.records
    flag = block[156:157]
    name = extension.name or records.get(b"path") or _short_name(block)
    if flag == b"\0":
        flag = b"5" if name.endswith(b"/") else b"0"
    stored = number(block[124:136])
    if claimed := records.get(b"size"):
        stored = decimal(claimed)
    if flag in _WITHOUT_CONTENT:
        stored = 0
    size = stored
    pieces = None
    if flag == _GNU_SPARSE:
        size = number(block[483:495])
        pieces = old_pieces(block, source, limits)
    elif records:
        begins = source.position
        pieces = listed_pieces(records, source, stored, limits)
        if pieces is not None:
            stored -= source.position - begins
            name = records.get(b"GNU.sparse.name") or name
            if claimed := records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize"):
                size = decimal(claimed)
    if pieces is not None:
        if flag in _WITHOUT_CONTENT:
            raise malformed("What is no file has the attributes of a sparse file.")
        check_pieces(pieces, size, stored, limits)
        source.expect_holes(size - stored)
    return Member(
        name=name,
        kind=_KINDS.get(flag, Kind.SPECIAL),
        link=extension.link or records.get(b"linkpath") or text(block[157:257]),
        size=size,
        stored=stored,
        offset=source.position,
        pieces=pieces,
    )


def _short_name(block: bytes) -> bytes:
    name = text(block[:100])
    prefix = b""
    if block[257:263] == b"ustar\0":
        prefix = text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    elif block[257:265] == b"ustar  \0" and not _TIME.match(block[345:357]):
        # Programs built with Go before 1.8 put a prefix where GNU's format has a time.
        prefix = text(block[345:500])
        if not prefix.isascii():
            return name
    return prefix + b"/" + name if prefix else name
