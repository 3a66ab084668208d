"""The fields of tar headers: texts, numbers, checksums, and the attributes of PAX headers."""

import re
from zlib import adler32

from scanning.engines.tar_stream import malformed

OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0]*\Z|\0)")
_SPARSE_PIECE = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_LARGEST_SIZE = 2**63 - 1
_MANY_DIGITS = 19


def text(field: bytes) -> bytes:
    """A text of a header, which ends at the first zero byte."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def number(field: bytes) -> int:
    """A number of a header, octal or in base 256. Raises ImageMalformed for all that is no size."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        # The next bit is the sign.
        if field[0] & 0x40 or value > _LARGEST_SIZE:
            raise malformed("A file's size is not a number that a size can be.")
        return value
    match = OCTAL.match(field)
    if match is None:
        raise malformed("A file's size is not a number.")
    return int(match[1] or b"0", 8)


def decimal(digits: bytes) -> int:
    """A number as attributes and sparse maps have it. Raises ImageMalformed."""
    if not digits.isdigit() or len(digits) > _MANY_DIGITS:
        raise malformed("A file's size is not a number that a size can be.")
    return int(digits)


def attributes(data: bytes) -> dict[bytes, bytes]:
    """The attributes of a PAX header that matter here; of several with one key the last one.

    The map of a sparse file of version 0.0, one attribute a number, becomes that of version 0.1. Raises
    ImageMalformed.
    """
    found: dict[bytes, bytes] = {}
    sparse_map: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _MANY_DIGITS)
        digits = data[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise malformed("A file's attributes are damaged.")
        if key in _SPARSE_PIECE:
            if key != _SPARSE_PIECE[len(sparse_map) % 2] or not value.isdigit():
                raise malformed("The map of a sparse file is damaged.")
            sparse_map.append(value)
        elif key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            found[key] = value
        at = end
    if sparse_map:
        found[b"GNU.sparse.map"] = b",".join(sparse_map)
    return found


def check(block: bytes) -> None:
    """Compare a header's bytes with their sum in it. Raises ImageMalformed."""
    claimed = OCTAL.match(block[148:156])
    counted = block[:148] + b"        " + block[156:]
    # The low half of Adler-32 is one more than the sum of the bytes, modulo 65521, which the bytes of half a
    # header do not reach: a sum without a loop in Python.
    found = (adler32(counted[:256]) & 0xFFFF) + (adler32(counted[256:]) & 0xFFFF) - 2
    if claimed is not None and int(claimed[1] or b"0", 8) == found:
        return
    # Some old programs took the bytes for signed ones.
    above = sum(byte > 0x7F for byte in counted)
    if claimed is None or int(claimed[1] or b"0", 8) != found - 0x100 * above:
        raise malformed("A layer is not a tar archive, or was damaged.")
