"""A writer for bbolt files: nested sorted key-value buckets in one file, as Go programs read them.

The format is that of go.etcd.io/bbolt, version 2: fixed-size pages, two meta pages, one freelist page,
then the B+trees. Each tree is built bottom-up from its sorted keys, so every page is written once.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

Bucket: TypeAlias = "Mapping[bytes, bytes | Bucket]"

PAGE_SIZE = 4096
MAGIC = 0xED0CDAED
VERSION = 2
MAX_KEY_SIZE = 32768
BRANCH_PAGE, LEAF_PAGE, META_PAGE, FREELIST_PAGE = 0x01, 0x02, 0x04, 0x10
BUCKET_LEAF = 0x01
FREELIST_ID, FIRST_FREE_ID = 2, 3

PAGE_HEADER = struct.Struct("<QHHI")  # page id, flags, count, overflow pages
LEAF_ELEMENT = struct.Struct("<IIII")  # flags, position from this element, key size, value size
BRANCH_ELEMENT = struct.Struct("<IIQ")  # position from this element, key size, child's page id
BUCKET_HEADER = struct.Struct("<QQ")  # root page id (0: the page follows inline), sequence
META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, freelist, end, txid
INLINE_LIMIT = PAGE_SIZE // 4  # bbolt's own limit for a bucket kept inside its parent's value

Element = TypeVar("Element")
Leaf: TypeAlias = tuple[int, bytes, bytes]
Branch: TypeAlias = tuple[bytes, int]


def write(path: Path, root: Mapping[bytes, Bucket]) -> None:
    """Write `root`, a mapping of bucket name to bucket, as a new bbolt file at `path`.

    Raises ValueError for a key that is empty or longer than 32768 bytes and for a value that is
    neither bytes nor a bucket at a place where one is needed.
    """
    with path.open("wb") as file:
        writer = _Writer(file)
        root_id = writer.tree([(BUCKET_LEAF, key, writer.bucket(root[key])) for key in _sorted_keys(root)])
        writer.finish(root_id)


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash, which bbolt keeps as the checksum of a meta page."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def _sorted_keys(bucket: Bucket) -> list[bytes]:
    keys = sorted(bucket)
    if keys and (not keys[0] or max(map(len, keys)) > MAX_KEY_SIZE):
        raise ValueError("a bbolt key is 1 to 32768 bytes long")
    return keys


def _leaf_body(leaves: Sequence[Leaf]) -> bytes:
    position = LEAF_ELEMENT.size * len(leaves)
    elements, data = bytearray(), bytearray()
    for flags, key, value in leaves:
        elements += LEAF_ELEMENT.pack(flags, position - len(elements) + len(data), len(key), len(value))
        data += key + value
    return bytes(elements + data)


def _branch_body(branches: Sequence[Branch]) -> bytes:
    position = BRANCH_ELEMENT.size * len(branches)
    elements, data = bytearray(), bytearray()
    for key, child in branches:
        elements += BRANCH_ELEMENT.pack(position - len(elements) + len(data), len(key), child)
        data += key
    return bytes(elements + data)


def _pages(sizes: Sequence[int], minimum: int) -> Iterator[slice]:
    """Cut a run of elements into pages no fuller than one page, each with at least `minimum` elements."""
    start, used = 0, PAGE_HEADER.size
    for index, size in enumerate(sizes):
        if index - start >= minimum and used + size > PAGE_SIZE:
            yield slice(start, index)
            start, used = index, PAGE_HEADER.size
        used += size
    yield slice(start, len(sizes))


class _Writer:
    """Appends pages to one file and remembers the next free page id."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._next_id = FIRST_FREE_ID
        self._file.write(bytes(FIRST_FREE_ID * PAGE_SIZE))

    def bucket(self, bucket: "Bucket | bytes") -> bytes:
        """The value a bucket has in its parent: a root page id, or the whole page when it is small."""
        if isinstance(bucket, bytes):
            raise ValueError("bbolt's root holds buckets only")  # noqa: TRY004 - the tree is wrong, not its type
        leaves: list[Leaf] = []
        for key in _sorted_keys(bucket):
            value = bucket[key]
            leaves.append(
                (0, key, value) if isinstance(value, bytes) else (BUCKET_LEAF, key, self.bucket(value))
            )
        body = _leaf_body(leaves)
        nested = any(flags for flags, _, _ in leaves)
        if not nested and PAGE_HEADER.size + len(body) <= INLINE_LIMIT:
            return BUCKET_HEADER.pack(0, 0) + PAGE_HEADER.pack(0, LEAF_PAGE, len(leaves), 0) + body
        return BUCKET_HEADER.pack(self.tree(leaves), 0)

    def tree(self, leaves: Sequence[Leaf]) -> int:
        """Write the B+tree of `leaves`, sorted by key; the id of its root page."""
        sizes = [LEAF_ELEMENT.size + len(key) + len(value) for _, key, value in leaves]
        level = self._level(leaves, sizes, LEAF_PAGE, 1, _leaf_body, lambda leaf: leaf[1])
        while len(level) > 1:
            sizes = [BRANCH_ELEMENT.size + len(key) for key, _ in level]
            level = self._level(level, sizes, BRANCH_PAGE, 2, _branch_body, lambda branch: branch[0])
        return level[0][1]

    def _level(
        self,
        elements: Sequence[Element],
        sizes: Sequence[int],
        flags: int,
        minimum: int,
        body: Callable[[Sequence[Element]], bytes],
        key_of: Callable[[Element], bytes],
    ) -> list[Branch]:
        parents: list[Branch] = []
        for part in _pages(sizes, minimum):
            chosen = elements[part]
            parents.append(
                (key_of(chosen[0]) if chosen else b"", self._page(flags, len(chosen), body(chosen)))
            )
        return parents

    def _page(self, flags: int, count: int, body: bytes) -> int:
        page_id = self._next_id
        span = -(-(PAGE_HEADER.size + len(body)) // PAGE_SIZE)
        page = PAGE_HEADER.pack(page_id, flags, count, span - 1) + body
        self._file.write(page.ljust(span * PAGE_SIZE, b"\0"))
        self._next_id += span
        return page_id

    def finish(self, root_id: int) -> None:
        """Fill in the first three pages: both metas and an empty freelist."""
        self._file.seek(0)
        for page_id in (0, 1):
            # The reader takes the valid meta with the higher transaction id, so the two differ by one.
            meta = META.pack(MAGIC, VERSION, PAGE_SIZE, 0, root_id, 0, FREELIST_ID, self._next_id, page_id)
            page = PAGE_HEADER.pack(page_id, META_PAGE, 0, 0) + meta + struct.pack("<Q", fnv1a(meta))
            self._file.write(page.ljust(PAGE_SIZE, b"\0"))
        self._file.write(PAGE_HEADER.pack(FREELIST_ID, FREELIST_PAGE, 0, 0).ljust(PAGE_SIZE, b"\0"))
