"""A data update that does not go straight through: nights, hints, changes, and workers that die."""

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from demo.catalog import Tag as DemoTag
from demo.exchange import Answer
from demo.faults import Fault
from demo.server import DemoServer
from repositories import sync as data_update, sync_intake
from repositories.models import Health, Registry, Repository, RepositoryHint, Sync, SyncTrigger, Tag
from repositories.registries import client
from repositories.registries.client import RegistryHTTP
from repositories.registries.connection import Connection
from repositories.registries.failures import AccessRefusedError
from repositories.registries.pace import MOST, Pace
from repositories.services import note_health
from repositories.updates import cancel_sync, request_sync
from tcss.lifecycle import State


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("registry")]


def run(sync: Sync) -> Sync:
    data_update.run(sync.pk)
    sync.refresh_from_db()
    return sync


def update(registry: Registry) -> Sync:
    sync = run(request_sync(registry, SyncTrigger.MANUAL))
    registry.refresh_from_db()
    return sync


def listed(demo: DemoServer) -> list[str]:
    """The repositories whose artifacts were asked for, in order."""
    found = []
    for seen in demo.requests:
        path = seen.path.partition("?")[0]
        if path.endswith("/artifacts"):
            project, _, rest = path.removeprefix("/api/v2.0/projects/").partition("/repositories/")
            found.append(f"{project}/{rest.removesuffix('/artifacts').replace('%252F', '/')}")
    # A list of several pages is asked for several times.
    return list(dict.fromkeys(found))


