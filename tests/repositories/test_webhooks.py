"""Webhooks: who is heard, what it costs, when what was named is listed again, and how one is set up."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from demo.catalog import Tag as DemoTag
from demo.faults import html_page
from demo.server import DemoServer
from repositories import hints, updates
from repositories.models import Registry, RegistryKind, RepositoryHint, Sync, SyncTrigger, Tag
from repositories.removal import RemovalOutcome, settle
from repositories.sync import run
from repositories.tasks import hints as tick
from repositories.updates import request_hinted, request_sync
from repositories.webhook_events import MAX_BODY_BYTES
from repositories.webhooks import receive, renew
from tcss.lifecycle import State

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The data updates whose bell was rung; no broker is asked."""
    rung: list[int] = []
    monkeypatch.setattr(updates, "ring", lambda task, pk: rung.append(pk))
    return rung


@pytest.fixture
def harbor(make_registry: Callable[..., Registry]) -> Registry:
    return make_registry("https://harbor.example.org", name="Harbor")


@pytest.fixture
def token(harbor: Registry) -> str:
    return renew(harbor)


def pushed(*names: str, kind: str = "PUSH_ARTIFACT") -> bytes:
    """One push; or, of several names, one replication into the project they share."""
    if len(names) == 1:
        return json.dumps(
            {"type": kind, "event_data": {"repository": {"repo_full_name": names[0]}, "resources": None}}
        ).encode()
    copied = [{"name_tag": f"{name}:1"} for name in names]
    replication = {"dest_resource": {"namespace": "team"}, "successful_artifact": copied}
    return json.dumps({"type": "REPLICATION", "event_data": {"replication": replication}}).encode()


def post(registry: Registry, body: bytes, **headers: str) -> HttpResponse:
    return Client(headers=headers).post(
        f"/webhooks/{registry.webhook_id}/", body, content_type="application/json"
    )


def named(registry: Registry) -> set[str]:
    return set(hints.waiting(registry).values_list("repository_name", flat=True))


def make_old(seconds: int = 6, **which: object) -> None:
    """What the database's clock would have written some seconds ago."""
    RepositoryHint.objects.filter(**which).update(received_at=timezone.now() - timedelta(seconds=seconds))


def end(sync: Sync, state: State, *, minutes_ago: int = 0) -> None:
    moment = timezone.now() - timedelta(minutes=minutes_ago)
    Sync.objects.filter(pk=sync.pk).update(state=state, finished_at=moment, created_at=moment)


@pytest.mark.parametrize("form", ["Authorization {}", "Authorization Bearer {}", "X-TCSS-Token {}"])
def test_a_push_leaves_a_hint_and_gets_no_word(harbor: Registry, token: str, form: str) -> None:
    header, _, value = form.format(token).partition(" ")
    response = post(harbor, pushed("team/shop/api"), **{header: value})
    assert (response.status_code, response.content) == (202, b"")
    assert "Set-Cookie" not in response.headers
    assert named(harbor) == {"team/shop/api"}
    harbor.refresh_from_db()
    assert harbor.webhook_heard_at is not None
    assert not Sync.objects.exists()


def test_a_repository_nobody_knows_yet_is_only_a_hint(harbor: Registry, token: str) -> None:
    post(harbor, pushed("brand/new"), Authorization=token)
    assert named(harbor) == {"brand/new"}
    assert not harbor.repositories.exists()


def test_a_pull_is_heard_and_leaves_nothing(harbor: Registry, token: str) -> None:
    response = post(harbor, pushed("team/api", kind="PULL_ARTIFACT"), Authorization=token)
    assert response.status_code == 202
    assert named(harbor) == set()
    harbor.refresh_from_db()
    assert harbor.webhook_heard_at is not None


