"""Forges tar archives byte by byte: every header field may lie, and an archive may never end."""

import io
import tarfile
from collections.abc import Iterable, Iterator

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    *,
    size: int | bytes = 0,
    flag: bytes = b"0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    mode: bytes = b"0000644\0",
    user: bytes = b"0000000\0",
    time: bytes = b"00000000000\0",
    tail: bytes = b"",
) -> bytes:
    """One header block with the right checksum; `tail` takes the place of everything after the magic."""
    digits = b"%011o\0" % size if isinstance(size, int) else size
    start = name[:100].ljust(100, b"\0") + mode + user + b"0000000\0" + digits + time
    end = tail or bytes(80) + prefix
    block = start + b" " * 8 + flag + link[:100].ljust(100, b"\0") + magic.ljust(8, b"\0") + end
    return signed(block.ljust(BLOCK, b"\0"))


def signed(block: bytes) -> bytes:
    """The same header with the checksum that its bytes have."""
    counted = block[:148] + b" " * 8 + block[156:BLOCK]
    return block[:148] + b"%06o\0 " % sum(counted) + block[156:]


def padded(content: bytes) -> bytes:
    """A content in whole blocks."""
    return content + bytes(-len(content) % BLOCK)


def file(name: bytes, content: bytes = b"", **fields: object) -> bytes:
    """A regular file, or what `flag` makes of it, with its content after it."""
    return header(name, **{"size": len(content), **fields}) + padded(content)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    """One attribute as PAX writes it; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def pax(*attributes: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    """A PAX header with these attributes for the member that follows."""
    return file(b"PaxHeaders/x", b"".join(record(*each) for each in attributes), flag=flag)


def long_name(name: bytes, *, flag: bytes = b"L") -> bytes:
    """GNU's header for the name (or with `flag` K for the link) of the member that follows."""
    return file(b"././@LongLink", name + b"\0", flag=flag, magic=b"ustar  \0")


def base_256(number: int) -> bytes:
    """A number as GNU writes what has too many octal digits, also a negative one."""
    return (number + (0x80 << 88 if number >= 0 else 1 << 96)).to_bytes(12, "big")


def old_sparse(name: bytes, size: int, pieces: list[tuple[int, bytes]]) -> bytes:
    """A sparse file in GNU's own header, with blocks for the pieces that do not fit into it."""
    entries = [b"%011o\0%011o\0" % (offset, len(data)) for offset, data in pieces]
    head, rest = entries[:4], entries[4:]
    more = bytes([bool(rest)])
    stored = b"".join(data for _, data in pieces)
    archive = header(
        name,
        size=len(stored),
        flag=b"S",
        magic=b"ustar  \0",
        tail=bytes(121) + b"".join(head).ljust(96, b"\0") + more + b"%011o\0" % size,
    )
    while rest:
        head, rest = rest[:21], rest[21:]
        archive += (b"".join(head).ljust(504, b"\0") + bytes([bool(rest)])).ljust(BLOCK, b"\0")
    return archive + padded(stored)


def pax_sparse(name: bytes, size: int, pieces: list[tuple[int, bytes]], *, version: str = "1.0") -> bytes:
    """A sparse file in one of the three ways that GNU writes it with PAX attributes."""
    stored = b"".join(data for _, data in pieces)
    numbers = [b"%d" % number for offset, data in pieces for number in (offset, len(data))]
    attributes = [(b"GNU.sparse.name", name), (b"GNU.sparse.size", b"%d" % size)]
    if version == "1.0":
        attributes = [(b"GNU.sparse.name", name), (b"GNU.sparse.realsize", b"%d" % size)]
        attributes += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
        stored = padded(b"%d\n" % len(pieces) + b"".join(number + b"\n" for number in numbers)) + stored
    elif version == "0.1":
        attributes += [(b"GNU.sparse.map", b",".join(numbers))]
    else:
        keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        attributes += [(keys[index % 2], number) for index, number in enumerate(numbers)]
    return pax(*attributes) + file(b"GNUSparseFile.0/x", stored)


def archive(*parts: bytes) -> bytes:
    """The parts with the two empty blocks at the end."""
    return b"".join(parts) + END


def repeated(part: bytes, count: int) -> Iterator[bytes]:
    """An archive of the same part `count` times, made while it is read."""
    at_once = max(1, 2**20 // len(part))
    for _ in range(count // at_once):
        yield part * at_once
    yield part * (count % at_once) + END


def by_python(members: Iterable[tuple[tarfile.TarInfo, bytes]], layout: int) -> bytes:
    """An archive as Python's own library writes it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=layout, errors="surrogateescape") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()
