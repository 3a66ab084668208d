"""The walk through one layer: the same as others see, whatever its names, links and whiteouts are."""

import hashlib
import io
import itertools
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from demo.catalog import Catalog
from demo.plants import eicar
from scanning.contents import ContentError
from scanning.engines.layers import (
    Directory,
    File,
    FileHeader,
    LayerEntry,
    Link,
    OpaqueDirectory,
    Special,
    Whiteout,
    lineage,
    walk,
)
from scanning.engines.protocol import ImageMalformed
from scanning.unpacking import Bounds, unpack
from tests.fakes.tar_forge import archive, by_python, file, header, long_name, pax, pax_sparse, repeated
from tests.scanning.walked import Counted, Listener, entries, only_file, paths, sha256

OPAQUE = b".wh..wh..opq"


# What an honest layer holds


def test_a_file_comes_with_its_size_its_hashes_its_head_and_its_place_in_the_archive() -> None:
    content = bytes(range(256)) * 100
    raw = archive(file(b"./etc/one", content), file(b"two"))
    one, two = walk([raw], alive=lambda: None)
    assert (
        one
        == File(
            path="etc/one",
            path_hash=sha256(b"etc/one"),
            raw_path=b"etc/one",
            size=25_600,
            offset=512,
            sha256=sha256(content),
            md5=hashlib.md5(content).hexdigest(),  # noqa: S324
            head=content[:4096],
        )
    )
    assert raw[512 : 512 + 25_600] == content
    assert isinstance(two, File)
    assert (two.size, two.sha256, two.head) == (0, sha256(b""), b"")


def test_a_content_is_heard_by_who_asks_for_it_and_by_nobody_else() -> None:
    heard: list[bytes] = []

    def sink(asked: FileHeader) -> Callable[[bytes], None] | None:
        return heard.append if asked.size > 3 else None

    raw = archive(file(b"a", b"one"), file(b"b", b"three"), file(b"c", b"two"))
    walked = list(walk([raw], sink=sink, alive=lambda: None))
    assert b"".join(heard) == b"three"
    assert [entry.path for entry in walked] == ["a", "b", "c"]


@pytest.mark.parametrize("empty", [b"", bytes(512), bytes(1024), bytes(10_240)], ids=len)
def test_c_m9_a_layer_without_entries_is_no_error(empty: bytes) -> None:
    assert list(walk([empty] if empty else [], alive=lambda: None)) == []


@pytest.mark.parametrize("content", [b"hello", b"\0" * 511, b"x" * 4096, bytes(range(256)) * 8], ids=len)
def test_c_m9_what_is_no_tar_is_a_malformed_image(content: bytes) -> None:
    with pytest.raises(ImageMalformed) as caught:
        list(walk([content], alive=lambda: None))
    assert caught.value.code == "IMG_MALFORMED"
    assert caught.value.remedy


def test_the_walk_ends_when_the_work_has_to_stop() -> None:
    beats = itertools.count()

    def alive() -> None:
        if next(beats) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(walk(repeated(file(b"a", bytes(4096)), 100_000), alive=alive))
    assert next(beats) == 4


def test_work_that_has_to_stop_stops_within_the_hole_of_a_sparse_file() -> None:
    beats = itertools.count()

    def alive() -> None:
        if next(beats) == 20:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(walk([archive(pax_sparse(b"hole", 2**30, []))], alive=alive))


# C-T1 to C-T3: names, links, devices


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"../../x", "x"),
        (b"/abs", "abs"),
        (b"C:\\x", "C:\\x"),
        (b"a/../../b", "b"),
        (b"./", ""),
        (b"", ""),
        (b".", ""),
        (b"..", ""),
        (b"a//b/./c/", "a/b/c"),
        (b"...", "..."),
        (b"a/..b/c..", "a/..b/c.."),
    ],
)
def test_c_t1_a_name_leads_to_a_place_below_the_root(name: bytes, path: str) -> None:
    (entry,) = entries(file(name, b"x"))
    assert entry.path == path
    assert entry.path_hash == sha256(path.encode())


@pytest.mark.parametrize("length", [101, 5_000, 1_000_000])
@pytest.mark.parametrize("extend", [long_name, lambda name: pax((b"path", name))], ids=["GNU", "PAX"])
def test_c_t1_a_long_name_is_shown_cut_and_known_by_its_hash(
    length: int, extend: Callable[[bytes], bytes]
) -> None:
    name = b"x" * length
    entry = only_file(extend(name), file(b"short", b"content"))
    assert entry.raw_path == name
    assert entry.path_hash == sha256(name)
    assert len(entry.path) == min(length, 1024)
    assert entry.sha256 == sha256(b"content")


