"""One streaming pass over a layer's raw tar: files with their hashes, whiteouts, links; nothing is written.

A layer's content is never extracted, so its names lead nowhere and its links are not followed.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from scanning.engines.tar_members import Kind, Member, content, members
from scanning.engines.tar_stream import ByteSource, LayerLimits, Readable
from tcss.text import clean_text

HEAD_BYTES = 4096
PATH_CHARACTERS = 1024
"""As many characters of a path as are shown; a longer one ends in a mark and a hash."""

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
# An empty component, "." or "..": what a path in its plain form has not.
_NOT_PLAIN = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a layer's file system.

    `raw_path` is the path from the root, without a leading slash, as bytes; "." and ".." are resolved without
    looking at links, and the root is empty. `path` is the same as clean text of at most 1,024 characters, and
    `path_hash` its SHA-256 in 64 hex digits, by which the same place is known in other layers.
    """

    path: str
    path_hash: str
    raw_path: bytes


@dataclass(frozen=True, slots=True)
class FileHeader(Place):
    """A regular file before its content was read.

    `size` is what the header says, in bytes. `offset` is where the content begins in the raw tar; None when
    it is not there in one piece, as a sparse file's.
    """

    size: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class File(FileHeader):
    """A regular file, its content's hashes in hex digits and its first 4 KiB."""

    sha256: str
    md5: str
    head: bytes


@dataclass(frozen=True, slots=True)
class Directory(Place):
    """A directory. One of a lower layer stays, with what is in it."""


@dataclass(frozen=True, slots=True)
class Link(Place):
    """A symbolic or a hard link. `target` is clean text as the archive has it, and may be anything."""

    target: str
    is_hard: bool


@dataclass(frozen=True, slots=True)
class Whiteout(Place):
    """What stands here in lower layers is gone, with all that is below it."""


@dataclass(frozen=True, slots=True)
class OpaqueDirectory(Place):
    """What is in this directory in lower layers is gone; the directory itself stays."""


@dataclass(frozen=True, slots=True)
class Special(Place):
    """A device, a pipe, a whiteout of nothing, or a kind of member that no image has."""


LayerEntry = File | Directory | Link | Whiteout | OpaqueDirectory | Special

# Asked about every regular file; takes the file's content piece by piece, or is not interested.
Sink = Callable[[FileHeader], Callable[[bytes], None] | None]


def walk(
    stream: Readable | Iterable[bytes],
    *,
    alive: Callable[[], None],
    limits: LayerLimits = LayerLimits(),  # noqa: B008 (frozen)
    sink: Sink | None = None,
) -> Iterator[LayerEntry]:
    """Everything a layer's uncompressed tar holds, in its order, from one reading of `stream`.

    A file is given after its whole content went through `sink`; when an error ends the walk, the content that
    was being read is incomplete. A name may come several times: the last one counts. `alive` is called at
    least once for every MiB and may raise what ends the walk. Memory does not grow with the layer.

    Raises ImageMalformed when the bytes are not a sound archive and EngineBomb when there is more than
    `limits` allow, each with what was found until then already given.
    """
    source = ByteSource(stream, limits, alive)
    for member in members(source, limits):
        raw_path = _plain(member.name)
        special = _whiteout(raw_path)
        if special is not None:
            yield special
        elif member.kind is Kind.FILE:
            yield _file(raw_path, member, source, sink)
        elif member.kind is Kind.DIRECTORY:
            yield Directory(*_place(raw_path))
        elif member.kind is Kind.SPECIAL:
            yield Special(*_place(raw_path))
        else:
            target = clean_text(member.link, PATH_CHARACTERS)
            yield Link(*_place(raw_path), target=target, is_hard=member.kind is Kind.HARD_LINK)


def whiteouts(
    stream: Readable | Iterable[bytes],
    *,
    alive: Callable[[], None],
    limits: LayerLimits = LayerLimits(),  # noqa: B008 (frozen)
) -> Iterator[Whiteout | OpaqueDirectory]:
    """What a layer says of the layers below it, from its headers alone; else as `walk`."""
    for member in members(ByteSource(stream, limits, alive), limits):
        special = _whiteout(_plain(member.name))
        if isinstance(special, Whiteout | OpaqueDirectory):
            yield special


def lineage(raw_path: bytes) -> Iterator[str]:
    """The path hashes of the root, of each directory above a path, and last of the path itself.

    A file of a lower layer is gone when a higher one has a Whiteout, a Link, a File or a Special at any of
    them but the root, an OpaqueDirectory at any but the last, or a Directory at the last.
    """
    digest = hashlib.sha256()
    yield digest.hexdigest()
    separator = b""
    for part in raw_path.split(b"/") if raw_path else ():
        digest.update(separator + part)
        separator = b"/"
        yield digest.hexdigest()


def _file(raw_path: bytes, member: Member, source: ByteSource, sink: Sink | None) -> File:
    place = _place(raw_path)
    offset = member.offset if member.pieces is None else None
    take = sink(FileHeader(*place, member.size, offset)) if sink else None
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False)
    head = b""
    for piece in content(source, member):
        sha256.update(piece)
        md5.update(piece)
        if len(head) < HEAD_BYTES:
            head += piece[: HEAD_BYTES - len(head)]
        if take is not None:
            take(bytes(piece))
    return File(*place, member.size, offset, sha256.hexdigest(), md5.hexdigest(), head)


def _whiteout(raw_path: bytes) -> LayerEntry | None:
    """What a path says about lower layers, if it does; the kind of its member does not matter."""
    directory, slash, name = raw_path.rpartition(b"/")
    if not name.startswith(_WHITEOUT):
        return None
    if name == _OPAQUE:
        return OpaqueDirectory(*_place(directory))
    gone = name.removeprefix(_WHITEOUT)
    if gone in (b"", b".", b".."):
        return Special(*_place(raw_path))
    return Whiteout(*_place(directory + slash + gone))


def _place(raw_path: bytes) -> tuple[str, str, bytes]:
    return clean_text(raw_path, PATH_CHARACTERS), hashlib.sha256(raw_path).hexdigest(), raw_path


def _plain(name: bytes) -> bytes:
    """A member's name as a path from the root that no ".." leads out of."""
    if _NOT_PLAIN.search(name) is None:
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)
