"""Writes and reads bbolt files: nested sorted key-value buckets in one file, as Go programs keep them.

The format is that of go.etcd.io/bbolt, version 2: fixed-size pages, two meta pages, one freelist page,
then the B+trees. Each tree is built bottom-up from its sorted keys, so every page is written once.
"""

import io
import mmap
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


def read(path: Path, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of one bucket of the file's root, sorted; none where there is no such bucket.

    Buckets inside it are left out. Raises ValueError for what is not a bbolt file that was closed in order.
    """
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) < 2 * PAGE_SIZE:
            raise ValueError("too short for a bbolt file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                yield from _Reader(content).entries(bucket)
            except struct.error as error:
                raise ValueError("a bbolt file that ends in the middle") from error


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


class _Reader:
    """Walks the trees of one mapped file; every page is visited once, so that no circle is endless."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._visited: set[int] = set()
        self._page_size = PAGE_SIZE
        # The second meta page is where the first one says that pages end.
        first = self._meta(0)
        self._page_size = first[0]
        if self._page_size < META.size or self._page_size & (self._page_size - 1):
            raise ValueError("a bbolt file of an impossible page size")
        self._root_id = max(first, self._meta(self._page_size), key=lambda meta: meta[2])[1]

    def _meta(self, start: int) -> tuple[int, int, int]:
        """Page size, page id of the root, and transaction id."""
        start += PAGE_HEADER.size
        body = self._slice(start, META.size)
        (checksum,) = struct.unpack("<Q", self._slice(start + META.size, 8))
        magic, version, page_size, _, root_id, _, _, _, transaction = META.unpack(body)
        if (magic, version, checksum) != (MAGIC, VERSION, fnv1a(body)):
            raise ValueError("not a bbolt file of version 2")
        return page_size, root_id, transaction

    def entries(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        for flags, name, value in self._tree(self._root_id):
            if flags & BUCKET_LEAF and name == bucket:
                root_id, _ = BUCKET_HEADER.unpack_from(value)
                inline = value[BUCKET_HEADER.size :]
                leaves = self._tree(root_id) if root_id else _leaves(inline, 0, len(inline))
                yield from ((key, content) for kind, key, content in leaves if not kind & BUCKET_LEAF)
                return

    def _tree(self, page_id: int) -> Iterator[Leaf]:
        if page_id in self._visited:
            raise ValueError("a bbolt file whose pages go in a circle")
        self._visited.add(page_id)
        start = page_id * self._page_size
        number, flags, count, overflow = PAGE_HEADER.unpack(self._slice(start, PAGE_HEADER.size))
        if number != page_id:
            raise ValueError("a bbolt file with a page in another's place")
        if flags & LEAF_PAGE:
            yield from _leaves(self._content, start, start + (overflow + 1) * self._page_size)
        elif flags & BRANCH_PAGE:
            for index in range(count):
                at = start + PAGE_HEADER.size + index * BRANCH_ELEMENT.size
                _, _, child = BRANCH_ELEMENT.unpack(self._slice(at, BRANCH_ELEMENT.size))
                yield from self._tree(child)
        else:
            raise ValueError("a bbolt file with a page of another kind in a tree")

    def _slice(self, start: int, length: int) -> bytes:
        return _slice(self._content, start, length, len(self._content))


def _leaves(content: bytes | mmap.mmap, start: int, end: int) -> Iterator[Leaf]:
    """The elements of the leaf page at `start`, which ends before `end`."""
    _, _, count, _ = PAGE_HEADER.unpack(_slice(content, start, PAGE_HEADER.size, end))
    for index in range(count):
        at = start + PAGE_HEADER.size + index * LEAF_ELEMENT.size
        flags, position, key_size, value_size = LEAF_ELEMENT.unpack(
            _slice(content, at, LEAF_ELEMENT.size, end)
        )
        key = _slice(content, at + position, key_size, end)
        yield flags, key, _slice(content, at + position + key_size, value_size, end)


def _slice(content: bytes | mmap.mmap, start: int, length: int, end: int) -> bytes:
    if start + length > min(end, len(content)):
        raise ValueError("a bbolt file with an element beyond its page")
    return content[start : start + length]
