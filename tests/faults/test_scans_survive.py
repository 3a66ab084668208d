"""Real workers and servers are killed in the middle of scans: every scan ends by itself, once, and right."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.db.utils import OperationalError

from images.models import Image, ScanStatus
from scanning.models import Category, Part, Scan, TaskTrigger
from scanning.services import request_scan
from tcss.lifecycle import ACTIVE, MAX_ATTEMPTS, State
from tests.faults.plant import ENDS_WITHIN, Plant, within
from tests.invariants import assert_invariants, assert_no_work_is_left
from tests.scanning.by_hand import shown
from tests.scanning.world import World

pytestmark = pytest.mark.faults

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)
DAMAGED = "payments/gateway:5.0.1"


def ask(plant: Plant, world: World, *names: str, categories: Sequence[Category] = BOTH) -> list[Scan]:
    """Ask for scans of these images and ring for them."""
    images = [world.image(name).pk for name in names]
    request_scan(images, categories, TaskTrigger.MANUAL, None, "test")
    scans = list(Scan.objects.filter(image__in=images).order_by("pk"))
    for scan in scans:
        plant.ring(scan.pk)
    return scans


def everything(world: World) -> list[str]:
    return [name for name in world.names() if name != DAMAGED]


def all_ended() -> bool:
    return not Scan.objects.filter(state__in=ACTIVE).exists()


def hold(directory: Path, name: str) -> Path:
    """A file for which a fail-point waits until it is gone."""
    path = directory / name
    path.touch()
    return path


def reached(path: Path) -> bool:
    return path.with_name(f"{path.name}.reached").exists()


def assert_all_is_well(plant: Plant) -> None:
    """Every scan succeeded, nothing is doubled, lost or left behind."""
    assert set(Scan.objects.values_list("state", flat=True)) == {State.SUCCEEDED}
    assert_invariants()
    assert_no_work_is_left(plant.data_dir / "work")
    for image in Image.objects.filter(scan_status=ScanStatus.SCANNED):
        rows = shown(image)
        assert image.vulnerability_count == rows.total()
        assert max(rows.values(), default=1) == 1


def test_a_worker_child_killed_at_every_stage_costs_a_second_attempt_and_nothing_else(
    plant: Plant, known: World, tmp_path: Path
) -> None:
    stages = (
        "claimed",
        "configured",
        "pulling",
        "unpacked",
        "pulled",
        "analysed",
        "saving",
        "uncommitted",
        "saved",
    )
    marks = {stage: hold(tmp_path, stage) for stage in stages}
    plant.start(failpoints=",".join(f"{stage}=kill:{path}" for stage, path in marks.items()))
    ask(plant, known, *everything(known))
    within(ENDS_WITHIN + 30, all_ended, "every scan has ended")
    assert not [path.name for path in marks.values() if path.exists()], "every stage killed its child"
    # The one that was killed after its commit had ended; the others began anew.
    assert Scan.objects.filter(attempt=2).count() == len(stages) - 1
    assert_all_is_well(plant)


def test_a_worker_killed_as_a_whole_in_the_middle_of_scans_is_taken_up_by_the_next(
    plant: Plant, known: World, tmp_path: Path
) -> None:
    gate = hold(tmp_path, "gate")
    plant.start(failpoints=f"analysed=hold:{gate}")
    ask(plant, known, "shop/web:1.1.0", "shop/api:2.3.0", "library/alpine:3.18")
    within(60, lambda: reached(gate), "a scan is under way")
    plant.kill_with_children("scan")
    killed = time.monotonic()
    plant.start_worker()
    within(ENDS_WITHIN, all_ended, "every scan has ended")
    assert time.monotonic() - killed < ENDS_WITHIN
    assert_all_is_well(plant)


@pytest.mark.parametrize("stage", ["judged", "uncommitted"])
def test_a_worker_killed_in_the_malware_part_is_taken_up_there_and_the_content_part_is_not_done_again(
    plant: Plant, known: World, tmp_path: Path, stage: str
) -> None:
    mark = hold(tmp_path, "mark")
    plant.start()
    [scan] = ask(plant, known, "shop/api:2.3.0", categories=list(Category))
    within(60, lambda: Scan.objects.get(pk=scan.pk).part == Part.MALWARE, "the content part is done")
    image = known.image("shop/api:2.3.0")
    assert (image.scan_status, image.vulnerability_count > 0) == (ScanStatus.SCANNING, True)
    ended = scan.categories.get(category=Category.VULNERABILITIES).finished_at
    plant.start_malware_worker(failpoints=f"{stage}=kill:{mark}")
    within(60, lambda: not mark.exists(), "the malware part killed its worker")
    lost = Scan.objects.filter(pk=scan.pk, state=State.RUNNING, attempt=1)
    # A minute passes: the lease runs out.
    within(30, lambda: lost.update(lease_until=Now()), "it is held by the dead one")
    within(ENDS_WITHIN, all_ended, "the scan has ended")
    scan.refresh_from_db()
    assert (scan.part, scan.attempt, scan.fence) == (Part.MALWARE, 2, 3)
    assert scan.categories.get(category=Category.VULNERABILITIES).finished_at == ended
    assert_all_is_well(plant)


def test_valkey_killed_and_restarted_empty_loses_no_scan(plant: Plant, known: World, tmp_path: Path) -> None:
    gate = hold(tmp_path, "gate")
    plant.start(failpoints=f"analysed=hold:{gate}", concurrency=1)
    ask(plant, known, *everything(known))
    within(60, lambda: reached(gate), "a scan is under way")
    plant.kill_server("valkey")
    plant.restart_server("valkey")
    gate.unlink()
    within(ENDS_WITHIN, all_ended, "every scan has ended")
    assert_all_is_well(plant)


@pytest.mark.parametrize("stage", ["analysed", "uncommitted"])
def test_postgresql_killed_in_the_middle_of_a_scan_loses_and_doubles_nothing(
    plant: Plant, known: World, tmp_path: Path, stage: str
) -> None:
    gate = hold(tmp_path, "gate")
    plant.start(failpoints=f"{stage}=hold:{gate}")
    ask(plant, known, "shop/web:1.1.0", "shop/api:2.3.0", "library/alpine:3.18")
    within(60, lambda: reached(gate), "a scan is under way")
    connection.close()
    plant.kill_server("postgres")
    with pytest.raises(OperationalError):
        Scan.objects.exists()
    gate.unlink()
    plant.restart_server("postgres")
    connection.close()
    within(ENDS_WITHIN, all_ended, "every scan has ended")
    assert_all_is_well(plant)


def test_an_image_that_kills_its_worker_is_tried_three_times_and_others_are_scanned(
    plant: Plant, known: World, tmp_path: Path
) -> None:
    plant.start(failpoints="analysed=kill")
    [poison] = ask(plant, known, "shop/api:2.3.0")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        within(60, lambda n=attempt: _has_died(plant, n), f"attempt {attempt} has ended its worker")
        # A minute passes: the lease runs out.
        lost = Scan.objects.filter(pk=poison.pk, state=State.RUNNING, attempt=attempt)
        assert lost.update(lease_until=Now()) == 1
        within(30, lambda rows=lost: not rows.exists(), "it was noticed")
    poison.refresh_from_db()
    assert (poison.state, poison.error_code, poison.attempt) == (State.FAILED, "WORKER_LOST", MAX_ATTEMPTS)
    assert known.image("shop/api:2.3.0").scan_status == ScanStatus.EXCEPTION
    plant.kill_with_children("scan")
    plant.start_worker()
    ask(plant, known, "library/alpine:3.18")
    within(60, all_ended, "the other image is scanned")
    assert known.image("library/alpine:3.18").scan_status == ScanStatus.SCANNED
    assert_invariants()


def _has_died(plant: Plant, times: int) -> bool:
    """The pool's own line about a dead child; the error of its task is another."""
    return plant.log("scan").count("exited with 'signal 9 (SIGKILL)'") >= times
