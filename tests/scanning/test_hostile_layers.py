"""Layers made to harm whoever looks into them, with the real Trivy: bounded, and nothing outside touched."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from scanning.engines import trivy as trivy_adapter
from scanning.engines.layout import write_layout
from scanning.engines.protocol import EngineBomb, EngineError, ImageMalformed, ScanReport
from scanning.engines.trivy import Trivy, find_binary

TERABYTE = 2**40
SYSTEM = {
    "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
    "etc/debian_version": b"12.5\n",
    "var/lib/dpkg/status": b"Package: openssl\nStatus: install ok installed\nArchitecture: amd64\n"
    b"Version: 3.0.11-1~deb12u2\n\n",
}
SECRET = f'aws_access_key_id = "{"AK" + "IA"}QYLPMN5HHHFPZAM2"\n'.encode()

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def sparse(name: str, size: int) -> Member:
    """A file that is nothing but a hole (GNU's sparse format 1.0)."""
    info, hole = member("GNUSparseFile.0/hole", b"1\n%d\n0\n".ljust(512, b"\0") % size)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    return info, hole


def lying(name: str, size_field: bytes) -> bytes:
    """The head of a file whose size is written in this way."""
    head = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = size_field
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + b"\0" * 1024


def layer_of(*members: Member) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in [*(member(*each) for each in SYSTEM.items()), *members]:
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def look_into(layer: bytes, directory: Path) -> ScanReport:
    path = directory / "layer.tar"
    path.write_bytes(layer)
    write_layout(directory / "layout", b"{}", [("sha256:" + hashlib.sha256(layer).hexdigest(), path)])
    return Trivy(find_binary(None), directory / "work").scan_layout(
        directory / "layout", database=None, timeout_seconds=120
    )


@pytest.mark.parametrize("name", ["app/notes.txt", "app/a.jar"])
def test_a_file_of_terabytes_in_a_layer_of_kilobytes_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(trivy_adapter, "SCRATCH_BYTES", 16 * 2**20)
    with pytest.raises(EngineBomb) as caught:
        look_into(layer_of(sparse(name, 8 * TERABYTE)), tmp_path)
    assert caught.value.code == "IMG_BOMB"
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    "size_field",
    [b"\xff" * 12, b"\x80" + (8 * TERABYTE).to_bytes(11, "big"), b"-0000000001\0", b"zzzzzzzzzzz\0"],
    ids=["negative", "huge", "minus", "letters"],
)
def test_a_file_whose_size_cannot_be_is_a_malformed_image(tmp_path: Path, size_field: bytes) -> None:
    with pytest.raises(ImageMalformed):
        look_into(lying("etc/passwd", size_field), tmp_path)


def test_names_and_links_lead_nowhere_and_what_lies_beside_them_is_found(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    layer = layer_of(
        member(f"../../../../../../{outside}", b"evil"),
        member(str(outside), b"evil"),
        member("d", type=tarfile.SYMTYPE, linkname=str(tmp_path)),
        member("d/outside", b"evil"),
        member("h", type=tarfile.LNKTYPE, linkname=f"../../../../../../{outside}"),
        member("self", type=tarfile.SYMTYPE, linkname="self"),
        member("fifo", type=tarfile.FIFOTYPE),
        member("device", type=tarfile.CHRTYPE),
        member("app/.wh..wh..opq"),
        member("app/.wh."),
        member("x" * 5000, b"long"),
        member("app/a\nb\x1b[31m\u202e.py", SECRET),
    )
    report = look_into(layer, tmp_path)
    assert [package.name for package in report.packages] == ["openssl"]
    assert [(each.path, each.rule_id) for each in report.secrets] == [
        ("/app/a\nb\x1b[31m\u202e.py", "aws-access-key-id")
    ]
    assert not re.search("QYLPMN5", str(report))
    assert outside.read_bytes() == b"untouched"


def test_ten_thousand_opaque_folders_take_no_quadratic_time(tmp_path: Path) -> None:
    folders = [member(f"d{number}/.wh..wh..opq") for number in range(10_000)]
    assert len(look_into(layer_of(*folders), tmp_path).packages) == 1


def test_a_list_of_packages_full_of_rubbish_is_no_error(tmp_path: Path) -> None:
    rubbish = b"".join(
        b"Package: p%d<script>\0\x1b\xff\nStatus: install ok installed\nVersion: 1:\xf0\x9f%d-1\n\n"
        % (number, number)
        for number in range(50)
    )
    try:
        look_into(layer_of(member("var/lib/dpkg/status", rubbish)), tmp_path)
    except EngineError as error:
        pytest.fail(f"{error.code}: {error.reason}")