def test_c_t1_a_name_of_two_mebibytes_is_a_malformed_image() -> None:
    with pytest.raises(ImageMalformed, match="1048576 bytes"):
        entries(long_name(b"x" * 2**21), file(b"short"))


def test_c_t1_a_pax_path_overrides_the_header_and_holds_for_one_file_only() -> None:
    assert paths(pax((b"path", b"../real")), file(b"decoy"), file(b"next")) == ["real", "next"]


def test_c_t1_of_several_long_names_the_last_one_counts_and_an_endless_chain_is_refused() -> None:
    chain = [long_name(b"name%d" % number) for number in range(8)]
    assert paths(*chain, file(b"decoy")) == ["name7"]
    with pytest.raises(ImageMalformed, match="more than 8 headers"):
        entries(*chain, long_name(b"ninth"), file(b"decoy"))
    source = Counted(repeated(long_name(b"again"), 1_000_000))
    with pytest.raises(ImageMalformed):
        list(walk(source, alive=lambda: None))
    assert source.size < 2**21


def test_c_t1_a_ustar_prefix_stands_before_the_name() -> None:
    assert paths(file(b"name", prefix=b"usr/share")) == ["usr/share/name"]
    # Go before 1.8 did so in GNU's format, too, where others have a time.
    assert paths(file(b"name", prefix=b"usr/share", magic=b"ustar  \0")) == ["usr/share/name"]
    for time in (b"14550000000\0", b"\x80\0\0\0", "größe".encode()):
        assert paths(file(b"name", prefix=time, magic=b"ustar  \0")) == ["name"]
    assert paths(file(b"name", prefix=b"usr/share", magic=bytes(8))) == ["name"]


def test_c_t2_links_are_named_and_not_followed() -> None:
    links = [
        header(b"d", flag=b"2", link=b"/etc"),
        file(b"d/passwd", b"root"),
        header(b"h", flag=b"1", link=b"../../outside"),
        header(b"later", flag=b"1", link=b"not/yet"),
        header(b"self", flag=b"2", link=b"self"),
        *(header(b"c%d" % number, flag=b"2", link=b"c%d" % (number + 1)) for number in range(1000)),
    ]
    d, passwd, h, later, self, *chain = entries(*links)
    assert isinstance(d, Link)
    assert (d.path, d.target, d.is_hard) == ("d", "/etc", False)
    assert isinstance(passwd, File)
    assert passwd.path == "d/passwd"
    assert isinstance(h, Link)
    assert (h.target, h.is_hard) == ("../../outside", True)
    assert isinstance(later, Link)
    assert isinstance(self, Link)
    assert len(chain) == 1000


def test_c_t2_a_link_of_any_length_is_cut_as_names_are() -> None:
    # A target longer than a path can be, with a link in every part of it.
    target = b"/".join([b"d" * 247] * 16 + [b".."] * 16)
    by_gnu, by_pax = entries(
        long_name(target, flag=b"K"),
        header(b"a", flag=b"2"),
        pax((b"linkpath", target)),
        header(b"b", flag=b"1"),
    )
    assert isinstance(by_gnu, Link)
    assert isinstance(by_pax, Link)
    assert by_gnu.target == by_pax.target
    assert len(by_gnu.target) == 1024


def test_c_t2_a_link_has_no_content_whatever_its_header_says() -> None:
    # Who skipped this size would not see the file that programs that run images do see.
    assert paths(header(b"link", flag=b"1", link=b"a", size=512), file(b"seen")) == ["link", "seen"]
    assert paths(header(b"d", flag=b"5", size=512), file(b"seen")) == ["d", "seen"]


@pytest.mark.parametrize("flag", [b"3", b"4", b"6", b"Q", b"\xff"], ids=["char", "block", "fifo", "Q", "ff"])
def test_c_t3_devices_pipes_and_strangers_are_only_named(flag: bytes) -> None:
    special, after = entries(header(b"dev/x", flag=flag), file(b"after"))
    assert isinstance(special, Special)
    assert special.path == "dev/x"
    assert isinstance(after, File)


