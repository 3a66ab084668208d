"""Workers that are told to end, or die, while scans wait: no attempt is lost by it, no limit broken."""

import os
import signal
import time
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from demo.faults import Fault
from repositories.models import Pull, Registry, Sync, SyncTrigger
from scanning.models import Scan, ScanStep
from tcss.embedded.processes import TABLE
from tcss.lifecycle import State
from tests.faults.plant import ENDS_WITHIN, Plant, within
from tests.faults.test_scans_survive import all_ended, ask, assert_all_is_well, everything, hold
from tests.invariants import assert_hourly_limits_held
from tests.scanning.world import World

pytestmark = pytest.mark.faults


def test_a_worker_told_to_end_leaves_its_scans_to_the_next_at_no_cost(plant: Plant, known: World) -> None:
    # Layers that would take minutes to arrive.
    known.server.faults.add(Fault(match=r"/blobs/", times=None, skip=2, drip=(64, 0.2)))
    plant.start(concurrency=2)
    names = ["shop/api:2.3.0", "library/alpine:3.18", "shop/web:1.1.0"]
    scans = ask(plant, known, *names)
    pulling = Scan.objects.filter(state=State.RUNNING, step=ScanStep.PULL)
    within(60, lambda: pulling.count() == 2, "two layers are being pulled")
    worker = plant.processes.pop("scan")
    told = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(30)
    assert time.monotonic() - told < TABLE.process("worker-scan").stop_seconds
    for scan in scans:
        scan.refresh_from_db()
        assert (scan.state, scan.attempt, scan.error_code, scan.available_at) == (State.QUEUED, 0, "", None)
    known.server.faults.clear()
    plant.start_worker()
    within(60, all_ended, "the next worker has scanned them")
    assert set(Scan.objects.values_list("attempt", flat=True)) == {1}
    assert_all_is_well(plant)


def test_a_worker_told_to_end_leaves_its_data_update_to_the_next_at_no_cost(
    plant: Plant, known: World
) -> None:
    known.server.faults.add(Fault(match=r"/artifacts", times=None, drip=(16, 0.1)))
    sync = Sync.objects.create(registry=known.registry, trigger=SyncTrigger.MANUAL)
    # Nobody rings: it is found by the tick.
    Sync.objects.update(queued_at=Now() - timedelta(minutes=1))
    plant.start(concurrency=1)
    plant.start_sync_worker()
    within(
        60, lambda: Sync.objects.filter(state=State.RUNNING, stage__contains="images").exists(), "it lists"
    )
    worker = plant.processes.pop("sync")
    told = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(30)
    assert time.monotonic() - told < TABLE.process("worker-sync").stop_seconds
    sync.refresh_from_db()
    assert (sync.state, sync.attempt, sync.error_code) == (State.QUEUED, 0, "")
    known.server.faults.clear()
    plant.start_sync_worker()
    within(60, lambda: not Sync.objects.active().exists(), "the next worker has done it")
    sync.refresh_from_db()
    assert (sync.state, sync.attempt, sync.error_code) == (State.SUCCEEDED, 1, "")


def test_the_hourly_limit_holds_over_workers_that_die(
    plant: Plant, known: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    Registry.objects.update(hourly_pull_limit=5)
    marks = tmp_path_factory.mktemp("marks")
    deaths = ",".join(f"{stage}=kill:{hold(marks, stage)}" for stage in ("pulling", "unpacked", "saving"))
    plant.start(failpoints=deaths)
    scans = ask(plant, known, *everything(known)[:8])
    assert len(scans) == 8

    def only_waiting_is_left() -> bool:
        # A minute passes for those whose worker is gone.
        running = Scan.objects.filter(state=State.RUNNING)
        if not list(marks.glob("[a-z]*")):
            running.filter(lease_until__lt=Now() + timedelta(seconds=45)).update(lease_until=Now())
        waiting = Scan.objects.filter(state=State.QUEUED, available_at__gt=Now(), attempt=0)
        return Scan.objects.filter(state=State.SUCCEEDED).count() + waiting.count() == len(scans)

    within(ENDS_WITHIN, only_waiting_is_left, "all but those that wait are scanned")
    assert Scan.objects.filter(state=State.SUCCEEDED).count() == Pull.objects.count() == 5
    assert_hourly_limits_held()
    Pull.objects.update(granted_at=F("granted_at") - timedelta(hours=1))
    Scan.objects.update(available_at=F("available_at") - timedelta(hours=1))
    within(ENDS_WITHIN, all_ended, "the others are scanned in the next hour")
    assert Scan.objects.filter(attempt=2).count() == 3
    assert_all_is_well(plant)