@pytest.fixture
def in_the_middle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Does something once while a data update looks up its first manifests."""

    def arrange(act: Callable[[], object]) -> None:
        original = sync_intake.known_manifests
        acts = [act]

        def interrupted(*arguments: Any) -> Any:
            if acts:
                acts.pop()()
            return original(*arguments)

        monkeypatch.setattr(sync_intake, "known_manifests", interrupted)

    return arrange


def test_no_more_is_asked_at_once_than_the_pace_allows(demo: DemoServer, registry: Registry) -> None:
    lock = threading.Lock()
    under_way, most = 0, 0

    def count(answer: Answer) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return answer

    demo.faults.add(Fault(match="^GET", times=None, change=count))
    assert update(registry).state == State.SUCCEEDED
    assert 1 < most <= MOST


@pytest.mark.parametrize(
    ("fault", "allowed"),
    [
        (Fault(match="/projects", status=429), 4),
        (Fault(match="/projects", status=503), 4),
        (Fault(match="/projects", status=500), 8),
        (Fault(match="/projects", status=404), 8),
    ],
)
def test_a_registry_that_asks_for_fewer_gets_half(demo: DemoServer, fault: Fault, allowed: int) -> None:
    pace = Pace(first=8)
    allowed_networks = (ipaddress.ip_network("127.0.0.0/8"),)
    http = RegistryHTTP(Connection(demo.url, "", lambda: "", allowed_networks=allowed_networks, pace=pace))
    demo.faults.add(fault)
    with http.open(f"{demo.url}/api/v2.0/projects", {}) as reply:
        assert reply.status == fault.status
    assert pace.allowed == allowed


def test_a_busy_registry_is_listed_to_the_end(demo: DemoServer, registry: Registry) -> None:
    busy = {"Retry-After": "1"}
    demo.faults.add(Fault(match="/artifacts", status=429, headers=busy, times=1, skip=3))
    demo.faults.add(Fault(match="/manifests/", status=503, times=3))
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.SUCCEEDED, "")
    assert sync.is_complete


def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_update, "Pace", lambda: Pace(first=1, most=1))
    monkeypatch.setattr(data_update, "_AHEAD", 1)


def test_repositories_are_listed_in_the_order_of_their_names(
    demo: DemoServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_after_the_other(monkeypatch)
    update(registry)
    assert listed(demo) == sorted(Repository.objects.values_list("name", flat=True))


def test_a_night_that_ends_goes_on_where_it_ended(
    demo: DemoServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_after_the_other(monkeypatch)
    end = datetime(2026, 3, 1, 3, tzinfo=UTC)

    def now() -> datetime:
        return end + timedelta(seconds=-1 if len(listed(demo)) < 5 else 1)

    monkeypatch.setattr(data_update, "timezone", SimpleNamespace(now=now))
    sync = request_sync(registry, SyncTrigger.NIGHTLY)
    Sync.objects.filter(pk=sync.pk).update(stop_at=end)

    run(sync)

    registry.refresh_from_db()
    assert (sync.state, sync.error_code, sync.is_complete) == (State.INCOMPLETE, "NIGHT_OVER", False)
    assert (sync.repositories_seen, sync.repositories_total) == (5, 17)
    assert "5 of 17" in sync.error_reason
    assert sync.error_remedy
    first_five = listed(demo)
    assert registry.sync_cursor == first_five[-1]
    assert registry.last_synced_at is None

    demo.requests.clear()
    again = update(registry)
    assert (again.state, again.is_complete) == (State.SUCCEEDED, True)
    assert listed(demo)[-5:] == first_five
    assert sorted(listed(demo)) == [*first_five, *listed(demo)[:-5]]
    assert registry.sync_cursor == ""


def test_a_night_that_is_over_already_asks_for_no_repository(demo: DemoServer, registry: Registry) -> None:
    Registry.objects.filter(pk=registry.pk).update(sync_cursor="library/debian")
    sync = request_sync(registry, SyncTrigger.NIGHTLY)
    Sync.objects.filter(pk=sync.pk).update(stop_at=datetime.now(UTC))
    run(sync)
    registry.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "NIGHT_OVER")
    assert listed(demo) == []
    assert registry.sync_cursor == "library/debian"


def test_a_night_does_not_cut_what_a_person_has_asked_for_meanwhile(
    demo: DemoServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_after_the_other(monkeypatch)
    end = datetime(2026, 3, 1, 3, tzinfo=UTC)

    def now() -> datetime:
        if len(listed(demo)) < 5:
            return end - timedelta(seconds=1)
        assert request_sync(registry, SyncTrigger.MANUAL).pk == sync.pk
        return end + timedelta(seconds=1)

    monkeypatch.setattr(data_update, "timezone", SimpleNamespace(now=now))
    sync = request_sync(registry, SyncTrigger.NIGHTLY)
    Sync.objects.filter(pk=sync.pk).update(stop_at=end)
    run(sync)
    assert (sync.state, sync.is_complete, sync.stop_at) == (State.SUCCEEDED, True, None)
    assert sync.repositories_seen == 17


def hinted(registry: Registry, *names: str) -> Sync:
    for name in names:
        RepositoryHint.objects.create(registry=registry, repository_name=name)
    return Sync.objects.create(registry=registry, trigger=SyncTrigger.WEBHOOK, is_partial=True)


def test_hints_list_their_repositories_and_nothing_else(demo: DemoServer, registry: Registry) -> None:
    update(registry)
    last = registry.last_synced_at
    web = Tag.objects.get(repository_name="shop/web", name="1.1.0")
    pushed = DemoTag("2.0.0", push_time=datetime(2026, 1, 2, tzinfo=UTC))
    demo.catalog = demo.catalog.with_tag("shop", "web", pushed, web.manifest_digest)
    demo.catalog = demo.catalog.without_tag("library", "alpine", "3.18.2")
    demo.requests.clear()

    sync = run(hinted(registry, "shop/web"))

    assert (sync.state, sync.is_complete, sync.tags_new) == (State.SUCCEEDED, False, 1)
    assert listed(demo) == ["shop/web"]
    assert not any(seen.path.startswith("/api/v2.0/projects?") for seen in demo.requests)
    assert Tag.objects.filter(repository_name="shop/web", name="2.0.0", is_latest=True).exists()
    assert not Tag.objects.exclude(missing_since=None).exists()
    assert not RepositoryHint.objects.exists()
    registry.refresh_from_db()
    assert registry.last_synced_at == last


def test_listing_what_a_webhook_named_proves_no_login(registry: Registry) -> None:
    wrong = AccessRefusedError("REG_AUTH", "refused")
    note_health(registry, wrong)
    note_health(registry, wrong)
    # Harbor lists public projects whatever the password.
    assert run(hinted(registry, "shop/web")).state == State.SUCCEEDED
    registry.refresh_from_db()
    assert (registry.health, registry.health_code, registry.refused_logins) == (Health.FAILING, "REG_AUTH", 2)
    assert update(registry).state == State.SUCCEEDED
    assert (registry.health, registry.refused_logins) == (Health.HEALTHY, 0)


def test_a_hint_of_a_repository_that_is_not_there_leaves_no_row_and_no_error(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    known = Repository.objects.count()
    sync = run(hinted(registry, "shop/nothing"))
    assert (sync.state, Repository.objects.count()) == (State.SUCCEEDED, known)
    assert not RepositoryHint.objects.exists()


def test_a_hint_that_comes_while_its_repository_is_listed_stays(
    registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    in_the_middle(lambda: RepositoryHint.objects.update(received_at=later))
    run(hinted(registry, "shop/web"))
    assert RepositoryHint.objects.get().received_at == later


def test_a_whole_update_follows_the_hints_it_found(registry: Registry) -> None:
    RepositoryHint.objects.create(registry=registry, repository_name="shop/web")
    update(registry)
    assert not RepositoryHint.objects.exists()


def test_one_of_hints_goes_on_with_everything_when_that_is_asked_for(
    demo: DemoServer, registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    sync = hinted(registry, "shop/web")
    in_the_middle(lambda: request_sync(registry, SyncTrigger.MANUAL))
    run(sync)
    assert (sync.state, sync.is_partial, sync.is_complete) == (State.SUCCEEDED, False, True)
    assert sync.repositories_seen == sync.repositories_total == 17
    assert listed(demo)[0] == "shop/web"
    assert set(listed(demo)) == set(Repository.objects.values_list("name", flat=True))


def test_changed_settings_begin_the_update_anew_without_costing_an_attempt(
    demo: DemoServer, registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    in_the_middle(lambda: Registry.objects.filter(pk=registry.pk).update(address=f"{demo.url}0"))
    run(sync)
    assert (sync.state, sync.attempt, sync.error_code) == (State.QUEUED, 0, "")
    assert not Tag.objects.exists()

    Registry.objects.filter(pk=registry.pk).update(address=demo.url)
    assert run(sync).state == State.SUCCEEDED


def test_a_cancellation_is_heard_by_an_update_that_begins_anew(
    demo: DemoServer, registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)

    def change_and_cancel() -> None:
        Registry.objects.filter(pk=registry.pk).update(address=f"{demo.url}0")
        cancel_sync(sync.pk)

    in_the_middle(change_and_cancel)
    run(sync)
    assert (sync.state, sync.cancel_requested, sync.stage) == (State.CANCELLED, True, "")
    assert sync.finished_at is not None


def test_a_cancellation_is_heard_by_an_update_that_would_wait_for_the_registry(
    demo: DemoServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.faults.add(Fault(match="/api/", status=429, times=None, headers={"Retry-After": "600"}))
    sync = request_sync(registry, SyncTrigger.MANUAL)

    def cancelled_meanwhile(*arguments: Any) -> None:
        note_health(*arguments)
        cancel_sync(sync.pk)

    monkeypatch.setattr(data_update, "note_health", cancelled_meanwhile)
    run(sync)
    assert (sync.state, sync.error_code, sync.stage) == (State.CANCELLED, "", "")


def test_a_changed_limit_is_no_reason_to_begin_anew(
    registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    in_the_middle(lambda: Registry.objects.filter(pk=registry.pk).update(hourly_pull_limit=5))
    assert update(registry).state == State.SUCCEEDED


def test_a_registry_deleted_in_the_middle_leaves_nothing_behind(
    registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    in_the_middle(lambda: Registry.objects.filter(pk=registry.pk).delete())
    data_update.run(request_sync(registry, SyncTrigger.MANUAL).pk)
    assert [model.objects.count() for model in (Registry, Repository, Tag)] == [0, 0, 0]


def test_a_worker_that_dies_in_the_middle_leaves_an_update_that_another_brings_to_its_end(
    registry: Registry, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    in_the_middle(die)
    sync = request_sync(registry, SyncTrigger.MANUAL)
    with pytest.raises(KeyboardInterrupt):
        data_update.run(sync.pk)
    Sync.objects.filter(pk=sync.pk).update(lease_until=datetime.now(UTC) - timedelta(seconds=1))

    run(sync)

    assert (sync.state, sync.attempt, sync.is_complete) == (State.SUCCEEDED, 2, True)
    assert sync.tags_seen == Tag.objects.count()


def test_a_cancellation_is_heard_in_the_middle_of_many_slow_listings(
    transactional_db: None, demo: DemoServer, registry: Registry
) -> None:
    demo.faults.add(Fault(match="/artifacts", drip=(10, 1.0), times=None))
    sync = request_sync(registry, SyncTrigger.MANUAL)
    cancelled_at: list[float] = []

    def cancel() -> None:
        while len(listed(demo)) < 3:
            time.sleep(0.02)
        cancel_sync(sync.pk)
        cancelled_at.append(time.monotonic())
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    run(sync)
    ended = time.monotonic()
    thread.join()
    assert sync.state == State.CANCELLED
    assert ended - cancelled_at[0] < 5.0


@pytest.mark.parametrize(
    ("match", "code"),
    [
        ("GET /api/v2.0/projects\\?.*page=1&", "REG_5XX"),
        ("/projects/shop/repositories\\?", "REG_5XX"),
        ("/shop/repositories/web/artifacts", "REG_5XX"),
    ],
)
def test_an_incomplete_listing_is_not_called_complete(
    demo: DemoServer, registry: Registry, match: str, code: str
) -> None:
    assert update(registry).is_complete
    demo.faults.add(Fault(match=match, status=500, times=None))
    sync = update(registry)
    assert (sync.is_complete, sync.error_code) == (False, code)
    assert not Tag.objects.exclude(missing_since=None).exists()


def test_projects_that_could_not_be_listed_do_not_outweigh_images_that_were(
    demo: DemoServer, registry: Registry
) -> None:
    smallest, *others = sorted(demo.catalog.projects, key=lambda project: len(project.repositories))
    for repository in smallest.repositories[1:]:
        demo.catalog = demo.catalog.without_repository(smallest.name, repository.name)
    for project in others:
        demo.faults.add(Fault(match=f"/projects/{project.name}/repositories", status=403, times=None))
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_FORBIDDEN")
    assert sync.repositories_seen == 1 <= len(others)
    assert registry.health == Health.HEALTHY


def test_an_empty_registry_that_had_images_is_not_complete(demo: DemoServer, registry: Registry) -> None:
    assert update(registry).is_complete
    demo.catalog = replace(demo.catalog, projects=())
    assert not update(registry).is_complete


def test_an_image_that_may_not_be_pulled_here_is_read_from_another_repository(
    demo: DemoServer, registry: Registry
) -> None:
    web = demo.catalog.repository("shop/web")
    assert web is not None
    artifact = web.find("1.1.0")
    assert artifact is not None
    demo.catalog = demo.catalog.with_artifact("library", "alpine", artifact)
    demo.faults.add(Fault(match="/v2/library/alpine/manifests/", status=403, times=None))

    sync = update(registry)

    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_FORBIDDEN")
    names = Tag.objects.filter(manifest_digest=artifact.digest)
    assert {(tag.repository_name, tag.image is None) for tag in names} == {
        ("library/alpine", False),
        ("shop/web", False),
    }
