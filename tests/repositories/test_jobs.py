"""Data updates as jobs: asked for twice, lost, unheard and cancelled."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from repositories import recovery, updates
from repositories.models import Registry, Repository, Sync, SyncTrigger
from repositories.services import delete_registry
from repositories.updates import cancel_sync, request_each, request_sync
from tcss.lifecycle import State, held

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


def test_asking_for_a_registry_that_was_deleted_meanwhile_ends(
    transactional_db: None, make_registry: Callable[..., Registry], bells: list[int]
) -> None:
    gone, there = make_registry("https://gone.example.org"), make_registry("https://there.example.org")
    Registry.objects.filter(pk=gone.pk).delete()
    with pytest.raises(Registry.DoesNotExist):
        request_sync(gone, SyncTrigger.MANUAL)
    asked = request_each([gone, there], SyncTrigger.MANUAL)
    assert [(sync.pk, sync.registry_id) for sync in asked] == [(bells[-1], there.pk)]
    assert Sync.objects.get() == asked[0]


@pytest.mark.parametrize("is_partial", [False, True])
def test_the_wish_of_somebody_who_was_deleted_meanwhile_is_nobodys(
    transactional_db: None, other: Registry, bells: list[int], is_partial: bool
) -> None:
    user = User.objects.create_user("brief")
    if is_partial:
        Sync.objects.create(registry=other, trigger=SyncTrigger.WEBHOOK, is_partial=True)
    User.objects.filter(pk=user.pk).delete()
    request_sync(other, SyncTrigger.MANUAL, user)
    sync = Sync.objects.get()
    assert (sync.requested_by, sync.trigger, sync.is_partial) == (None, SyncTrigger.MANUAL, False)


def wait_for_a_waiter() -> None:
    """Until somebody waits for a lock of this test's database."""
    statement = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    ends = time.monotonic() + 20
    with connection.cursor() as cursor:
        while time.monotonic() < ends:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(statement)
            if cursor.fetchone():
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_deleting_a_registry_waits_for_what_its_data_update_writes(
    transactional_db: None, other: Registry
) -> None:
    sync = running(other, lease=30)
    holds = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with transaction.atomic():
                held(Sync.objects.all(), sync.pk, sync.fence)
                holds.set()
                wait_for_a_waiter()
                Repository.objects.create(registry=other, name="shop/late", namespace="shop")
                Registry.objects.filter(pk=other.pk).update(generation=5)
        except (DatabaseError, AssertionError) as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert holds.wait(20)
    delete_registry(other)
    thread.join()
    assert failures == []
    assert [model.objects.count() for model in (Registry, Sync, Repository)] == [0, 0, 0]


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


def test_asking_by_hand_while_one_is_stopping_gets_one_of_its_own(other: Registry, bells: list[int]) -> None:
    for state in (State.QUEUED, State.RUNNING):
        stopping = request_sync(other, SyncTrigger.MANUAL)
        Sync.objects.filter(pk=stopping.pk).update(state=state, cancel_requested=True)
        asked = request_sync(other, SyncTrigger.MANUAL)
        stopping.refresh_from_db()
        assert stopping.state == State.CANCELLED
        assert asked.pk != stopping.pk
        assert asked.state == State.QUEUED
        assert bells[-1] == asked.pk
        Sync.objects.filter(pk=asked.pk).delete()


def test_only_a_person_ends_one_that_is_stopping(other: Registry, bells: list[int]) -> None:
    stopping = request_sync(other, SyncTrigger.MANUAL)
    Sync.objects.filter(pk=stopping.pk).update(state=State.RUNNING, cancel_requested=True)
    assert request_sync(other, SyncTrigger.WEBHOOK).pk == stopping.pk
