"""One scan from claim to end, with the real engine and the demo registry, and what may go wrong."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django import Settings

from demo.catalog import Catalog
from demo.faults import Fault, html_page
from demo.images import OPERATOR
from demo.server import DemoServer, running
from images.models import CategoryStatus, Image, ImageLayer, ManifestLayer, ScanStatus
from repositories import sync as data_update
from repositories.credentials import Secret
from repositories.models import Registry, SyncTrigger, Tag
from repositories.updates import request_sync
from scanning import failpoints, installed, pipeline
from scanning.findings import category_results, history_of, secrets_of, vulnerabilities_of
from scanning.models import Category, CategoryState, Scan, TaskTrigger
from scanning.recovery import reap
from scanning.services import request_cancel, request_scan
from tcss.lifecycle import MAX_ATTEMPTS, State
from tests.invariants import assert_invariants, assert_no_work_is_left
from tests.scanning.world import World, register

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)
API, WEB, OLD_WEB = "shop/api:2.3.0", "shop/web:1.1.0", "shop/web:1.0.0"


def asked(world: World, name: str, *categories: Category) -> Scan:
    image = world.image(name)
    request_scan([image.pk], categories or BOTH, TaskTrigger.MANUAL, None, name)
    return Scan.objects.filter(image=image).latest("pk")


def scanned(world: World, name: str, *categories: Category) -> Scan:
    """The scan of one image, run until it has ended."""
    scan = asked(world, name, *categories)
    while Scan.objects.active().filter(pk=scan.pk).exists():
        pipeline.run(scan.pk)
    scan.refresh_from_db()
    return scan


def layer_requests(server: DemoServer) -> list[str]:
    """Blobs that were asked for, configs aside."""
    layers = set(ManifestLayer.objects.values_list("blob_digest", flat=True))
    paths = [seen.path for seen in server.requests if "/blobs/" in seen.path]
    return [path for path in paths if path.rpartition("/")[2] in layers]


@contextmanager
def in_background(scan: Scan) -> Iterator[threading.Thread]:
    """The scan at work in a thread, which is waited for at the end."""

    def work() -> None:
        try:
            pipeline.run(scan.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


def within(seconds: float, condition: object, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def at_failpoint(monkeypatch: pytest.MonkeyPatch, name: str, action: str) -> None:
    monkeypatch.setattr(failpoints, "_actions", lambda: {name: action})


def test_a_scan_finds_vulnerabilities_and_sensitive_data(world: World, database: object) -> None:
    scan = scanned(world, API)
    image = world.image(API)
    assert (scan.state, scan.attempt, scan.progress) == (State.SUCCEEDED, 1, 100)
    assert (image.scan_status, image.error_code) == (ScanStatus.SCANNED, "")
    assert (image.vulnerabilities_status, image.sensitive_status) == ("scanned", "scanned")
    assert image.vulnerability_count == vulnerabilities_of(image).total > 0
    assert image.sensitive_count == secrets_of(image).total > 0
    assert {row.in_configuration for row in secrets_of(image)} == {True, False}
    results = category_results(image)
    assert results[Category.VULNERABILITIES].good is not None
    assert results[Category.VULNERABILITIES].good.database_version.startswith("demo 2026")
    assert results[Category.VULNERABILITIES].good.finding_count == image.vulnerability_count
    assert results[Category.VULNERABILITIES].good.engine_version.startswith("0.")
    assert results[Category.MALWARE].last is None
    assert not Image.objects.get(pk=image.pk).image_layers.filter(layer__size=0).exists()
    assert [row.diff_id for row in history_of(image) if row.diff_id] == list(
        ImageLayer.objects.filter(image=image).values_list("layer__diff_id", flat=True)
    )
    assert_invariants()
    assert_no_work_is_left(installed.work_root())


def test_no_secret_value_of_the_image_is_stored(world: World, database: object) -> None:
    scanned(world, API)
    stored = " ".join(row.masked_match for row in secrets_of(world.image(API)))
    assert "*" in stored
    for row in secrets_of(world.image(API)):
        assert "AKIA" not in row.masked_match.replace("AKIA****", "")


def test_without_a_database_sensitive_data_is_scanned_all_the_same(world: World) -> None:
    scan = scanned(world, API)
    image = world.image(API)
    assert (scan.state, scan.error_code) == (State.SUCCEEDED, "")
    assert image.scan_status == ScanStatus.SCANNED
    assert image.vulnerabilities_status == CategoryStatus.FAILED
    assert image.sensitive_status == CategoryStatus.SCANNED
    assert image.sensitive_count > 0
    assert image.error_code == "ENG_DB"
    assert "vulnerability_db" in image.error_remedy
    assert_invariants()


def test_without_a_database_a_scan_for_vulnerabilities_alone_is_an_exception(world: World) -> None:
    scan = scanned(world, API, Category.VULNERABILITIES)
    assert (scan.state, scan.error_code) == (State.FAILED, "ENG_DB")
    assert world.image(API).scan_status == ScanStatus.EXCEPTION
    assert_invariants()


def test_a_failed_scan_keeps_the_last_good_result(world: World, database: object, data_dir: Path) -> None:
    scanned(world, API)
    before = world.image(API)
    (data_dir / "vulnerability-db").unlink()
    scanned(world, API, Category.VULNERABILITIES)
    after = world.image(API)
    assert after.scan_status == ScanStatus.EXCEPTION
    assert (after.vulnerability_count, after.last_scanned_at) == (
        before.vulnerability_count,
        before.last_scanned_at,
    )
    assert vulnerabilities_of(after).total == before.vulnerability_count
    assert category_results(after)[Category.VULNERABILITIES].is_shown_from_before
    assert_invariants()


def test_a_damaged_database_costs_the_vulnerabilities_alone(
    world: World, database: object, data_dir: Path
) -> None:
    (data_dir / "vulnerability-db").unlink()
    broken = data_dir / "vulnerability-db" / "versions" / "broken"
    broken.mkdir(parents=True)
    (broken / "trivy.db").write_bytes(b"not a database")
    (broken / "metadata.json").write_text('{"Version": 2}')
    (data_dir / "vulnerability-db" / "current").symlink_to("versions/broken")
    scan = scanned(world, API)
    image = world.image(API)
    assert scan.state == State.SUCCEEDED
    assert (image.vulnerabilities_status, image.error_code) == (CategoryStatus.FAILED, "ENG_DB")
    assert image.sensitive_status == CategoryStatus.SCANNED


def test_a_layer_is_pulled_once_for_all_images_and_not_again(world: World, database: object) -> None:
    for name in (WEB, OLD_WEB, WEB):
        scanned(world, name)
    asked_for = layer_requests(world.server)
    assert len(asked_for) == len(set(asked_for)) > 0


@pytest.mark.parametrize(("face", "version"), [("harbor1", "V1"), ("harbor2", "V2")])
def test_two_data_updates_and_a_scan_read_every_manifest_once_in_its_life(
    transactional_db: None,
    sample_images: tuple[Path, Catalog],
    data_dir: Path,
    face: Literal["harbor1", "harbor2"],
    version: str,
) -> None:
    directory, catalog = sample_images
    account = catalog.account(OPERATOR)
    assert account is not None
    with running(directory, catalog, face=face) as server:
        registry = Registry.objects.create(
            name=face,
            version=version,
            address=server.url,
            username=account.name,
            password=Secret.of(account.password),
        )
        for _ in range(2):
            data_update.run(request_sync(registry, SyncTrigger.MANUAL).pk)
        read = [pull.digest for pull in server.pulls]
        assert len(read) == len(set(read)) > 10
        Image.objects.update(is_licensed=True)
        scan = scanned(World(server, registry), API, Category.SENSITIVE)
        assert (scan.state, scan.error_code) == (State.SUCCEEDED, "")
        assert layer_requests(server)
        assert [pull.digest for pull in server.pulls] == read


def test_a_category_added_while_a_scan_runs_is_answered_by_that_scan(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    at_failpoint(monkeypatch, "pulled", f"hold:{gate}")
    scan = asked(world, API, Category.SENSITIVE)
    with in_background(scan):
        within(30, (tmp_path / "gate.reached").exists, "the scan is at work")
        request_scan([scan.image_id], [Category.VULNERABILITIES], TaskTrigger.MANUAL, None, "more")
        gate.unlink()
    image = world.image(API)
    assert Scan.objects.count() == 1
    assert (image.vulnerabilities_status, image.sensitive_status) == ("scanned", "scanned")
    assert_invariants()


def test_cancelling_a_download_ends_it_within_five_seconds(world: World, database: object) -> None:
    world.server.faults.add(Fault(match=r"GET /v2/.*/blobs/", skip=1, times=None, drip=(500, 0.05)))
    scan = asked(world, API)
    with in_background(scan):
        within(20, lambda: Scan.objects.get(pk=scan.pk).step == "pull", "the pull began")
        clicked = time.monotonic()
        assert request_cancel([scan.image_id], None) == 1
        within(5, lambda: Scan.objects.get(pk=scan.pk).state == State.CANCELLED, "it is cancelled")
        assert time.monotonic() - clicked < 5
    assert world.image(API).scan_status == ScanStatus.CANCELLED
    assert_invariants()
    assert_no_work_is_left(installed.work_root())


def test_cancelling_ends_an_engine_that_hangs_with_all_its_children(
    world: World, database: object, tmp_path: Path, settings: Settings
) -> None:
    pids = tmp_path / "pids"
    engine = tmp_path / "trivy"
    engine.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 600 &\necho $$ $! > {pids}\nwait\nwait\n")
    engine.chmod(0o755)
    settings.TRIVY_BINARY = str(engine)
    scan = asked(world, API)
    with in_background(scan):
        within(30, pids.exists, "the engine began")
        request_cancel([scan.image_id], None)
        within(10, lambda: Scan.objects.get(pk=scan.pk).state == State.CANCELLED, "it is cancelled")
    left = [pid for pid in pids.read_text().split() if _runs(int(pid))]
    assert left == []
    assert_invariants()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_engine_that_is_never_done_is_ended_when_the_images_time_is_up(
    world: World, tmp_path: Path, settings: Settings
) -> None:
    engine = tmp_path / "trivy"
    engine.write_text("#!/bin/sh\nexec sleep 600\n")
    engine.chmod(0o755)
    settings.TRIVY_BINARY = str(engine)
    settings.SCAN_TIMEOUT_SECONDS = 3
    scan = scanned(world, API)
    assert (scan.state, scan.error_code, scan.attempt) == (State.FAILED, "ENG_TIMEOUT", 1)
    assert world.image(API).error_remedy
    assert_invariants()


def test_an_engine_that_crashes_is_tried_three_times(
    world: World, database: object, tmp_path: Path, settings: Settings
) -> None:
    engine = tmp_path / "trivy"
    engine.write_text("#!/bin/sh\nkill -9 $$\n")
    engine.chmod(0o755)
    settings.TRIVY_BINARY = str(engine)
    scan = scanned(world, API)
    assert (scan.state, scan.error_code, scan.attempt) == (State.FAILED, "ENG_CRASH", MAX_ATTEMPTS)
    assert_invariants()


def test_a_damaged_layer_is_an_exception_of_that_image_at_once(world: World, database: object) -> None:
    scan = scanned(world, "payments/gateway:5.0.1")
    image = world.image("payments/gateway:5.0.1")
    assert (scan.state, scan.error_code, scan.attempt) == (State.FAILED, "IMG_DIGEST", 1)
    assert (image.scan_status, image.error_code) == (ScanStatus.EXCEPTION, "IMG_DIGEST")
    assert image.error_remedy
    assert_invariants()


def test_a_registry_that_fails_is_tried_three_times_with_a_pause(world: World, database: object) -> None:
    world.server.faults.add(html_page(r"GET /v2/.*/blobs/", status=502, times=None))
    scan = asked(world, API)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        pipeline.run(scan.pk)
        scan.refresh_from_db()
        assert scan.attempt == attempt
    assert (scan.state, scan.error_code) == (State.FAILED, "REG_5XX")
    assert_invariants()


def test_a_registry_that_recovers_costs_an_attempt_and_no_result(world: World, database: object) -> None:
    world.server.faults.add(html_page(r"GET /v2/.*/blobs/", status=503, times=5))
    scan = scanned(world, API)
    assert (scan.state, scan.attempt) == (State.SUCCEEDED, 2)
    assert scan.error_code == ""
    assert_invariants()


def test_an_image_in_two_registries_is_taken_from_the_one_that_has_it_whole(
    world: World, database: object, sample_images: tuple
) -> None:
    with running(*sample_images) as other:
        register(other, "second")
        world.server.faults.add(Fault(match=r"GET /v2/.*/blobs/", times=None, corrupt=True))
        other_tags = Tag.objects.filter(registry__name="second")
        Tag.objects.exclude(pk__in=other_tags).update(pushed_at=Now())
        scan = scanned(world, API)
    assert scan.state == State.SUCCEEDED
    assert layer_requests(other)
    assert_invariants()


def test_an_image_that_no_tag_names_any_more_says_so(world: World, database: object) -> None:
    scan = asked(world, API)
    Tag.objects.filter(image=scan.image_id).delete()
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.error_code) == (State.FAILED, "REG_NOT_FOUND")
    assert_invariants()


def test_a_full_disk_waits_and_then_says_so(world: World, database: object, settings: Settings) -> None:
    settings.DISK_FLOOR_BYTES = 2**60
    scan = scanned(world, API)
    assert (scan.state, scan.error_code, scan.attempt) == (State.FAILED, "DISK_FULL", MAX_ATTEMPTS)
    assert_invariants()


def test_a_worker_that_wakes_after_its_lease_was_taken_writes_nothing(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    at_failpoint(monkeypatch, "saving", f"hold:{gate}")
    scan = asked(world, API)
    with in_background(scan):
        within(30, (tmp_path / "gate.reached").exists, "the first worker is about to save")
        Scan.objects.filter(pk=scan.pk).update(lease_until=Now())
        reap()
        assert Scan.objects.get(pk=scan.pk).state == State.QUEUED
        at_failpoint(monkeypatch, "saving", "nothing")
        pipeline.run(scan.pk)
        ended = Scan.objects.get(pk=scan.pk)
        assert (ended.state, ended.fence) == (State.SUCCEEDED, 2)
        counts = world.image(API).vulnerability_count
        gate.unlink()
    scan.refresh_from_db()
    assert (scan.state, scan.fence, scan.finished_at) == (State.SUCCEEDED, 2, ended.finished_at)
    assert world.image(API).vulnerability_count == counts
    assert_invariants()


def test_a_bell_for_a_scan_that_is_gone_ended_or_taken_does_nothing(world: World, database: object) -> None:
    scan = scanned(world, "library/alpine:3.18")
    for pk in (scan.pk, scan.pk + 1000):
        pipeline.run(pk)
    again = Scan.objects.get(pk=scan.pk)
    assert (again.attempt, again.finished_at) == (scan.attempt, scan.finished_at)


def test_ten_bells_at_once_make_one_run(world: World, database: object) -> None:
    scan = asked(world, "library/alpine:3.18")
    barrier = threading.Barrier(10)

    def hear() -> None:
        barrier.wait()
        try:
            pipeline.run(scan.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=hear) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    scan.refresh_from_db()
    assert (scan.state, scan.attempt, scan.fence) == (State.SUCCEEDED, 1, 1)
    assert_invariants()


def test_a_lost_worker_is_noticed_and_after_three_the_image_says_why(world: World) -> None:
    scan = asked(world, API)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert Scan.objects.claim(scan.pk) is not None
        Scan.objects.filter(pk=scan.pk).update(lease_until=Now())
        reap()
        scan.refresh_from_db()
        assert scan.attempt == attempt
    assert (scan.state, scan.error_code) == (State.FAILED, "WORKER_LOST")
    assert world.image(API).scan_status == ScanStatus.EXCEPTION
    assert scan.categories.filter(state=CategoryState.FAILED).count() == 2
    assert_invariants()


def test_a_cancelled_scan_whose_worker_is_lost_ends_as_cancelled(world: World) -> None:
    scan = asked(world, API)
    assert Scan.objects.claim(scan.pk) is not None
    request_cancel([scan.image_id], None)
    Scan.objects.filter(pk=scan.pk).update(lease_until=Now())
    reap()
    scan.refresh_from_db()
    assert scan.state == State.CANCELLED
    assert_invariants()


def test_folders_of_attempts_that_died_are_swept_and_others_left(world: World, database: object) -> None:
    root = installed.work_root()
    for name in ("scan-999999-1", "scan-999998-2", "somebody-elses"):
        (root / name).mkdir(parents=True)
    scanned(world, "library/alpine:3.18")
    assert [path.name for path in root.iterdir()] == ["somebody-elses"]


def test_a_wrong_number_of_layers_is_told_before_anything_is_pulled(world: World, database: object) -> None:
    scan = asked(world, API)
    ImageLayer.objects.filter(image=scan.image_id, position=0).delete()
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.error_code) == (State.FAILED, "IMG_MALFORMED")
    assert layer_requests(world.server) == []