def test_whoever_shows_no_right_token_is_told_nothing(
    harbor: Registry, token: str, make_registry: Callable[..., Registry]
) -> None:
    other = make_registry("https://other.example.org")
    others_token = renew(other)
    silent = make_registry("https://silent.example.org")
    assert silent.webhook_id is None
    stranger = Registry(webhook_id="A" * 43)
    answers = [
        post(harbor, pushed("team/api")),
        post(harbor, pushed("team/api"), Authorization="Bearer "),
        post(harbor, pushed("team/api"), Authorization=others_token),
        post(harbor, pushed("team/api"), Authorization=token[:-1]),
        post(harbor, pushed("team/api"), Authorization=f"Basic {token}"),
        post(harbor, pushed("team/api"), **{"X-TCSS-Token": f"Bearer {token}"}),
        post(harbor, pushed("team/api"), Authorization=harbor.webhook_token_hash),
        post(harbor, b"x" * (MAX_BODY_BYTES + 1), Authorization="wrong"),
        post(harbor, b"{", Authorization="wrong"),
        post(stranger, pushed("team/api"), Authorization=token),
        post(silent, pushed("team/api"), Authorization=token),
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, b"")}
    assert len({frozenset(answer.headers.items()) for answer in answers}) == 1
    assert not RepositoryHint.objects.exists()


def test_a_wrong_address_takes_the_same_steps_as_a_wrong_token(
    harbor: Registry, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return False

    monkeypatch.setattr("repositories.webhooks.secrets.compare_digest", compare)
    steps = []
    for registry in (harbor, Registry(webhook_id="A" * 43)):
        with CaptureQueriesContext(connection) as queries:
            assert post(registry, pushed("team/api"), Authorization=token).status_code == 404
        steps.append((len(queries), compared[:]))
        compared.clear()
    assert steps[0] == steps[1] == (1, [(64, 64), (64, 64)])


def test_only_a_post_is_an_event(harbor: Registry, token: str) -> None:
    for webhook_id in (harbor.webhook_id, "A" * 43):
        for method in ("get", "head", "put", "delete", "options"):
            response = getattr(Client(headers={"Authorization": token}), method)(f"/webhooks/{webhook_id}/")
            assert response.status_code == 405


def test_too_long_and_malformed_bodies_are_refused_without_a_word(harbor: Registry, token: str) -> None:
    too_long = post(harbor, b" " * (MAX_BODY_BYTES + 1), Authorization=token)
    malformed = post(harbor, b'{"type": "pushImage"', Authorization=token)
    named_badly = post(harbor, pushed("../etc"), Authorization=token)
    assert [each.status_code for each in (too_long, malformed, named_badly)] == [413, 400, 400]
    assert too_long.content == malformed.content == named_badly.content == b""
    harbor.refresh_from_db()
    assert harbor.webhook_heard_at is None
    assert named(harbor) == set()


def test_no_login_no_form_token_and_no_session_is_needed(harbor: Registry, token: str) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Authorization": token})
    with CaptureQueriesContext(connection) as queries:
        response = client.post(f"/webhooks/{harbor.webhook_id}/", pushed("team/api"), "application/json")
    assert response.status_code == 202
    assert not any("session" in query["sql"] or "auth_user" in query["sql"] for query in queries)


def test_a_flood_of_one_name_is_one_row_and_few_queries(harbor: Registry, token: str) -> None:
    for _ in range(2):
        post(harbor, pushed("team/api"), Authorization=token)
    (hint,) = RepositoryHint.objects.all()
    before = Registry.objects.get(pk=harbor.pk)
    assert before.webhook_heard_at is not None
    body = pushed("team/api")
    with CaptureQueriesContext(connection) as queries:
        for _ in range(500):
            receive(before, body)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) == 2 * 500
    assert not any(statement.startswith(("INSERT", "UPDATE", "DELETE")) for statement in statements)
    assert RepositoryHint.objects.get() == hint


def test_being_heard_is_written_once_a_minute(harbor: Registry, token: str) -> None:
    post(harbor, pushed("team/api"), Authorization=token)
    harbor.refresh_from_db()
    first = harbor.webhook_heard_at
    post(harbor, pushed("team/api"), Authorization=token)
    harbor.refresh_from_db()
    assert harbor.webhook_heard_at == first
    Registry.objects.update(webhook_heard_at=timezone.now() - timedelta(minutes=2))
    post(harbor, pushed("team/api"), Authorization=token)
    harbor.refresh_from_db()
    assert first is not None
    assert harbor.webhook_heard_at is not None
    assert harbor.webhook_heard_at >= first