def test_c_t3_modes_owners_and_times_do_not_matter() -> None:
    odd = header(b"odd", mode=b"0004000\0", user=b"\x80\0\0\0\x80\0\0\0", time=b"\xff" * 11 + b"\0")
    assert paths(odd, header(b"none", mode=b"0000000\0"), header(b"junk", mode=b"rwxrwxrw")) == [
        "odd",
        "none",
        "junk",
    ]
    assert paths(pax((b"mtime", b"1e18"), (b"uid", b"99999999999")), file(b"late")) == ["late"]


# C-T7: whiteouts


@pytest.mark.parametrize("flag", [b"0", b"5", b"1", b"2", b"3"])
def test_c_t7_a_whiteout_is_one_whatever_its_member_is(flag: bytes) -> None:
    gone, opaque = entries(header(b"./usr/lib/.wh.gone", flag=flag), header(b"usr/lib/" + OPAQUE, flag=flag))
    assert isinstance(gone, Whiteout)
    assert (gone.path, gone.path_hash) == ("usr/lib/gone", sha256(b"usr/lib/gone"))
    assert isinstance(opaque, OpaqueDirectory)
    assert opaque.path == "usr/lib"


@pytest.mark.parametrize("name", [b".wh.", b"a/.wh.", b"a/.wh..", b"a/.wh..."])
def test_c_t7_a_whiteout_of_nothing_deletes_nothing(name: bytes) -> None:
    (entry,) = entries(file(name))
    assert isinstance(entry, Special)


def test_c_t7_a_whiteout_does_not_lead_upwards() -> None:
    assert [type(entry) for entry in entries(file(b"etc/.wh.../.."), file(b"etc/.wh.x/../y"))] == [File, File]
    root, top = entries(file(OPAQUE), file(b"/.wh.bin"))
    assert isinstance(root, OpaqueDirectory)
    assert root.path == ""
    assert isinstance(top, Whiteout)
    assert top.path == "bin"


def test_c_t7_a_content_that_was_put_into_a_whiteout_is_passed_over() -> None:
    assert paths(file(b".wh.a", b"x" * 1000), file(b"b")) == ["a", "b"]


def gone(lower: bytes, upper: list[LayerEntry]) -> bool:
    """Whether a file of a lower layer is gone, as `lineage` describes it."""
    whole = list(lineage(lower))
    for entry in upper:
        if isinstance(entry, OpaqueDirectory):
            places = whole[:-1]
        elif isinstance(entry, Directory):
            places = whole[-1:]
        else:
            places = whole[1:]
        if entry.path_hash in places:
            return True
    return False


@pytest.mark.parametrize(
    ("upper", "is_gone"),
    [
        (file(b"usr/bin/.wh.tool"), True),
        (file(b".wh.usr"), True),
        (file(b"usr/.wh.bin"), True),
        (file(b"usr/bin/" + OPAQUE), True),
        (file(OPAQUE), True),
        (file(b"usr/bin/tool", b"new"), True),
        (header(b"usr/bin", flag=b"2", link=b"../bin"), True),
        (header(b"usr/bin/tool", flag=b"5"), True),
        (header(b"usr/bin/", flag=b"5"), False),
        (file(b"usr/bin/.wh.too"), False),
        (file(b"usr/bin/tool/" + OPAQUE), False),
        (file(b"bin/.wh.tool"), False),
        (file(b".wh.absent"), False),
    ],
)
def test_c_t7_a_lower_file_is_gone_by_what_stands_above_it(upper: bytes, is_gone: bool) -> None:
    assert gone(b"usr/bin/tool", entries(upper)) is is_gone


def test_c_t7_a_hundred_thousand_opaque_directories_are_walked_in_one_pass() -> None:
    source = Counted(repeated(file(b"d/" + OPAQUE), 100_000))
    count = 0
    for entry in walk(source, alive=lambda: None):
        count += isinstance(entry, OpaqueDirectory)
    assert count == 100_000
    assert source.size == 100_000 * 512 + 1024


