"""Archives made to be endless, contradictory or damaged: each gets a bounded and named answer."""

import contextlib
import itertools
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from scanning.engines.layers import Directory, File, LayerLimits, lineage, walk
from scanning.engines.protocol import EngineBomb, ImageMalformed
from tests.fakes.tar_forge import (
    archive,
    base_256,
    file,
    header,
    long_name,
    old_sparse,
    pax,
    pax_sparse,
    record,
    repeated,
    signed,
)
from tests.scanning.walked import Counted, entries, only_file, paths, sha256

TERABYTE = 2**40


# C-T4 to C-T6: more than is there, more than is bearable


def test_c_t4_an_archive_without_end_is_a_bomb() -> None:
    limits = LayerLimits(tar_bytes=10 * 2**20)
    source = Counted(repeated(file(b"zeros", bytes(2**16)), 1_000_000))
    with pytest.raises(EngineBomb) as caught:
        list(walk(source, limits=limits, alive=lambda: None))
    assert caught.value.code == "IMG_BOMB"
    assert source.size < 12 * 2**20


def test_c_t4_an_archive_in_an_archive_is_one_file() -> None:
    inner = archive(file(b"inner", b"x"))
    assert only_file(file(b"outer.tar", inner)).sha256 == sha256(inner)


FORMS: dict[str, Callable[[bytes, int, list[tuple[int, bytes]]], bytes]] = {
    "GNU": old_sparse,
    "PAX 0.0": lambda name, size, pieces: pax_sparse(name, size, pieces, version="0.0"),
    "PAX 0.1": lambda name, size, pieces: pax_sparse(name, size, pieces, version="0.1"),
    "PAX 1.0": pax_sparse,
}


@pytest.mark.parametrize("form", FORMS)
def test_c_t5_a_sparse_file_is_hashed_with_its_holes(form: str) -> None:
    pieces = [(1000 * number, b"%03d" % number * 100) for number in range(1, 31)]
    expected = bytearray(40_000)
    for offset, data in pieces:
        expected[offset : offset + len(data)] = data
    sparse, after = entries(FORMS[form](b"var/log/lastlog", 40_000, pieces), file(b"after", b"x"))
    assert isinstance(sparse, File)
    assert (sparse.path, sparse.size, sparse.offset) == ("var/log/lastlog", 40_000, None)
    assert sparse.sha256 == sha256(bytes(expected))
    assert sparse.head == expected[:4096]
    assert after.path == "after"


@pytest.mark.parametrize("form", FORMS)
def test_c_t5_a_sparse_file_of_terabytes_is_a_malformed_image(form: str) -> None:
    # Eleven octal digits say 8 GiB at most.
    size = 8 * TERABYTE if form != "GNU" else 2**33 - 1
    with pytest.raises(ImageMalformed):
        entries(FORMS[form](b"hole", size, [(0, b"x")]), limits=LayerLimits(tar_bytes=2**32))


def test_c_t5_a_sparse_map_without_end_is_a_malformed_image() -> None:
    endless = header(b"a", flag=b"S", magic=b"ustar  \0", tail=bytes(121 + 96) + b"\1")
    source = Counted(itertools.chain([endless], itertools.repeat(bytes(504) + b"\1" + bytes(7), 1_000_000)))
    with pytest.raises(ImageMalformed, match="too long"):
        list(walk(source, alive=lambda: None))
    assert source.size < 2**21


def test_c_t5_many_holes_are_a_bomb_before_they_are_read() -> None:
    holes = [pax_sparse(b"hole%d" % number, 2**20, []) for number in range(100)]
    with pytest.raises(EngineBomb, match="holes"):
        entries(*holes, limits=LayerLimits(hole_bytes=2**23))


@pytest.mark.parametrize(
    "pieces",
    [
        pax((b"GNU.sparse.map", b"0,5,3,5"), (b"GNU.sparse.size", b"20")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"10,5,0,5"), (b"GNU.sparse.size", b"20")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"0,10"), (b"GNU.sparse.size", b"5")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"0,9"), (b"GNU.sparse.size", b"20")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"0,10,5"), (b"GNU.sparse.size", b"20")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"-5,10"), (b"GNU.sparse.size", b"20")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"0,10"), (b"GNU.sparse.size", b"1_0")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.map", b"0,10")) + header(b"a", flag=b"2"),
        pax((b"GNU.sparse.numbytes", b"10")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.offset", b"0,10")) + file(b"a", b"0123456789"),
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")) + file(b"a", b"9" * 512),
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")) + file(b"a", b"9\n" * 256),
    ],
    ids=[
        "overlap", "backwards", "behind the end", "too little", "odd", "minus", "underscore", "link",
        "no offset", "comma", "endless number", "too few lines",
    ],
)  # fmt: skip
def test_c_t5_a_sparse_map_that_cannot_be_is_a_malformed_image(pieces: bytes) -> None:
    with pytest.raises(ImageMalformed):
        entries(pieces)


