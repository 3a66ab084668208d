"""Data updates as jobs: asked for twice, lost, unheard, cancelled, and once every night."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone

from repositories import recovery, updates
from repositories.models import Registry, Sync, SyncTrigger
from repositories.nights import night_began
from repositories.updates import cancel_sync, request_nightly, request_sync
from tcss.lifecycle import State

pytestmark = pytest.mark.django_db


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The data updates whose bell was rung; no broker is asked."""
    rung: list[int] = []
    for module in (updates, recovery):
        monkeypatch.setattr(module, "ring", lambda task, pk: rung.append(pk))
    return rung


@pytest.fixture
def other(make_registry: Callable[..., Registry]) -> Registry:
    return make_registry("https://harbor.example.org")


def running(registry: Registry, *, attempt: int = 1, lease: int = -1) -> Sync:
    return Sync.objects.create(
        registry=registry,
        trigger=SyncTrigger.MANUAL,
        state=State.RUNNING,
        attempt=attempt,
        fence=attempt,
        lease_until=timezone.now() + timedelta(seconds=lease),
    )


def test_asking_twice_joins_the_first(other: Registry, bells: list[int]) -> None:
    first = request_sync(other, SyncTrigger.MANUAL)
    assert request_sync(other, SyncTrigger.NIGHTLY) == first
    assert bells == [first.pk]


def test_asking_at_the_same_time_makes_one(transactional_db: None, other: Registry, bells: list[int]) -> None:
    barrier = threading.Barrier(4)
    found: list[int] = []

    def ask() -> None:
        barrier.wait()
        found.append(request_sync(other, SyncTrigger.MANUAL).pk)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert set(found) == {Sync.objects.get().pk}


def test_a_lost_worker_gives_its_data_update_back(other: Registry, bells: list[int]) -> None:
    sync = running(other)
    recovery.reap()
    sync.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.QUEUED, "WORKER_LOST")
    assert bells == [sync.pk]


def test_the_third_lost_worker_ends_it(other: Registry, bells: list[int]) -> None:
    sync = running(other, attempt=3)
    recovery.reap()
    sync.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.FAILED, "WORKER_LOST")
    assert sync.error_remedy
    assert bells == []


def test_a_worker_that_was_told_to_stop_and_died_ends_cancelled(other: Registry, bells: list[int]) -> None:
    sync = running(other)
    cancel_sync(sync.pk)
    recovery.reap()
    sync.refresh_from_db()
    assert sync.state == State.CANCELLED


def test_a_living_worker_is_left_alone(other: Registry, bells: list[int]) -> None:
    sync = running(other, lease=30)
    recovery.reap()
    sync.refresh_from_db()
    assert (sync.state, bells) == (State.RUNNING, [])


def test_a_bell_nobody_heard_is_rung_again_but_not_at_every_tick(other: Registry, bells: list[int]) -> None:
    sync = request_sync(other, SyncTrigger.MANUAL)
    recovery.reap()
    assert bells == [sync.pk]
    Sync.objects.update(queued_at=timezone.now() - timedelta(minutes=1))
    recovery.reap()
    recovery.reap()
    assert bells == [sync.pk, sync.pk]


def test_a_waiting_one_that_was_told_to_stop_is_cancelled(other: Registry, bells: list[int]) -> None:
    sync = request_sync(other, SyncTrigger.MANUAL)
    Sync.objects.update(cancel_requested=True, queued_at=timezone.now() - timedelta(minutes=1))
    recovery.reap()
    sync.refresh_from_db()
    assert sync.state == State.CANCELLED


NIGHT = datetime(2026, 3, 10, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "began"),
    [
        ("2026-03-10T00:00:00+00:00", "UTC", "2026-03-10T00:00:00+00:00"),
        ("2026-03-10T02:59:59+00:00", "UTC", "2026-03-10T00:00:00+00:00"),
        ("2026-03-10T03:00:00+00:00", "UTC", None),
        ("2026-03-10T23:59:59+00:00", "UTC", None),
        ("2026-03-09T16:30:00+00:00", "Asia/Shanghai", "2026-03-09T16:00:00+00:00"),
        # Europe's clocks go from 2:00 to 3:00, and from 3:00 to 2:00.
        ("2026-03-29T00:30:00+00:00", "Europe/Berlin", "2026-03-28T23:00:00+00:00"),
        ("2026-03-29T01:00:00+00:00", "Europe/Berlin", None),
        ("2026-10-25T01:30:00+00:00", "Europe/Berlin", "2026-10-24T22:00:00+00:00"),
        # Havana's clocks skip midnight.
        ("2026-03-08T05:00:00+00:00", "America/Havana", "2026-03-08T05:00:00+00:00"),
    ],
)
def test_the_night_is_the_servers(now: str, zone: str, began: str | None) -> None:
    expected = None if began is None else datetime.fromisoformat(began)
    assert night_began(datetime.fromisoformat(now), ZoneInfo(zone)) == expected


def set_created(sync: Sync, moment: datetime) -> None:
    """What the database's clock would have written."""
    Sync.objects.filter(pk=sync.pk).update(created_at=moment)


def finish(sync: Sync) -> None:
    Sync.objects.filter(pk=sync.pk).update(state=State.SUCCEEDED)


def test_every_registry_is_updated_once_a_night(
    make_registry: Callable[..., Registry], bells: list[int]
) -> None:
    registries = [make_registry(f"https://r{number}.example.org") for number in range(3)]
    for minutes in range(0, 90, 10):
        for sync in request_nightly(NIGHT + timedelta(minutes=minutes)):
            set_created(sync, NIGHT + timedelta(minutes=minutes))
            finish(sync)
    assert sorted(Sync.objects.values_list("registry", flat=True)) == [each.pk for each in registries]
    for sync in request_nightly(NIGHT + timedelta(days=1)):
        set_created(sync, NIGHT + timedelta(days=1))
    assert Sync.objects.count() == 6


def test_nothing_is_asked_for_by_day(other: Registry, bells: list[int]) -> None:
    assert request_nightly(NIGHT + timedelta(hours=8)) == []
    assert not Sync.objects.exists()


def test_tonights_own_follows_one_that_somebody_asked_for(other: Registry, bells: list[int]) -> None:
    by_hand = request_sync(other, SyncTrigger.MANUAL)
    assert request_nightly(NIGHT) == []
    finish(by_hand)
    assert [sync.trigger for sync in request_nightly(NIGHT)] == [SyncTrigger.NIGHTLY]


def test_several_ticks_at_once_ask_once(transactional_db: None, other: Registry, bells: list[int]) -> None:
    barrier = threading.Barrier(4)
    now = timezone.now().replace(hour=1)

    def tick() -> None:
        barrier.wait()
        for sync in request_nightly(now):
            finish(sync)
        connection.close()

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Sync.objects.filter(trigger=SyncTrigger.NIGHTLY).count() == 1