def flood(registry: Registry) -> None:
    """Ten thousand names, two hundred an event."""
    for start in range(0, 10_000, 200):
        receive(registry, pushed(*(f"r{number}" for number in range(start, start + 200))))


def test_a_flood_of_ten_thousand_names_is_bounded_and_asks_for_everything_once(
    harbor: Registry, bells: list[int]
) -> None:
    with CaptureQueriesContext(connection) as queries:
        flood(harbor)
    assert RepositoryHint.objects.count() == hints.HINT_LIMIT
    assert len(queries) < 50 * 8

    make_old()
    sync = request_hinted(harbor)
    assert sync is not None
    assert (sync.is_partial, sync.trigger, bells) == (False, SyncTrigger.WEBHOOK, [sync.pk])
    # Until one came through nobody knows what was dropped.
    assert RepositoryHint.objects.count() == hints.HINT_LIMIT

    # The flood goes on: what was named meanwhile waits, and everything is not listed over and over.
    flood(harbor)
    make_old()
    assert request_hinted(harbor) is None
    end(sync, State.SUCCEEDED, minutes_ago=11)
    assert request_hinted(harbor) is None
    assert RepositoryHint.objects.count() == hints.HINT_LIMIT
    end(sync, State.SUCCEEDED, minutes_ago=16)
    again = request_hinted(harbor)
    assert again is not None
    assert not again.is_partial


def flooded(monkeypatch: pytest.MonkeyPatch, registry: Registry, *names: str) -> None:
    """These names, as many as may wait, were named some time ago."""
    monkeypatch.setattr(hints, "HINT_LIMIT", len(names))
    hints.note(registry, names)
    make_old(20 * 60)


def whole_one(registry: Registry) -> Sync:
    sync = request_hinted(registry)
    assert sync is not None
    assert not sync.is_partial
    run(sync.pk)
    sync.refresh_from_db()
    return sync


