"""The maps of sparse files in tar archives: which pieces of a content are there, and which are holes.

All of GNU's formats are read: its own header ("S") and the PAX attributes of versions 0.0, 0.1 and 1.0. They
are described in the manual of GNU tar, "Storing Sparse Files".
"""

from collections.abc import Mapping
from itertools import pairwise

from scanning.engines.tar_fields import decimal, number
from scanning.engines.tar_stream import BLOCK_BYTES, ByteSource, LayerLimits, malformed

Pieces = tuple[tuple[int, int], ...]


def listed_pieces(
    records: Mapping[bytes, bytes], source: ByteSource, stored: int, limits: LayerLimits
) -> Pieces | None:
    """The map that a member's attributes tell of, or None when it is not sparse.

    That of version 1.0 stands before the content and is taken from `source`. Raises ImageMalformed.
    """
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    listed = records.get(b"GNU.sparse.map", b"")
    if version == (b"1", b"0"):
        return _leading_pieces(source, stored, limits)
    if version in ((b"0", b"0"), (b"0", b"1")) or (version == (b"", b"") and listed):
        return _pairs(listed.split(b",") if listed else [])
    return None


def _pairs(numbers: list[bytes]) -> Pieces:
    if len(numbers) % 2:
        raise malformed("The map of a sparse file is damaged.")
    return tuple(
        (decimal(numbers[index]), decimal(numbers[index + 1])) for index in range(0, len(numbers), 2)
    )


def _leading_pieces(source: ByteSource, stored: int, limits: LayerLimits) -> Pieces:
    """The map of version 1.0: decimal lines in whole blocks before the content."""
    text = bytearray()
    lines = expected = 0
    while not lines or lines < expected:
        if len(text) + BLOCK_BYTES > min(stored, limits.extension_bytes):
            raise malformed("The map of a sparse file is damaged or too long.")
        block = source.exactly(BLOCK_BYTES)
        text += block
        lines += block.count(b"\n")
        if lines and not expected:
            expected = 1 + 2 * decimal(bytes(text[: text.index(b"\n")]))
    source.count_extension(len(text))
    return _pairs(bytes(text).split(b"\n", expected)[1:expected])


def old_pieces(block: bytes, source: ByteSource, limits: LayerLimits) -> Pieces:
    """The map of GNU's own sparse member: four pieces in the header, more in blocks that follow it."""
    pieces: list[tuple[int, int]] = []
    entries, goes_on = block[386:482], block[482]
    begins = source.position
    while True:
        for at in range(0, len(entries), 24):
            if entries[at] == 0:
                break
            pieces.append((number(entries[at : at + 12]), number(entries[at + 12 : at + 24])))
        read = source.position - begins
        if not goes_on:
            source.count_extension(read)
            return tuple(pieces)
        if read > limits.extension_bytes:
            raise malformed("The map of a sparse file is too long.")
        following = source.exactly(BLOCK_BYTES)
        entries, goes_on = following[:504], following[504]


def check_pieces(pieces: Pieces, size: int, stored: int, limits: LayerLimits) -> None:
    """Raise ImageMalformed unless the pieces stand in order in `size` bytes and are all the `stored` ones."""
    if size > limits.tar_bytes:
        raise malformed("A sparse file says that it is larger than a layer can be.")
    ends = [0, *(offset + length for offset, length in pieces), size]
    begins = [*(offset for offset, _ in pieces), size]
    in_order = all(end <= begin for end, begin in zip(ends, begins, strict=False))
    ascending = all(first <= second for first, second in pairwise(ends))
    if not in_order or not ascending or sum(length for _, length in pieces) != stored:
        raise malformed("The map of a sparse file is damaged.")
