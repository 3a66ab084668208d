"""The two parts of a scan: what is shown between them; what a cancel, a crash or a late wish does in each."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from pytest_django import Settings

from demo.faults import html_page
from images.models import CategoryStatus, Image, ScanStatus
from scanning import malware, parts, pipeline
from scanning.malware import MalwareOutcome
from scanning.models import Category, CategoryState, Part, Scan, ScanStep, TaskTrigger
from scanning.progress import totals_of
from scanning.pulse import Heartbeat
from scanning.recovery import reap
from scanning.services import request_cancel, request_scan
from scanning.summaries import refresh_summaries
from scanning.waiting import put_back
from tcss.lifecycle import BELL_LOST_AFTER, MAX_ATTEMPTS, WORKER_LOST, Failure, State
from tests.invariants import assert_books_balance, assert_invariants, assert_nothing_is_stuck
from tests.scanning.test_pipeline import asked, at_failpoint, in_background, within
from tests.scanning.world import World

VULNERABILITIES, SENSITIVE, MALWARE = Category.VULNERABILITIES, Category.SENSITIVE, Category.MALWARE
WAITING, SUCCEEDED, FAILED = CategoryState.WAITING, CategoryState.SUCCEEDED, CategoryState.FAILED
API, SMALL = "shop/api:2.3.0", "library/alpine:3.18"
CLEAN = MalwareOutcome(SUCCEEDED, engine="YARA", engine_version="4.5", database_version="rules 1")
NOT_WELL = Failure("ENG_CRASH", "The engine ended before it was done.", "Scan again.")

Look = Callable[[Scan, Path, Heartbeat], MalwareOutcome]


def looks(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    """Let this look for malware."""
    monkeypatch.setattr(malware, "look", look)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine for viruses and trojans that finds nothing."""
    looks(monkeypatch, lambda *_: CLEAN)


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every bell that is rung: task and row."""
    rung: list[tuple[str, int]] = []
    monkeypatch.setattr("tcss.bell.ring_now", lambda task, row_id: rung.append((task, row_id)))
    return rung


def states(scan: Scan) -> dict[str, str]:
    return dict(scan.categories.values_list("category", "state"))


def ask(*categories: Category, number: int = 0) -> Scan:
    """A scan of an image that is in no registry: its parts are played by the test."""
    image, _ = Image.objects.get_or_create(image_id=f"sha256:{number:064x}", is_licensed=True)
    request_scan([image.pk], categories, TaskTrigger.MANUAL, None, "test")
    return Scan.objects.active().get(image=image)


def claimed(scan: Scan) -> Scan:
    held = Scan.objects.claim(scan.pk)
    assert held is not None
    return held


def content_done(scan: Scan) -> Scan:
    """The scan after its content part, whose categories all succeeded."""
    held = claimed(scan)
    held.categories.filter(category__in=[VULNERABILITIES, SENSITIVE]).update(
        state=SUCCEEDED, finished_at=Now()
    )
    with transaction.atomic():
        assert parts.close_part(held)
        refresh_summaries([scan.image_id])
    scan.refresh_from_db()
    return scan


def lose_worker(scan: Scan) -> None:
    Scan.objects.filter(pk=claimed(scan).pk).update(lease_until=Now())
    reap()
    scan.refresh_from_db()


def test_vulnerabilities_are_shown_while_the_scan_waits_for_its_malware_part(
    world: World, database: object, clean: None, bells: list[tuple[str, int]]
) -> None:
    scan = asked(world, API, *Category)
    assert (scan.part, bells) == (Part.CONTENT, [("scanning.run_scan", scan.pk)])
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.part, scan.attempt, scan.fence) == (State.QUEUED, Part.MALWARE, 0, 1)
    assert (scan.progress, scan.step, scan.finished_at) == (70, ScanStep.WAITING, None)
    assert bells[1:] == [("scanning.run_malware", scan.pk)]
    image = world.image(API)
    assert (image.scan_status, image.vulnerabilities_status) == (ScanStatus.SCANNING, CategoryStatus.SCANNED)
    assert image.malware_status == CategoryStatus.NOT_SCANNED
    assert image.vulnerability_count > 0
    assert scan.categories.get(category=VULNERABILITIES).finding_count == image.vulnerability_count
    assert states(scan)[MALWARE] == WAITING
    assert_books_balance()
    assert_nothing_is_stuck()
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.progress, scan.attempt, scan.fence) == (State.SUCCEEDED, 100, 1, 2)
    ended = scan.categories.get(category=MALWARE)
    assert (ended.state, ended.engine, ended.engine_version) == (SUCCEEDED, "YARA", "4.5")
    after = world.image(API)
    assert (after.scan_status, after.malware_status) == (ScanStatus.SCANNED, CategoryStatus.SCANNED)
    assert after.vulnerability_count == image.vulnerability_count
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_scan_for_malware_alone_begins_and_ends_with_that_part(
    data_dir: Path, clean: None, bells: list[tuple[str, int]]
) -> None:
    scan = ask(MALWARE)
    assert (scan.part, bells) == (Part.MALWARE, [("scanning.run_malware", scan.pk)])
    assert parts.share_of(scan) == (0, 100)
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.fence) == (State.SUCCEEDED, 1)
    assert_invariants()


def test_who_asks_for_vulnerabilities_during_the_malware_part_gets_them_after_it(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch, bells: list[tuple[str, int]]
) -> None:
    def look(scan: Scan, *_: object) -> MalwareOutcome:
        request_scan([scan.image_id], [VULNERABILITIES], TaskTrigger.MANUAL, None, "more")
        return CLEAN

    looks(monkeypatch, look)
    scan = asked(world, SMALL, MALWARE)
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.part) == (State.QUEUED, Part.CONTENT)
    assert bells[-1] == ("scanning.run_scan", scan.pk)
    assert parts.share_of(scan) == (70, 100)
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, states(scan)) == (State.SUCCEEDED, {MALWARE: SUCCEEDED, VULNERABILITIES: SUCCEEDED})
    assert Scan.objects.count() == 1
    assert_invariants()


def test_handing_over_and_what_was_found_are_written_as_one(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch, clean: None, bells: list[tuple[str, int]]
) -> None:
    at_failpoint(monkeypatch, "uncommitted", "raise")
    scan = asked(world, API, *Category)
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.part, scan.attempt) == (State.QUEUED, Part.CONTENT, 1)
    assert set(states(scan).values()) == {WAITING}
    assert {task for task, _ in bells} == {"scanning.run_scan"}
    assert world.image(API).vulnerabilities_status == CategoryStatus.NOT_SCANNED
    at_failpoint(monkeypatch, "nowhere", "raise")
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.part, states(scan)) == (
        Part.MALWARE,
        {VULNERABILITIES: SUCCEEDED, SENSITIVE: SUCCEEDED, MALWARE: WAITING},
    )
    assert_books_balance()


def test_cancelling_the_malware_part_takes_seconds_and_keeps_what_the_content_part_found(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_scan: Scan, _work: Path, heartbeat: Heartbeat) -> NoReturn:
        while True:
            heartbeat.wait(60)

    looks(monkeypatch, look)
    scan = asked(world, API, *Category)
    pipeline.run(scan.pk)
    found = world.image(API).vulnerability_count
    with in_background(scan):
        within(10, lambda: Scan.objects.get(pk=scan.pk).state == State.RUNNING, "the part began")
        request_cancel([scan.image_id], None)
        within(5, lambda: Scan.objects.get(pk=scan.pk).state == State.CANCELLED, "it is cancelled")
    image = world.image(API)
    assert (image.scan_status, image.vulnerability_count) == (ScanStatus.CANCELLED, found)
    assert states(scan)[MALWARE] == CategoryState.CANCELLED
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_cancelling_the_content_part_cancels_the_malware_part_too(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_scan: Scan, _work: Path, heartbeat: Heartbeat) -> NoReturn:
        while True:
            heartbeat.wait(60)

    monkeypatch.setattr(pipeline, "_look", look)
    scan = ask(*Category)
    with in_background(scan):
        within(10, lambda: Scan.objects.get(pk=scan.pk).state == State.RUNNING, "the part began")
        request_cancel([scan.image_id], None)
        within(5, lambda: Scan.objects.get(pk=scan.pk).state == State.CANCELLED, "it is cancelled")
    assert set(states(scan).values()) == {CategoryState.CANCELLED}
    assert_invariants()


@pytest.mark.django_db
def test_a_scan_that_waits_between_its_parts_is_cancelled_at_once() -> None:
    scan = content_done(ask(*Category))
    assert request_cancel([scan.image_id], None) == 1
    scan.refresh_from_db()
    assert scan.state == State.CANCELLED
    assert states(scan)[MALWARE] == CategoryState.CANCELLED
    assert_invariants()


@pytest.mark.django_db
def test_a_cancel_that_comes_as_a_part_is_saved_ends_the_scan_instead_of_handing_it_over() -> None:
    scan = ask(*Category)
    held = claimed(scan)
    held.categories.exclude(category=MALWARE).update(state=SUCCEEDED, finished_at=Now())
    request_cancel([scan.image_id], None)
    held.refresh_from_db()
    with transaction.atomic():
        assert parts.close_part(held)
        refresh_summaries([scan.image_id])
    scan.refresh_from_db()
    assert scan.state == State.CANCELLED
    assert states(scan) == {
        VULNERABILITIES: SUCCEEDED,
        SENSITIVE: SUCCEEDED,
        MALWARE: CategoryState.CANCELLED,
    }
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_click_on_cancel_during_the_hand_over_is_heard_once_that_is_written(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    at_failpoint(monkeypatch, "uncommitted", f"hold:{gate}")
    scan = ask(MALWARE)

    def look(*_: object) -> MalwareOutcome:
        request_scan([scan.image_id], [SENSITIVE], TaskTrigger.MANUAL, None, "more")
        return CLEAN

    def click() -> None:
        try:
            request_cancel([scan.image_id], None)
        finally:
            connection.close()

    looks(monkeypatch, look)
    with in_background(scan):
        within(10, (tmp_path / "gate.reached").exists, "the part is being saved")
        clicking = threading.Thread(target=click)
        clicking.start()
        gate.unlink()
        clicking.join(10)
    assert Scan.objects.get(pk=scan.pk).state == State.CANCELLED
    assert states(scan) == {MALWARE: SUCCEEDED, SENSITIVE: CategoryState.CANCELLED}
    assert_invariants()


@pytest.mark.django_db
def test_a_worker_lost_three_times_in_the_malware_part_costs_that_category_alone() -> None:
    scan = ask(*Category)
    lose_worker(scan)
    assert (scan.part, scan.attempt, scan.progress) == (Part.CONTENT, 1, 0)
    content_done(scan)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert (scan.state, scan.attempt, scan.progress) == (State.QUEUED, attempt - 1, 70)
        lose_worker(scan)
    assert (scan.state, scan.attempt) == (State.SUCCEEDED, MAX_ATTEMPTS)
    assert states(scan) == {VULNERABILITIES: SUCCEEDED, SENSITIVE: SUCCEEDED, MALWARE: FAILED}
    image = Image.objects.get(pk=scan.image_id)
    assert (image.scan_status, image.malware_status) == (ScanStatus.SCANNED, CategoryStatus.FAILED)
    assert image.error_code == WORKER_LOST.code
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_worker_lost_three_times_in_the_content_part_leaves_the_malware_part_its_turn(
    data_dir: Path, clean: None, bells: list[tuple[str, int]]
) -> None:
    scan = ask(*Category)
    for _ in range(MAX_ATTEMPTS):
        lose_worker(scan)
    assert (scan.state, scan.part, scan.attempt) == (State.QUEUED, Part.MALWARE, 0)
    assert bells[-1] == ("scanning.run_malware", scan.pk)
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.error_code) == (State.SUCCEEDED, "")
    assert states(scan) == {VULNERABILITIES: FAILED, SENSITIVE: FAILED, MALWARE: SUCCEEDED}
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_scan_has_failed_only_when_every_category_has(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, lambda *_: MalwareOutcome(FAILED, NOT_WELL))
    whole, partly = ask(*Category), ask(*Category, number=1)
    for _ in range(MAX_ATTEMPTS):
        lose_worker(whole)
    content_done(partly)
    for scan in (whole, partly):
        pipeline.run(scan.pk)
        scan.refresh_from_db()
    assert (whole.state, whole.error_code) == (State.FAILED, WORKER_LOST.code)
    assert (partly.state, partly.error_code) == (State.SUCCEEDED, "")
    assert Image.objects.get(pk=partly.image_id).error_code == NOT_WELL.code
    assert_invariants()


def test_an_image_that_cannot_be_pulled_fails_in_all_its_categories_at_once(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.server.faults.add(html_page(r"GET /v2/.*/blobs/", status=502, times=None))
    scan = asked(world, SMALL, *Category)
    for _ in range(MAX_ATTEMPTS):
        pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.part, scan.error_code) == (State.FAILED, Part.CONTENT, "REG_5XX")
    assert set(states(scan).values()) == {FAILED}
    assert_invariants()


def test_an_engine_that_crashes_in_the_content_part_costs_the_malware_part_nothing(
    world: World, database: object, clean: None, tmp_path: Path, settings: Settings
) -> None:
    engine = tmp_path / "trivy"
    engine.write_text("#!/bin/sh\nkill -9 $$\n")
    engine.chmod(0o755)
    settings.TRIVY_BINARY = str(engine)
    scan = asked(world, SMALL, *Category)
    while Scan.objects.active().filter(pk=scan.pk).exists():
        pipeline.run(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, states(scan)[MALWARE]) == (State.SUCCEEDED, SUCCEEDED)
    assert scan.categories.get(category=VULNERABILITIES).error_code == "ENG_CRASH"
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_malware_part_that_crashes_is_tried_three_times_and_rings_its_own_bell(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, bells: list[tuple[str, int]]
) -> None:
    def look(*_: object) -> NoReturn:
        raise MemoryError

    looks(monkeypatch, look)
    scan = content_done(ask(*Category))
    bells.clear()
    for _ in range(MAX_ATTEMPTS):
        pipeline.run(scan.pk)
        scan.refresh_from_db()
    assert bells == [("scanning.run_malware", scan.pk)] * (MAX_ATTEMPTS - 1)
    assert (scan.state, scan.attempt, states(scan)[MALWARE]) == (State.SUCCEEDED, MAX_ATTEMPTS, FAILED)
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_part_left_to_another_worker_begins_again_where_it_began_and_loses_no_attempt(
    bells: list[tuple[str, int]],
) -> None:
    held = claimed(content_done(ask(*Category)))
    Scan.objects.heartbeat(held.pk, fence=held.fence, step=ScanStep.JUDGE, progress=90)
    put_back(held)
    held.refresh_from_db()
    assert (held.state, held.part, held.attempt) == (State.QUEUED, Part.MALWARE, 0)
    assert (held.progress, held.step) == (70, ScanStep.WAITING)
    assert bells[-1] == ("scanning.run_malware", held.pk)


@pytest.mark.django_db(transaction=True)
def test_a_bell_that_was_not_heard_is_rung_again_for_the_part_that_waits(
    bells: list[tuple[str, int]],
) -> None:
    first, second = ask(VULNERABILITIES), ask(MALWARE, number=1)
    bells.clear()
    Scan.objects.update(queued_at=Now() - 2 * BELL_LOST_AFTER)
    reap()
    assert sorted(bells) == [("scanning.run_malware", second.pk), ("scanning.run_scan", first.pk)]


@pytest.mark.django_db
def test_the_worker_of_the_first_part_writes_nothing_in_the_second() -> None:
    scan = ask(*Category)
    old = claimed(scan)
    old.categories.exclude(category=MALWARE).update(state=SUCCEEDED)
    assert parts.close_part(old)
    assert not parts.close_part(old)
    new = claimed(scan)
    assert new.fence == old.fence + 1
    assert not Scan.objects.end(old.pk, fence=old.fence, state=State.SUCCEEDED)
    assert not parts.end_cancelled(old)
    assert states(scan)[MALWARE] == WAITING


@pytest.mark.django_db(transaction=True)
def test_progress_goes_on_from_the_first_part_to_the_second_and_counts_in_the_task(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    def look(scan: Scan, _work: Path, heartbeat: Heartbeat) -> MalwareOutcome:
        heartbeat.advance(ScanStep.JUDGE, 50)
        within(10, lambda: Scan.objects.get(pk=scan.pk).step == ScanStep.JUDGE, "it is shown")
        row = Scan.objects.get(pk=scan.pk)
        seen.append((row.get_step_display(), row.progress))
        return CLEAN

    looks(monkeypatch, look)
    scan = ask(*Category)
    assert parts.share_of(scan) == (0, 70)
    content_done(scan)
    task = scan.task_items.get().task
    assert totals_of([task])[task.pk].percent == 70
    pipeline.run(scan.pk)
    assert seen == [("Looking for viruses and trojans", 85)]
    assert totals_of([task])[task.pk].percent == 100