@pytest.mark.parametrize(
    "size",
    [
        base_256(8 * TERABYTE),
        b"77777777777\0",
        base_256(-512),
        base_256(-1),
        b"\xff" * 12,
        base_256(2**80),
        b"-0000000001\0",
        b"+0000000001\0",
        b"0o000000001\0",
        b"0000_000001\0",
        b"zzzzzzzzzzz\0",
        b"00000000009\0",
        b"1 1 1 1 1 1\0",
    ],
    ids=repr,
)
def test_c_t5_a_size_that_cannot_be_is_a_malformed_image(size: bytes) -> None:
    with pytest.raises(ImageMalformed):
        entries(header(b"etc/passwd", size=size))


@pytest.mark.parametrize("size", [b"-1", b"1e3", b"9" * 5000, b"1_0", "٣".encode(), b" 5", b"9" * 18])
def test_c_t5_a_pax_size_that_cannot_be_is_a_malformed_image(size: bytes) -> None:
    with pytest.raises(ImageMalformed):
        entries(pax((b"size", size)), file(b"a", b"12345"))


def test_c_t5_a_pax_size_counts_and_not_that_of_the_header() -> None:
    # Who believed the header would read the content as headers of other files.
    smuggled = archive(file(b"smuggled", b"x"))
    entry = only_file(pax((b"size", b"%d" % len(smuggled))), header(b"outer", size=0) + smuggled)
    assert (entry.path, entry.size, entry.sha256) == ("outer", len(smuggled), sha256(smuggled))


def test_c_t5_a_large_number_in_base_256_is_read() -> None:
    assert only_file(header(b"a", size=base_256(5)) + b"12345".ljust(512, b"\0")).sha256 == sha256(b"12345")


def test_c_t5_a_checksum_is_looked_at_and_may_be_one_of_signed_bytes() -> None:
    good = header("größe".encode())
    wrong = good[:150] + bytes([good[150] ^ 1]) + good[151:]
    with pytest.raises(ImageMalformed):
        entries(wrong)
    total = sum(byte - 256 * (byte > 127) for byte in good[:148] + b" " * 8 + good[156:])
    assert paths(good[:148] + b"%06o\0 " % total + good[156:]) == ["größe"]


def test_c_t5_an_archive_may_lack_its_end_but_not_a_part_of_a_file() -> None:
    whole = file(b"a", b"x" * 700) + file(b"b", b"y" * 700)

    def walked(raw: bytes) -> list[str]:
        return [entry.path for entry in walk([raw], alive=lambda: None)]

    assert walked(whole) == ["a", "b"]
    assert walked(whole[:-300]) == ["a", "b"], "the last file's padding is missing"
    for cut in (100, 512, 1000, 1536 + 511, 1536 + 512 + 699):
        with pytest.raises(ImageMalformed):
            walked(whole[:cut])
    with pytest.raises(ImageMalformed, match="after its end"):
        walked(file(b"a") + bytes(512) + file(b"b"))
    with pytest.raises(ImageMalformed, match="without the file"):
        walked(file(b"a") + long_name(b"name") + bytes(1024))


@pytest.mark.parametrize(
    "part", [file(b"x"), header(b"d", flag=b"5"), pax(flag=b"g")], ids=["file", "directory", "global"]
)
def test_c_t6_more_entries_than_a_layer_has_are_a_bomb(part: bytes) -> None:
    source = Counted(repeated(part, 5_000_000))
    limits = LayerLimits(entries=10_000, extensions=20_000)
    with pytest.raises(EngineBomb, match="10000 entries"):
        list(walk(source, limits=limits, alive=lambda: None))
    assert source.size < 12_000 * len(part)


def test_c_t6_a_very_deep_directory_takes_no_quadratic_work() -> None:
    deep = b"/".join([b"d"] * 100_000)
    assert only_file(long_name(deep), file(b"x")).raw_path == deep
    hashes = list(lineage(deep))
    assert len(hashes) == 100_001
    assert hashes[-1] == sha256(deep)


def test_c_t6_a_name_may_come_again_and_as_something_else() -> None:
    first, second, third = entries(file(b"a", b"1"), file(b"a", b"2"), header(b"a", flag=b"5"))
    assert isinstance(first, File)
    assert isinstance(second, File)
    assert isinstance(third, Directory)
    assert first.path_hash == second.path_hash == third.path_hash
    assert first.sha256 != second.sha256


