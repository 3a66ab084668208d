"""Scans that meet a registry's hourly limit, or its wish to be left alone: they wait at no cost."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models import F

from demo.blobs import BlobStore
from demo.faults import Fault
from demo.images import build
from demo.server import running
from images.models import Image, ScanStatus
from repositories.models import Pull, Registry
from repositories.pull_limit import HOUR, database_now
from repositories.registries import client
from scanning import pipeline
from scanning.models import Category, Outcome, Scan, ScanStep, TaskTrigger
from scanning.recovery import reap
from scanning.services import request_cancel, request_scan
from scanning.waiting import bring_forward
from tcss.lifecycle import ACTIVE, State
from tcss.status import status
from tests.invariants import assert_hourly_limits_held, assert_invariants, assert_nothing_is_stuck
from tests.scanning.test_pipeline import layer_requests
from tests.scanning.world import World, register

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)
API, ALPINE = "shop/api:2.3.0", "library/alpine:3.18"
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def limit(registry: Registry, places: int | None) -> None:
    Registry.objects.filter(pk=registry.pk).update(hourly_pull_limit=places)


def fill(registry: Registry, places: int, *, ago: timedelta = MINUTE) -> None:
    """A limit whose places other images have taken."""
    limit(registry, places)
    start = Image.objects.count()
    for number in range(start, start + places):
        image = Image.objects.create(image_id=f"sha256:{number:064x}")
        Pull.objects.create(registry=registry, image=image, granted_at=database_now() - ago)


def let_pass(time: timedelta) -> None:
    """As if so much time had passed."""
    Pull.objects.update(granted_at=F("granted_at") - time)
    Scan.objects.update(available_at=F("available_at") - time, queued_at=F("queued_at") - time)


def ask(images: Iterable[Image], trigger: TaskTrigger = TaskTrigger.MANUAL) -> list[Scan]:
    pks = [image.pk for image in images]
    request_scan(pks, BOTH, trigger, None, "test")
    return list(Scan.objects.filter(image__in=pks).order_by("pk"))


def run(scan: Scan) -> Scan:
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    return scan


def work_off(workers: int = 3) -> None:
    """Workers take what is due, as long as there is any."""
    while due := list(Scan.objects.due().order_by("priority", "pk").values_list("pk", flat=True)):
        barrier = threading.Barrier(min(workers, len(due)))

        def work(pk: int, gate: threading.Barrier = barrier) -> None:
            try:
                gate.wait(30)
                pipeline.run(pk)
            finally:
                connection.close()

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, due[: barrier.parties]))


def is_close(found: datetime | None, wanted: datetime) -> bool:
    return found is not None and abs(found - wanted) < timedelta(seconds=20)


def test_a_scan_at_the_limit_waits_with_a_time_and_asks_the_registry_nothing(world: World) -> None:
    fill(world.registry, 5)
    world.server.requests.clear()
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert (scan.state, scan.step, scan.progress, scan.attempt) == (State.QUEUED, ScanStep.WAITING, 0, 0)
    assert scan.waits_for == world.registry
    assert is_close(scan.available_at, database_now() + HOUR - MINUTE)
    assert scan.failure is None
    assert world.image(ALPINE).scan_status == ScanStatus.SCANNING
    assert not world.image(ALPINE).error_code
    assert not world.server.requests
    # A bell does not wake it, nor does a tick.
    reap()
    assert run(scan).fence == 1
    found = status()
    assert (found.scans.queued, found.scans.waiting, found.scans.oldest_queued_seconds) == (0, 1, None)
    assert_nothing_is_stuck()


def test_when_its_time_has_come_it_is_scanned_at_the_first_attempt(world: World, database: object) -> None:
    fill(world.registry, 5)
    [scan] = ask([world.image(ALPINE)])
    for _ in range(5):
        run(scan)
        Scan.objects.filter(pk=scan.pk).update(available_at=database_now())
    let_pass(HOUR)
    assert status().scans.oldest_queued_seconds is not None
    run(scan)
    assert (scan.state, scan.attempt, scan.fence, scan.waits_for) == (State.SUCCEEDED, 1, 6, None)
    assert world.image(ALPINE).scan_status == ScanStatus.SCANNED
    assert Pull.objects.filter(image=scan.image_id).count() == 1
    assert_invariants()


def test_three_workers_at_once_pull_no_more_than_the_limit_and_all_are_scanned_in_the_end(
    world: World, database: object
) -> None:
    limit(world.registry, 5)
    scans = ask(image for name, image in world.names().items() if "gateway:5.0.1" not in name)
    assert len(scans) > 7
    hours = 0
    while Scan.objects.active().exists():
        work_off()
        assert Pull.objects.filter(granted_at__gte=database_now() - HOUR).count() <= 5
        assert_hourly_limits_held()
        waiting = Scan.objects.filter(state=State.QUEUED)
        assert waiting.filter(available_at=None).count() == 0
        let_pass(HOUR)
        hours += 1
    assert hours == -(-len(scans) // 5)
    assert set(Scan.objects.values_list("state", "attempt")) == {(State.SUCCEEDED, 1)}
    assert_invariants()


def test_what_the_store_has_is_scanned_without_a_place(world: World, database: object) -> None:
    [first] = ask([world.image(ALPINE)])
    run(first)
    fill(world.registry, 5)
    asked = len(layer_requests(world.server))
    request_scan([first.image_id], BOTH, TaskTrigger.MANUAL, None, "again")
    again = run(Scan.objects.latest("pk"))
    assert (again.state, again.attempt) == (State.SUCCEEDED, 1)
    assert Pull.objects.count() == 5
    assert len(layer_requests(world.server)) == asked


def test_a_layer_evicted_between_the_look_and_the_fetch_is_not_fetched_without_a_place(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world.registry, 5)
    monkeypatch.setattr("scanning.store.BlobStore.has", lambda *_: True)
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert (scan.state, scan.waits_for, scan.attempt) == (State.QUEUED, world.registry, 0)
    assert not layer_requests(world.server)


def test_cancelling_ends_a_waiting_scan_at_once(world: World) -> None:
    fill(world.registry, 5)
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert request_cancel([scan.image_id], None) == 1
    scan.refresh_from_db()
    assert scan.state == State.CANCELLED
    assert world.image(ALPINE).scan_status == ScanStatus.CANCELLED
    assert_invariants()


def test_a_scan_told_to_stop_just_before_it_would_wait_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world.registry, 5)
    [scan] = ask([world.image(ALPINE)])
    put_off = pipeline.put_off

    def cancelled_first(*arguments: object) -> None:
        request_cancel([scan.image_id], None)
        put_off(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "put_off", cancelled_first)
    assert run(scan).state == State.CANCELLED
    assert_invariants()


def test_scan_again_joins_the_one_that_waits_and_a_person_moves_it_ahead(world: World) -> None:
    fill(world.registry, 5)
    Pull.objects.filter(pk=Pull.objects.order_by("pk")[0].pk).update(granted_at=database_now() - 30 * MINUTE)
    images = [world.image(ALPINE), world.image(API)]
    for scan in ask(images, TaskTrigger.SCHEDULE):
        run(scan)
    first, second = Scan.objects.order_by("pk")
    assert first.available_at < second.available_at
    task = request_scan([second.image_id], BOTH, TaskTrigger.MANUAL, None, "by hand")
    assert task.items.get().outcome == Outcome.JOINED
    assert bring_forward() == 2
    first.refresh_from_db()
    second.refresh_from_db()
    assert second.available_at < first.available_at
    let_pass(31 * MINUTE)
    assert {scan.pk for scan in Scan.objects.due()} == {second.pk}
    assert Scan.objects.count() == 2


def test_a_scan_by_hand_gets_the_place_that_a_scheduled_one_waited_for(
    world: World, database: object
) -> None:
    fill(world.registry, 5, ago=59 * MINUTE)
    Pull.objects.filter(pk__in=Pull.objects.values("pk")[1:]).update(granted_at=database_now() - MINUTE)
    [scheduled] = ask([world.image(ALPINE)], TaskTrigger.SCHEDULE)
    run(scheduled)
    [manual] = ask([world.image(API)])
    run(manual)
    let_pass(2 * MINUTE)
    assert set(Scan.objects.due()) == {scheduled, manual}
    # Whoever comes first: it is the person's place.
    assert run(scheduled).state == State.QUEUED
    assert run(manual).state == State.SUCCEEDED
    assert_hourly_limits_held()


@pytest.mark.parametrize("change", ["raised", "removed", "deleted", "cancelled"])
def test_scans_are_brought_forward_when_there_is_no_need_to_wait(world: World, change: str) -> None:
    fill(world.registry, 5)
    images = [image for image in world.names().values() if image.image_layers.exists()][:7]
    scans = ask(images)
    for scan in scans:
        run(scan)
    told = set(Scan.objects.values_list("available_at", flat=True))
    assert len(told) == 7
    let_pass(MINUTE)
    changes: dict[str, Callable[[], object]] = {
        "raised": lambda: limit(world.registry, 10),
        "removed": lambda: limit(world.registry, None),
        "deleted": lambda: world.registry.delete(),
        "cancelled": lambda: request_cancel([scan.image_id for scan in scans[:3]], None),
    }
    changes[change]()
    reap()
    due = Scan.objects.due().count()
    assert due == {"raised": 5, "removed": 7, "deleted": 7, "cancelled": 0}[change]
    if change == "cancelled":
        # The two of the second hour have moved up to the first.
        left = Scan.objects.filter(state=State.QUEUED).values_list("available_at", flat=True)
        assert all(is_close(at, database_now() + HOUR - 2 * MINUTE) for at in left)
    else:
        assert Scan.objects.due().filter(pk__in=[scan.pk for scan in scans[:due]]).count() == due


def test_a_second_look_changes_nothing(world: World) -> None:
    fill(world.registry, 5)
    for scan in ask(list(world.names().values())[:7]):
        run(scan)
    assert bring_forward() == 0


def test_another_registry_with_a_free_place_is_taken_before_waiting(world: World, database: object) -> None:
    register(world.server, "mirror")
    mirror = Registry.objects.get(name="mirror")
    fill(world.registry, 5)
    limit(mirror, 5)
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert (scan.state, scan.attempt) == (State.SUCCEEDED, 1)
    assert Pull.objects.get(image=scan.image_id).registry == mirror
    assert_hourly_limits_held()


def test_with_every_registry_at_its_limit_the_earliest_place_is_waited_for(world: World) -> None:
    register(world.server, "mirror")
    mirror = Registry.objects.get(name="mirror")
    fill(world.registry, 5)
    fill(mirror, 10, ago=20 * MINUTE)
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert (scan.state, scan.waits_for) == (State.QUEUED, mirror)
    assert is_close(scan.available_at, database_now() + 40 * MINUTE)


def test_a_registry_that_does_not_work_is_no_reason_not_to_wait_for_the_other(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("mirror")
    with running(directory, build(BlobStore(directory))) as broken:
        register(broken, "mirror")
        broken.faults.add(Fault(match=r"/blobs/", times=None, status=404))
        fill(world.registry, 5)
        [scan] = ask([world.image(ALPINE)])
        run(scan)
    assert (scan.state, scan.waits_for, scan.attempt) == (State.QUEUED, world.registry, 0)


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        ("3600", timedelta(minutes=15)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", MINUTE),
        ("", MINUTE),
    ],
)
def test_a_registry_that_asks_to_be_left_alone_is_waited_for_and_no_attempt_is_lost(
    world: World, database: object, answer: str, pause: timedelta
) -> None:
    headers = {"Retry-After": answer} if answer else {}
    [scan] = ask([world.image(ALPINE)])
    for _ in range(4):
        world.server.faults.add(Fault(match=r"/blobs/", times=None, status=429, headers=headers))
        Scan.objects.update(available_at=None)
        run(scan)
        assert (scan.state, scan.attempt, scan.error_code) == (State.QUEUED, 0, "REG_RATE")
        assert scan.waits_for == world.registry
        assert is_close(scan.available_at, database_now() + pause)
        world.server.faults.clear()
    # Those who wait for this do not stand in the way of those who wait for the limit, nor are they hurried.
    assert bring_forward() == 0
    let_pass(pause)
    assert (run(scan).state, scan.attempt, scan.error_code) == (State.SUCCEEDED, 1, "")
    assert_invariants()


def test_a_registry_with_a_fault_of_its_own_is_asked_again_when_it_says(world: World) -> None:
    world.server.faults.add(Fault(match=r"/blobs/", times=None, status=503, headers={"Retry-After": "300"}))
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    assert (scan.state, scan.attempt, scan.error_code) == (State.QUEUED, 1, "REG_5XX")
    assert is_close(scan.available_at, database_now() + 5 * MINUTE)
    assert Scan.objects.claim(scan.pk) is None


def test_a_worker_that_put_a_scan_off_takes_the_next_at_once(
    world: World, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr("tcss.bell.ring_now", lambda _, row_id: rung.append(row_id))
    register(world.server, "mirror")
    fill(world.registry, 5)
    first, second = ask([world.image(ALPINE), world.image(API)])
    Scan.objects.update(queued_at=database_now() - MINUTE)
    rung.clear()
    Registry.objects.filter(name="mirror").delete()
    run(first)
    assert (first.state, rung) == (State.QUEUED, [second.pk])
    assert Scan.objects.filter(state__in=ACTIVE).count() == 2


def test_a_lost_worker_does_not_leave_a_place_kept_for_nobody(world: World) -> None:
    fill(world.registry, 5)
    [scan] = ask([world.image(ALPINE)])
    run(scan)
    Scan.objects.update(available_at=None)
    assert Scan.objects.claim(scan.pk) is not None
    Scan.objects.update(lease_until=database_now())
    reap()
    scan.refresh_from_db()
    assert (scan.state, scan.waits_for, scan.error_code) == (State.QUEUED, None, "WORKER_LOST")