def test_what_was_dropped_is_listed_later_where_the_whole_data_update_fails(
    demo: DemoServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooded(monkeypatch, registry, "shop/gone", "shop/none")
    demo.faults.add(html_page("/api/", times=None))
    failed = whole_one(registry)
    assert failed.state == State.FAILED
    assert named(registry) == {"shop/gone", "shop/none"}
    demo.faults.clear()
    end(failed, State.FAILED, minutes_ago=16)
    assert whole_one(registry).is_complete
    assert named(registry) == set()


def test_what_is_dropped_while_everything_is_listed_brings_another_whole_one(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooded(monkeypatch, registry, "shop/gone", "shop/none")
    names = [f"late/r{number}" for number in range(5)]

    def settled_late(registry: Registry, sync_pk: int) -> RemovalOutcome:
        hints.note(registry, names)
        return settle(registry, sync_pk)

    monkeypatch.setattr("repositories.sync.settle", settled_late)
    assert whole_one(registry).is_complete
    assert named(registry) == set(names[:2])
    assert hints.names_were_dropped(registry)


def test_a_flood_of_one_registry_is_no_other_registrys(
    harbor: Registry, make_registry: Callable[..., Registry]
) -> None:
    other = make_registry("https://other.example.org")
    flood(harbor)
    receive(other, pushed("team/api"))
    assert named(other) == {"team/api"}


def test_what_was_named_is_listed_once_it_is_quiet(harbor: Registry, bells: list[int]) -> None:
    receive(harbor, pushed("team/api"))
    tick()
    assert not Sync.objects.exists()
    make_old(4)
    tick()
    assert not Sync.objects.exists()
    make_old(6)
    receive(harbor, pushed("team/web"))
    tick()
    tick()
    sync = Sync.objects.get()
    assert (sync.trigger, sync.is_partial, sync.state) == (SyncTrigger.WEBHOOK, True, State.QUEUED)
    assert bells == [sync.pk]
    # Who handles them takes them away, not who asks.
    assert named(harbor) == {"team/api", "team/web"}


def test_a_data_update_under_way_is_waited_for(harbor: Registry) -> None:
    active = request_sync(harbor, SyncTrigger.MANUAL)
    receive(harbor, pushed("team/api"))
    make_old()
    assert request_hinted(harbor) is None
    end(active, State.SUCCEEDED)
    assert request_hinted(harbor) is not None


@pytest.mark.parametrize("state", [State.FAILED, State.INCOMPLETE, State.CANCELLED])
def test_after_trouble_webhooks_ask_again_only_later(harbor: Registry, state: State) -> None:
    receive(harbor, pushed("team/api"))
    make_old()
    first = request_hinted(harbor)
    assert first is not None
    end(first, state, minutes_ago=9)
    assert request_hinted(harbor) is None
    end(first, state, minutes_ago=11)
    assert request_hinted(harbor) is not None


def test_a_hint_that_a_data_update_left_alone_brings_no_other_at_once(harbor: Registry) -> None:
    receive(harbor, pushed("team/api"))
    make_old()
    first = request_hinted(harbor)
    assert first is not None
    end(first, State.SUCCEEDED)
    assert request_hinted(harbor) is None
    end(first, State.SUCCEEDED, minutes_ago=1)
    receive(harbor, pushed("team/web"))
    make_old(repository_name="team/web")
    assert request_hinted(harbor) is not None


def test_a_hint_that_came_while_its_repository_was_listed_is_younger_than_the_listing(
    harbor: Registry,
) -> None:
    receive(harbor, pushed("team/api"))
    make_old(60)
    sync = request_hinted(harbor)
    assert sync is not None
    assert Sync.objects.claim(sync.pk) is not None
    (seen,) = RepositoryHint.objects.all()
    receive(harbor, pushed("team/api"))
    RepositoryHint.objects.filter(pk=seen.pk, received_at__lte=seen.received_at).delete()
    assert named(harbor) == {"team/api"}


def test_hints_that_nothing_came_of_go_after_a_day(harbor: Registry) -> None:
    receive(harbor, pushed("team/api"))
    receive(harbor, pushed("team/web"))
    make_old(25 * 3600, repository_name="team/api")
    tick()
    assert named(harbor) == {"team/web"}


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_asking_for_everything_widens_a_data_update_of_what_was_named(harbor: Registry, state: State) -> None:
    receive(harbor, pushed("team/api"))
    make_old()
    partial = request_hinted(harbor)
    assert partial is not None
    if state == State.RUNNING:
        assert Sync.objects.claim(partial.pk) is not None
    user = User.objects.create_user("operator")
    whole = request_sync(harbor, SyncTrigger.MANUAL, user)
    assert whole == partial
    assert (whole.is_partial, whole.trigger, whole.requested_by, whole.state) == (
        False,
        SyncTrigger.MANUAL,
        user,
        state,
    )
    # The second click joins the first.
    request_sync(harbor, SyncTrigger.COMMAND)
    whole.refresh_from_db()
    assert (whole.trigger, Sync.objects.count()) == (SyncTrigger.MANUAL, 1)


def listings(demo: DemoServer) -> list[str]:
    """What was asked of the demo's API, without its query, each once."""
    return sorted({seen.path.partition("?")[0] for seen in demo.requests if seen.path.startswith("/api/")})


def test_a_push_that_was_announced_is_shown_without_listing_anything_else(
    demo: DemoServer, registry: Registry
) -> None:
    run(request_sync(registry, SyncTrigger.MANUAL).pk)
    before = Tag.objects.count()
    token = renew(registry)
    digest = Tag.objects.get(repository_name="library/debian", name="12").manifest_digest
    tag = DemoTag("12-again", push_time=datetime(2026, 1, 2, tzinfo=UTC))
    demo.catalog = demo.catalog.with_tag("library", "debian", tag, digest)
    demo.requests.clear()

    assert post(registry, pushed("library/debian"), Authorization=token).status_code == 202
    make_old()
    tick()
    sync = Sync.objects.get(trigger=SyncTrigger.WEBHOOK)
    run(sync.pk)

    sync.refresh_from_db()
    assert (sync.state, sync.is_partial, sync.is_complete, sync.tags_new) == (State.SUCCEEDED, True, False, 1)
    assert Tag.objects.filter(repository_name="library/debian", name="12-again").exists()
    assert Tag.objects.filter(missing_since=None).count() == before + 1
    assert listings(demo) == ["/api/v2.0/projects/library/repositories/debian/artifacts"]
    assert not any("/manifests/" in seen.path for seen in demo.requests)
    assert named(registry) == set()
    tick()
    assert Sync.objects.filter(trigger=SyncTrigger.WEBHOOK).count() == 1


def test_a_deletion_that_was_announced_is_shown_without_listing_anything_else(
    demo: DemoServer, registry: Registry
) -> None:
    run(request_sync(registry, SyncTrigger.MANUAL).pk)
    token = renew(registry)
    demo.catalog = demo.catalog.without_tag("library", "debian", "12")
    demo.requests.clear()
    post(registry, pushed("library/debian", kind="DELETE_ARTIFACT"), Authorization=token)
    make_old()
    tick()
    run(Sync.objects.get(trigger=SyncTrigger.WEBHOOK).pk)
    assert Tag.objects.get(repository_name="library/debian", name="12").missing_since is not None
    assert listings(demo) == ["/api/v2.0/projects/library/repositories/debian/artifacts"]


def test_a_hint_for_what_is_not_there_ends_well_and_makes_nothing(
    demo: DemoServer, registry: Registry
) -> None:
    run(request_sync(registry, SyncTrigger.MANUAL).pk)
    before = Tag.objects.filter(missing_since=None).count()
    receive(registry, pushed("library/no-such-thing"))
    make_old()
    tick()
    sync = Sync.objects.get(trigger=SyncTrigger.WEBHOOK)
    run(sync.pk)
    sync.refresh_from_db()
    assert sync.state == State.SUCCEEDED
    assert not registry.repositories.filter(name="library/no-such-thing").exists()
    assert Tag.objects.filter(missing_since=None).count() == before
    assert named(registry) == set()


def test_a_hint_whose_repository_could_not_be_listed_waits(demo: DemoServer, registry: Registry) -> None:
    run(request_sync(registry, SyncTrigger.MANUAL).pk)
    receive(registry, pushed("library/debian"))
    make_old()
    tick()
    demo.faults.add(html_page("/repositories/debian/artifacts", times=None))
    sync = Sync.objects.get(trigger=SyncTrigger.WEBHOOK)
    run(sync.pk)
    sync.refresh_from_db()
    assert sync.state == State.FAILED
    assert named(registry) == {"library/debian"}
    demo.faults.clear()
    tick()
    assert Sync.objects.filter(trigger=SyncTrigger.WEBHOOK).count() == 1
    end(sync, State.FAILED, minutes_ago=11)
    tick()
    run(Sync.objects.latest("pk").pk)
    assert named(registry) == set()


# The page that sets a webhook up.


def operator() -> Client:
    user = User.objects.create_user("somebody")
    user.groups.add(Group.objects.get(name="Operator"))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, registry: Registry, action: str) -> Any:
    return client.post(f"/registries/{registry.pk}/webhook/", {"action": action}, follow=True)


def token_in(page: str) -> str:
    found = re.search(r'data-copy="([\w-]{43})"', page)
    assert found is not None
    return found[1]


def test_the_address_and_the_token_are_shown_once_and_work(harbor: Registry, settings: Any) -> None:
    settings.PUBLIC_URL = "https://console.example"
    client = operator()
    response = act(client, harbor, "create")
    page = response.content.decode()
    harbor.refresh_from_db()
    address = f"https://console.example/webhooks/{harbor.webhook_id}/"
    shown = token_in(page)
    assert address in page
    assert response["Cache-Control"] == "no-store"
    assert post(harbor, pushed("team/api"), Authorization=shown).status_code == 202

    later = client.get(f"/registries/{harbor.pk}/webhook/").content.decode()
    assert address in later
    assert shown not in later
    assert shown not in client.get(f"/registries/{harbor.pk}/").content.decode()


def test_switching_on_what_is_on_leaves_its_token(harbor: Registry) -> None:
    client = operator()
    shown = token_in(act(client, harbor, "create").content.decode())
    harbor.refresh_from_db()
    before = (harbor.webhook_id, harbor.webhook_token_hash)
    again = act(client, harbor, "create").content.decode()
    assert "cannot be shown again" in again
    assert shown not in again
    harbor.refresh_from_db()
    assert (harbor.webhook_id, harbor.webhook_token_hash) == before
    assert post(harbor, pushed("team/api"), Authorization=shown).status_code == 202


def test_nothing_that_opens_the_address_is_kept(harbor: Registry, token: str) -> None:
    row = Registry.objects.values().get(pk=harbor.pk)
    assert not any(token in str(value) for value in row.values())
    assert len(row["webhook_token_hash"]) == 64


def test_a_new_token_ends_the_old_one_at_the_same_address(harbor: Registry, token: str) -> None:
    webhook_id = harbor.webhook_id
    page = act(operator(), harbor, "rotate").content.decode()
    harbor.refresh_from_db()
    assert harbor.webhook_id == webhook_id
    assert post(harbor, pushed("team/api"), Authorization=token).status_code == 404
    assert post(harbor, pushed("team/api"), Authorization=token_in(page)).status_code == 202


def test_a_webhook_that_was_switched_off_answers_no_more(harbor: Registry, token: str) -> None:
    before = Registry.objects.get(pk=harbor.pk)
    receive(harbor, pushed("team/api"))
    page = act(operator(), harbor, "remove").content.decode()
    assert "Switch on" in page
    assert post(before, pushed("team/api"), Authorization=token).status_code == 404
    assert named(harbor) == set()
    harbor.refresh_from_db()
    assert (harbor.webhook_id, harbor.webhook_token_hash) == (None, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"version": "V1"}, ["pushImage", "Auth Header"]),
        ({"version": "V2"}, ["artifact pushed", "tag retention finished", "Auth Header"]),
        ({"kind": RegistryKind.TCR}, ["X-TCSS-Token", "push image"]),
    ],
)
def test_the_page_says_what_to_set_in_this_kind_of_registry(
    make_registry: Callable[..., Registry], words: dict[str, str], expected: list[str]
) -> None:
    page = act(operator(), make_registry("https://r.example.org", **words), "create").content.decode()
    assert all(text in page for text in expected)
    assert "scans pull too" in page