def test_c_t6_memory_does_not_grow_with_the_entries() -> None:
    part = b"".join(file(b"%0200d" % number, bytes(2000)) for number in range(100))
    tracemalloc.start()
    for _entry in walk(repeated(part, 40), alive=lambda: None):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The heads and names alone would be 8.8 MB.
    assert peak < 5 * 2**20


# C-T9: attributes


def test_c_t9_attributes_of_a_hundred_megabytes_are_not_read() -> None:
    source = Counted(
        itertools.chain([header(b"x", flag=b"x", size=100 * 2**20)], repeated(bytes(2**20), 100))
    )
    with pytest.raises(ImageMalformed, match="1048576 bytes"):
        list(walk(source, alive=lambda: None))
    assert source.size < 2**21


def test_c_t9_many_long_attributes_are_a_bomb_and_many_short_ones_are_not() -> None:
    limits = LayerLimits(long_bytes=2**20)
    short = pax((b"SCHILY.xattr.user.a", b"x" * 900)) + file(b"a")
    assert len(list(walk(repeated(short, 2000), limits=limits, alive=lambda: None))) == 2000
    sparse = [(512 * number, b"x") for number in range(200)]
    for long in (
        pax((b"SCHILY.xattr.user.a", b"x" * 2000)) + file(b"a"),
        long_name(b"d/" * 1000) + file(b"a"),
        old_sparse(b"a", 512 * 200, sparse),
        pax_sparse(b"a", 512 * 200, sparse),
    ):
        with pytest.raises(EngineBomb, match="long names"):
            list(walk(repeated(long, 2000), limits=limits, alive=lambda: None))


def test_c_t9_attributes_that_say_nothing_of_place_and_size_are_passed_over() -> None:
    names = [b"SCHILY.xattr.security.%d" % number for number in range(10_000)]
    names += [b"SCHILY.xattr.\xff\xfe", b"SCHILY.xattr.user.a\nb", b"LIBARCHIVE.xattr.%"]
    assert paths(pax(*((name, b"v") for name in names)), file(b"a")) == ["a"]


def test_c_t9_of_equal_attributes_the_last_one_counts_and_an_empty_one_is_none() -> None:
    assert paths(pax((b"path", b"first"), (b"path", b"last")), file(b"decoy")) == ["last"]
    assert paths(pax((b"path", b"first"), (b"path", b"")), file(b"own")) == ["own"]
    assert paths(pax((b"path", b"first")) + pax((b"mtime", b"1")), file(b"own")) == ["own"]


def test_c_t9_global_attributes_are_passed_over_as_by_those_who_run_images() -> None:
    forged = pax((b"path", b"forged"), (b"size", b"512"), flag=b"g")
    assert paths(forged, file(b"a"), file(b"b")) == ["a", "b"]
    assert paths(pax((b"path", b"forgotten")), forged, file(b"a")) == ["a"]
    assert paths(forged) == []


@pytest.mark.parametrize(
    "data",
    [
        b"6 a=b",
        b"99 a=b\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"6  a=b\n",
        b"x a=b\n",
        b"5 ab\n",
        b"5 =b\n",
        b"a=b\n",
        b"9" * 5000,
        b" 6 a=b\n",
        record(b"a", b"b") + b"\0\0",
    ],
)
def test_c_t9_damaged_attributes_are_a_malformed_image(data: bytes) -> None:
    with pytest.raises(ImageMalformed):
        entries(file(b"x", data, flag=b"x"), file(b"a"))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_a_named_error_or_another_tree_and_never_a_crash(data: st.DataObject) -> None:
    parts = [
        file(b"a", b"content"),
        long_name(b"n" * 200),
        file(b"short", b"x" * 600),
        pax((b"path", b"p"), (b"size", b"5")),
        file(b"q", b"12345"),
        old_sparse(b"s", 9000, [(512 * number, b"y" * 5) for number in range(8)]),
        pax_sparse(b"t", 4000, [(600, b"z" * 10)]),
        pax_sparse(b"u", 4000, [(600, b"z" * 10)], version="0.0"),
        header(b"link", flag=b"2", link=b"a"),
    ]
    raw = bytearray(archive(*data.draw(st.permutations(parts))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
        start = at - at % 512
        if data.draw(st.booleans()):
            raw[start : start + 512] = signed(bytes(raw[start : start + 512]))
    limits = LayerLimits(hole_bytes=2**22)
    with contextlib.suppress(ImageMalformed, EngineBomb):
        for entry in walk([bytes(raw)], limits=limits, alive=lambda: None):
            entry.path.encode()
