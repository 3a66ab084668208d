"""The bbolt reader: whatever the writer wrote comes back, and what is no such file is refused."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from scanning.engines import bolt

KEYS = st.binary(min_size=1, max_size=40)
PAIRS = st.dictionaries(KEYS, st.binary(max_size=6_000), max_size=40)


@given(wanted=PAIRS, other=PAIRS)
@settings(max_examples=60, deadline=None)
def test_one_bucket_is_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[bytes, bytes], other: dict[bytes, bytes]
) -> None:
    path = tmp_path_factory.mktemp("bolt") / "file.db"
    bolt.write(path, {b"other": other, b"wanted": {**wanted, b"inner" * 9: {b"key": b"value"}}})
    assert list(bolt.read(path, b"wanted")) == sorted(wanted.items())
    assert list(bolt.read(path, b"missing")) == []


@pytest.mark.parametrize(("keys", "size"), [(5_000, 30), (700, 2_500), (3, 40_000), (0, 0)])
def test_trees_of_several_levels_and_values_over_several_pages_are_read_back(
    tmp_path: Path, keys: int, size: int
) -> None:
    bucket = {b"%06d" % number: bytes([number % 251]) * size for number in range(keys)}
    bolt.write(tmp_path / "file.db", {b"large": bucket})
    assert dict(bolt.read(tmp_path / "file.db", b"large")) == bucket


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 20_000, bytes(20_000)])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.db").write_bytes(content)
    with pytest.raises(ValueError, match="bbolt"):
        list(bolt.read(tmp_path / "file.db", b"bucket"))


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    bolt.write(path, {b"bucket": {b"%06d" % number: b"v" * 100 for number in range(500)}})
    whole = path.read_bytes()
    for pages in range(2, len(whole) // bolt.PAGE_SIZE):
        path.write_bytes(whole[: pages * bolt.PAGE_SIZE])
        with pytest.raises(ValueError, match="bbolt"):
            list(bolt.read(path, b"bucket"))


def test_pages_that_go_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    bolt.write(path, {b"bucket": {b"%06d" % number: b"v" * 100 for number in range(500)}})
    content = bytearray(path.read_bytes())
    for start in range(0, len(content), bolt.PAGE_SIZE):
        page_id, flags, count, _ = bolt.PAGE_HEADER.unpack_from(content, start)
        for index in range(count if flags == bolt.BRANCH_PAGE else 0):
            at = start + bolt.PAGE_HEADER.size + index * bolt.BRANCH_ELEMENT.size
            struct.pack_into("<Q", content, at + 8, page_id)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="circle"):
        list(bolt.read(path, b"bucket"))
