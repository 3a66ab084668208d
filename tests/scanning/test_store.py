"""The blob store: verified, pulled once, resumed, bounded, evicted, never half a file under a final name."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scanning.contents import ContentError, NoRoomError, UnusableContentError, WrongContentError
from scanning.store import Blob, BlobStore, Limits
from scanning.unpacking import Bounds
from tests.scanning.blobs import COMPRESSIONS, FakeLedger, FakePulse, FakeSource, blob_of, digest, tar

ROOMY = Limits(store_bytes=2**30, floor_bytes=0)
RAW = tar(etc__hosts=os.urandom(5000), etc__motd=b"hello" * 400)
GZIPPED = COMPRESSIONS["gzip"](RAW)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", ROOMY)


def lend(
    store: BlobStore,
    blob: Blob,
    target: Path,
    source: FakeSource,
    pulse: FakePulse | None = None,
    ledger: FakeLedger | None = None,
) -> int:
    return store.lend(
        blob,
        target,
        fetch=source,
        pulse=pulse or FakePulse(),
        received=lambda count: None,
        ledger=ledger or FakeLedger(holds_all=True),
    )


def refused(store: BlobStore, blob: Blob, source: FakeSource, target: Path) -> ContentError:
    with pytest.raises(ContentError) as caught:
        lend(store, blob, target, source)
    assert not target.exists()
    assert not store.has(blob.diff_id)
    return caught.value


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_layer_of_every_compression_becomes_the_raw_tar_of_its_diff_id(
    store: BlobStore, tmp_path: Path, compression: str
) -> None:
    content = COMPRESSIONS[compression](RAW)
    size = lend(store, blob_of(RAW, content), tmp_path / "layer", FakeSource(content))
    assert (tmp_path / "layer").read_bytes() == RAW
    assert size == len(RAW)


def test_a_layer_that_is_there_is_not_pulled_again(store: BlobStore, tmp_path: Path) -> None:
    source = FakeSource(GZIPPED)
    for name in ("first", "second"):
        lend(store, blob_of(RAW, GZIPPED), tmp_path / name, source)
    assert source.asked == [0]
    assert (tmp_path / "second").read_bytes() == RAW


def test_another_blob_that_claims_a_layer_that_is_there_is_pulled_and_found_out(
    store: BlobStore, tmp_path: Path
) -> None:
    ledger = FakeLedger()
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", FakeSource(GZIPPED), ledger=ledger)
    forged = COMPRESSIONS["gzip"](tar(etc__passwd=b"root::0:0::/:/bin/sh\n"))
    claim = Blob(digest(forged), len(forged), digest(RAW))
    with pytest.raises(UnusableContentError):
        lend(store, claim, tmp_path / "forged", FakeSource(forged), ledger=ledger)
    assert not (tmp_path / "forged").exists()
    assert ledger.noted == {blob_of(RAW, GZIPPED)}
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "again", FakeSource(b""), ledger=ledger)
    assert (tmp_path / "again").read_bytes() == RAW


def test_a_layer_compressed_in_another_way_is_pulled_once_more_and_kept_once(
    store: BlobStore, tmp_path: Path
) -> None:
    ledger = FakeLedger()
    for content in (GZIPPED, COMPRESSIONS["zstd"](RAW), GZIPPED):
        lend(store, blob_of(RAW, content), tmp_path / "layer", FakeSource(content), ledger=ledger)
    assert len(ledger.noted) == 2
    assert store.used_bytes() == len(RAW)


def test_a_pull_that_broke_is_resumed_where_it_broke(store: BlobStore, tmp_path: Path) -> None:
    blob = blob_of(RAW, GZIPPED)
    with pytest.raises(ConnectionResetError):
        lend(store, blob, tmp_path / "layer", FakeSource(GZIPPED, cut_at=3000))
    source = FakeSource(GZIPPED)
    lend(store, blob, tmp_path / "layer", source)
    assert source.asked == [3000]
    assert (tmp_path / "layer").read_bytes() == RAW


def test_a_wrong_half_left_by_an_earlier_attempt_is_thrown_away_and_pulled_anew(
    store: BlobStore, tmp_path: Path
) -> None:
    blob = blob_of(RAW, GZIPPED)
    with pytest.raises(ConnectionResetError):
        lend(store, blob, tmp_path / "layer", FakeSource(b"x" * len(GZIPPED), cut_at=3000))
    source = FakeSource(GZIPPED)
    lend(store, blob, tmp_path / "layer", source)
    assert source.asked == [3000, 0]


@pytest.mark.parametrize(
    "given",
    [GZIPPED[:-1] + b"?", GZIPPED[:-1], GZIPPED + b"more", b""],
    ids=["another byte", "too short", "too long", "empty"],
)
def test_bytes_that_are_not_the_digests_are_refused_and_forgotten(
    store: BlobStore, tmp_path: Path, given: bytes
) -> None:
    error = refused(store, blob_of(RAW, GZIPPED), FakeSource(given), tmp_path / "layer")
    assert isinstance(error, WrongContentError)
    assert error.failure.code == "IMG_DIGEST"
    assert store.used_bytes() == 0


def test_a_forged_diff_id_is_refused_and_does_not_spoil_the_layer_whose_name_it_took(
    store: BlobStore, tmp_path: Path
) -> None:
    other = tar(etc__passwd=b"root:x:0:0\n")
    forged = replace(blob_of(other, COMPRESSIONS["gzip"](other)), diff_id=digest(RAW))
    error = refused(store, forged, FakeSource(COMPRESSIONS["gzip"](other)), tmp_path / "forged")
    assert isinstance(error, UnusableContentError)
    assert error.failure.code == "IMG_DIGEST"
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", FakeSource(GZIPPED))
    assert (tmp_path / "layer").read_bytes() == RAW


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (GZIPPED[:-9], "IMG_MALFORMED"),
        (GZIPPED[:100] + b"\x00" * 50 + GZIPPED[150:], "IMG_MALFORMED"),
        (COMPRESSIONS["zstd"](RAW)[:-4] + b"oops", "IMG_MALFORMED"),
        (b"BZh91AY&SY" + RAW, "IMG_UNSUPPORTED"),
        (b"\xfd7zXZ\x00" + RAW, "IMG_UNSUPPORTED"),
    ],
    ids=["cut gzip", "damaged gzip", "damaged zstd", "bzip2", "xz"],
)
def test_content_that_cannot_be_unpacked_is_named_for_what_it_is(
    store: BlobStore, tmp_path: Path, content: bytes, code: str
) -> None:
    error = refused(store, blob_of(RAW, content), FakeSource(content), tmp_path / "layer")
    assert error.failure.code == code
    assert error.failure.remedy
    assert store.used_bytes() == 0


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "bounds",
    [Bounds(ratio=20, free_bytes=2**20), Bounds(layer_bytes=3 * 2**20)],
    ids=["by its ratio", "by its size"],
)
def test_a_bomb_is_left_alone_as_soon_as_it_is_known_for_one(
    tmp_path: Path, compression: str, bounds: Bounds
) -> None:
    raw = b"\0" * 50_000_000
    content = COMPRESSIONS[compression](raw)
    store = BlobStore(tmp_path / "blobs", replace(ROOMY, bounds=bounds))
    error = refused(store, blob_of(raw, content), FakeSource(content), tmp_path / "layer")
    assert error.failure.code == "IMG_BOMB"
    assert store.used_bytes() == 0


def test_a_layer_larger_than_the_whole_store_is_not_even_asked_for(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", Limits(store_bytes=1000, floor_bytes=0))
    source = FakeSource(GZIPPED)
    assert refused(store, blob_of(RAW, GZIPPED), source, tmp_path / "x").failure.code == "IMG_TOO_LARGE"
    assert source.asked == []


def test_below_the_disks_floor_nothing_is_pulled(tmp_path: Path) -> None:
    floor = shutil.disk_usage(tmp_path).total
    store = BlobStore(tmp_path / "blobs", Limits(store_bytes=2**30, floor_bytes=floor))
    source = FakeSource(GZIPPED)
    error = refused(store, blob_of(RAW, GZIPPED), source, tmp_path / "layer")
    assert isinstance(error, NoRoomError)
    assert error.failure.code == "DISK_FULL"
    assert source.asked == []


def test_a_full_store_evicts_what_was_used_least_recently_and_nothing_that_is_in_use(tmp_path: Path) -> None:
    layers = [tar(file=os.urandom(400_000)) for _ in range(4)]
    blobs = [blob_of(raw, raw) for raw in layers]
    # A third layer is here twice, as it came and unpacked, before its first form goes.
    store = BlobStore(tmp_path / "blobs", Limits(store_bytes=1_600_000, floor_bytes=0))
    for number in (0, 1):
        lend(store, blobs[number], tmp_path / str(number), FakeSource(layers[number]))
    (tmp_path / "0").unlink()
    os.utime(tmp_path / "1", (1, 1))
    lend(store, blobs[2], tmp_path / "2", FakeSource(layers[2]))
    assert store.has(blobs[1].diff_id), "a link of it is held, however long ago"
    assert not store.has(blobs[0].diff_id)
    with pytest.raises(NoRoomError, match="DISK_FULL"):
        lend(store, blobs[3], tmp_path / "3", FakeSource(layers[3]))
    (tmp_path / "1").unlink()
    lend(store, blobs[3], tmp_path / "3", FakeSource(layers[3]))
    assert not store.has(blobs[1].diff_id)


def test_a_pull_stops_when_it_is_told_to_and_keeps_what_it_has(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", FakeSource(GZIPPED), FakePulse(stop_after=2))
    source = FakeSource(GZIPPED)
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", source)
    assert source.asked == [2000]


class _NotingSource(FakeSource):
    """Notes in a file that it was asked."""

    def __init__(self, content: bytes, note: Path) -> None:
        super().__init__(content)
        self._note = note

    def _chunks(self, offset: int) -> Iterator[bytes]:
        with self._note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super()._chunks(offset)


def _lend_in_process(directory: Path, number: int, barrier: object) -> None:
    store = BlobStore(directory / "blobs", ROOMY)
    barrier.wait()  # type: ignore[attr-defined]
    source = _NotingSource(GZIPPED, directory / "asked")
    lend(store, blob_of(RAW, GZIPPED), directory / f"layer-{number}", source, _PatientPulse())


class _PatientPulse(FakePulse):
    def wait(self, seconds: float) -> None:
        multiprocessing.Event().wait(seconds)


def test_of_many_processes_that_want_a_layer_one_pulls_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(5)
    processes = [context.Process(target=_lend_in_process, args=(tmp_path, n, barrier)) for n in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len((tmp_path / "asked").read_text().splitlines()) == 1
    assert all((tmp_path / f"layer-{number}").read_bytes() == RAW for number in range(5))


class _KilledSource(FakeSource):
    def _chunks(self, offset: int) -> Iterator[bytes]:
        yield self.content[offset : offset + 2000]
        os.kill(os.getpid(), signal.SIGKILL)


def _lend_and_die(directory: Path) -> None:
    lend(
        BlobStore(directory / "blobs", ROOMY), blob_of(RAW, GZIPPED), directory / "x", _KilledSource(GZIPPED)
    )


def test_a_killed_process_leaves_no_lock_and_no_half_layer(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_lend_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    store = BlobStore(tmp_path / "blobs", ROOMY)
    assert not store.has(digest(RAW))
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", FakeSource(GZIPPED))
    assert (tmp_path / "layer").read_bytes() == RAW


def test_nobody_else_on_the_machine_reads_a_layer_or_a_part_of_one(store: BlobStore, tmp_path: Path) -> None:
    lend(store, blob_of(RAW, GZIPPED), tmp_path / "layer", FakeSource(GZIPPED))
    for folder in (tmp_path / "blobs").iterdir():
        assert folder.stat().st_mode & 0o077 == 0, folder