# C-T8: strange names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"bad\xff\xfe", "bad\\xff\\xfe"),
        (b"new\nline\ttab", "new\\x0aline\\x09tab"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("a\u202egpj.exe".encode(), "a\u202egpj.exe"),
        ("zero\u200bwidth".encode(), "zero\u200bwidth"),
        ("😀".encode(), "😀"),
        ("é".encode(), "é"),
        ("e\u0301".encode(), "e\u0301"),
        (b"CON.txt", "CON.txt"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
    ids=[
        "bytes",
        "line",
        "escape",
        "direction",
        "zero",
        "emoji",
        "composed",
        "combining",
        "con",
        "surrogate",
    ],
)
def test_c_t8_a_strange_name_is_readable_text_and_keeps_its_bytes(name: bytes, path: str) -> None:
    (entry,) = entries(file(name))
    assert (entry.path, entry.raw_path) == (path, name)
    assert entry.path.encode().decode() == path


def test_c_t8_a_zero_byte_ends_a_name_in_a_header_and_is_shown_in_an_attribute() -> None:
    assert paths(file(b"etc\0/hidden"), pax((b"path", b"a\0b")), file(b"x")) == ["etc", "a\\x00b"]


def test_c_t8_names_that_only_look_alike_are_different() -> None:
    names = ["é", "e\u0301", "E", "e", "a" * 2000, "a" * 1999 + "b"]
    walked = entries(*(pax((b"path", name.encode())) + file(b"x") for name in names))
    assert len({entry.path_hash for entry in walked}) == len(names)
    assert len({entry.path for entry in walked}) == len(names)
    (combining,) = entries(pax((b"path", b"a" + b"\xcc\x81" * 10_000)), file(b"x"))
    assert len(combining.path) == 1024


# C-T10: what engines look for goes by


def test_c_t10_every_content_goes_by_whole_and_once_also_when_it_is_deleted_above() -> None:
    virus = eicar().encode()
    listener = Listener()
    lower = archive(
        file(b"opt/e.com", virus), file(b"opt/copy", virus), file(b"opt/big", b"x" * 3_000_000 + virus)
    )
    found = [
        entry
        for entry in walk([lower], sink=listener, alive=lambda: None)
        if virus in listener.heard[entry.raw_path]
    ]
    assert [entry.path for entry in found] == ["opt/e.com", "opt/copy", "opt/big"]
    assert listener.heard[b"opt/e.com"] == virus
    assert gone(found[0].raw_path, entries(file(b"opt/.wh.e.com")))


def test_c_t10_a_very_large_file_goes_by_in_pieces() -> None:
    virus = eicar().encode()
    size = 64 * 2**20
    content = itertools.chain(
        [header(b"big", size=size + len(virus))], itertools.repeat(bytes(2**20), 64), [virus]
    )
    longest = 0
    end = b""

    def take(piece: bytes) -> None:
        nonlocal longest, end
        longest = max(longest, len(piece))
        end = (end + piece)[-len(virus) :]

    tracemalloc.start()
    (entry,) = walk(content, sink=lambda _file: take, alive=lambda: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (entry.path, end) == ("big", virus)
    assert longest <= 2**20
    assert peak < 16 * 2**20


# What others see


NAMES = st.binary(min_size=1, max_size=300).map(lambda name: name.translate(None, b"\0/"))
PATHS = (
    st.lists(
        NAMES.filter(lambda name: name not in (b"", b".", b"..") and not name.startswith(b".wh.")), min_size=1
    )
    .map(b"/".join)
    .filter(lambda path: len(path) < 5000)
)
CONTENTS = st.one_of(st.binary(max_size=2000), st.integers(0, 200_000).map(bytes))
TREES = st.dictionaries(PATHS, st.one_of(CONTENTS, st.tuples(st.sampled_from("dsh"), PATHS)), max_size=12)
Tree = dict[bytes, "bytes | tuple[str, bytes]"]
FLAGS = {"d": tarfile.DIRTYPE, "s": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}


def members_of(tree: Tree) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for path, what in tree.items():
        info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
        if isinstance(what, bytes):
            yield info, what
        else:
            info.type = FLAGS[what[0]]
            if what[0] != "d":
                info.linkname = what[1].decode("utf-8", "surrogateescape")
            yield info, b""


def tree_of(walked: Iterable[LayerEntry], listener: Listener) -> Tree:
    tree: Tree = {}
    for entry in walked:
        if isinstance(entry, File):
            tree[entry.raw_path] = content = listener.heard[entry.raw_path]
            assert entry.sha256 == sha256(content)
            assert entry.size == len(content)
        elif isinstance(entry, Link):
            tree[entry.raw_path] = ("h" if entry.is_hard else "s", entry.target.encode())
        else:
            assert isinstance(entry, Directory)
            tree[entry.raw_path] = ("d", b"")
    return tree


@settings(max_examples=60, deadline=None)
@given(
    tree=TREES, layout=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), chunk=st.integers(1, 3000)
)
def test_the_walk_sees_the_tree_that_python_wrote(tree: Tree, layout: int, chunk: int) -> None:
    raw = by_python(members_of(tree), layout)
    listener = Listener()
    chunks = (raw[at : at + chunk] for at in range(0, len(raw), chunk))
    walked = tree_of(walk(chunks, sink=listener, alive=lambda: None), listener)
    assert walked.keys() == tree.keys()
    for path, what in tree.items():
        if isinstance(what, bytes):
            assert walked[path] == what
        else:
            assert walked[path][0] == what[0]


def seen_by_python(raw: bytes) -> list[tuple[str, str, object]]:
    """Every member's path, kind, and content or target, in order."""
    seen: list[tuple[str, str, object]] = []
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            if member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                seen.append((path, "file", sha256(content.read())))
            elif member.issym() or member.islnk():
                seen.append((path, "link", member.linkname))
            else:
                assert member.isdir()
                seen.append((path, "directory", None))
    return seen


def seen_by_us(raw: bytes) -> list[tuple[str, str, object]]:
    seen: list[tuple[str, str, object]] = []
    for entry in walk([raw], alive=lambda: None):
        if isinstance(entry, File):
            offset = entry.offset or 0
            assert sha256(raw[offset : offset + entry.size]) == entry.sha256
            seen.append((entry.path, "file", entry.sha256))
        elif isinstance(entry, Link):
            seen.append((entry.path, "link", entry.target))
        elif isinstance(entry, Directory):
            seen.append((entry.path, "directory", None))
        elif isinstance(entry, OpaqueDirectory):
            seen.append((f"{entry.path}/{OPAQUE.decode()}", "file", sha256(b"")))
        else:
            assert isinstance(entry, Whiteout)
            directory, slash, name = entry.path.rpartition("/")
            seen.append((f"{directory}{slash}.wh.{name}", "file", sha256(b"")))
    return seen


def test_the_walk_sees_in_the_sample_images_what_python_sees(
    sample_images: tuple[Path, Catalog],
) -> None:
    directory, _catalog = sample_images
    layers = 0
    kinds = set()
    for blob in sorted((directory / "blobs" / "sha256").iterdir()):
        target = io.BytesIO()
        try:
            unpack(blob, target, "sha256", Bounds(), lambda _count: None)
        except ContentError:
            # The damaged one.
            continue
        raw = target.getvalue()
        if raw[257:262] == b"ustar":
            seen = seen_by_python(raw)
            assert seen_by_us(raw) == seen
            layers += 1
            kinds |= {kind for _, kind, _ in seen}
    assert layers > 10
    assert kinds == {"file", "link", "directory"}


@pytest.mark.parametrize(
    "form",
    [
        ["--sparse", "--format=gnu"],
        ["--sparse", "--format=posix", "--sparse-version=0.0"],
        ["--sparse", "--format=posix", "--sparse-version=0.1"],
        ["--sparse", "--format=posix", "--sparse-version=1.0"],
        ["--format=ustar"],
    ],
    ids=" ".join,
)
def test_the_walk_sees_the_files_that_gnu_tar_packed(tmp_path: Path, form: list[str]) -> None:
    tree = tmp_path / "tree" / "d"
    tree.mkdir(parents=True)
    (tree / ("n" * 90)).write_bytes(b"long")
    if "--format=ustar" not in form:
        (tree / ("n" * 200)).write_bytes(b"longer")
        with (tree / "sparse").open("wb") as sparse:
            for number in range(9):
                sparse.seek(200_000 * number + 100_000)
                sparse.write(b"data%d" % number * 1000)
            sparse.truncate(2_000_000)
    (tree / "link").symlink_to("sparse")
    os.link(tree / ("n" * 90), tree / "other")
    made = subprocess.run(
        ["tar", *form, "-C", tmp_path / "tree", "-cf", "-", "."], capture_output=True, check=True
    )
    walked = {entry.path: entry for entry in walk([made.stdout], alive=lambda: None)}
    assert walked.keys() == {"", "d", *(f"d/{path.name}" for path in tree.iterdir())}
    for path, entry in walked.items():
        if isinstance(entry, File):
            assert entry.sha256 == sha256((tmp_path / "tree" / path).read_bytes())
    assert isinstance(walked["d/link"], Link)
    assert sum(isinstance(entry, File) for entry in walked.values()) == (1 if "--format=ustar" in form else 3)