def test_ccr_has_no_webhook_and_the_page_says_so(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry("https://ccr.example.org", kind=RegistryKind.CCR)
    client = operator()
    assert "CCR has no webhooks" in client.get(f"/registries/{registry.pk}/").content.decode()
    assert "CCR has no webhooks" in client.get(f"/registries/{registry.pk}/webhook/").content.decode()
    assert act(client, registry, "create").status_code == 400
    registry.refresh_from_db()
    assert registry.webhook_id is None


def test_an_address_no_other_machine_reaches_is_said_to_be_one(harbor: Registry, settings: Any) -> None:
    client = operator()
    for public_url, warned in (("http://127.0.0.1:8000", True), ("https://console.example", False)):
        settings.PUBLIC_URL = public_url
        assert ("cannot reach this address" in act(client, harbor, "rotate").content.decode()) is warned


def test_the_registrys_page_says_when_it_was_last_heard(harbor: Registry) -> None:
    client = operator()
    address = f"/registries/{harbor.pk}/"
    assert "Switch on" in client.get(address).content.decode()
    renew(harbor)
    page = client.get(address).content.decode()
    assert re.search("Token set.*Never", page, re.DOTALL)
    Registry.objects.update(webhook_heard_at=timezone.now() - timedelta(minutes=5))
    assert "5\xa0minutes ago" in client.get(address).content.decode()
