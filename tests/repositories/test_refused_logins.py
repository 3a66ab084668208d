"""A refused password: the console stops asking by itself before the account is locked."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from demo.faults import Fault
from demo.server import DemoServer
from repositories import hints, sync as data_update, updates
from repositories.credentials import Secret
from repositories.models import LOGIN_TRIES, Health, Registry, RepositoryHint, Sync, SyncTrigger, Tag
from repositories.registries.failures import AccessRefusedError, TryLaterError
from repositories.services import change_registry, note_health
from repositories.updates import request_hinted, request_nightly, request_sync
from tcss.lifecycle import State

FIRST_NIGHT = datetime(2099, 3, 2, 2, 59, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "ring", lambda task, pk: None)


@pytest.fixture
def refused(demo: DemoServer, make_registry: Callable[..., Registry]) -> Registry:
    """The demo registry, connected with a password that is wrong."""
    return make_registry(demo.url, password=Secret.of("wrong"))


def nights(count: int, *, after: int = 0) -> list[Sync]:
    """The data updates that so many nights ask for, each run to its end."""
    ran = []
    for night in range(after, after + count):
        for sync in request_nightly(FIRST_NIGHT + timedelta(days=night)):
            data_update.run(sync.pk)
            sync.refresh_from_db()
            ran.append(sync)
    return ran


def test_c_a10_a_wrong_password_is_tried_three_nights_and_then_no_more(
    demo: DemoServer, refused: Registry
) -> None:
    ran = nights(6)
    assert [(sync.state, sync.error_code) for sync in ran] == [(State.FAILED, "REG_AUTH")] * LOGIN_TRIES
    logins = [seen for seen in demo.requests if "authorization" in seen.headers]
    assert len(logins) == LOGIN_TRIES == 3
    refused.refresh_from_db()
    assert refused.is_left_alone
    assert "no longer begin by themselves" in refused.health_remedy
    assert not Tag.objects.exclude(missing_since=None).exists()


def test_c_a10_webhooks_do_not_ask_either(refused: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "is_due", lambda registry: True)
    RepositoryHint.objects.create(registry=refused, repository_name="shop/web")
    refused.refused_logins = LOGIN_TRIES
    assert request_hinted(refused) is None
    refused.refused_logins = LOGIN_TRIES - 1
    assert request_hinted(refused) is not None


def test_c_a10_a_new_password_is_tried_again(demo: DemoServer, refused: Registry, password: str) -> None:
    nights(4)
    refused.refresh_from_db()
    refused.password = Secret.of(password)
    change_registry(refused)
    (sync,) = nights(1, after=4)
    assert sync.state == State.SUCCEEDED
    refused.refresh_from_db()
    assert (refused.refused_logins, refused.health_remedy) == (0, "")


def test_c_a10_somebody_who_asks_by_hand_is_heard(refused: Registry) -> None:
    nights(4)
    refused.refresh_from_db()
    data_update.run(request_sync(refused, SyncTrigger.MANUAL).pk)
    refused.refresh_from_db()
    assert (refused.refused_logins, refused.is_left_alone) == (1, False)
    assert len(nights(4, after=4)) == LOGIN_TRIES - 1


def test_other_trouble_is_no_refusal_and_success_forgets_them(
    db: None, make_registry: Callable[..., Registry]
) -> None:
    registry = make_registry("https://harbor.example.org")
    wrong = AccessRefusedError("REG_AUTH", "refused")
    for error in (wrong, TryLaterError("REG_5XX", "a fault"), wrong):
        note_health(registry, error)
    registry.refresh_from_db()
    assert registry.refused_logins == 2
    note_health(registry, None)
    registry.refresh_from_db()
    assert registry.refused_logins == 0
    assert registry.health_checked_at is not None
    assert registry.health_checked_at <= timezone.now()


def test_a_password_that_nobody_can_read_was_refused_by_nobody(
    demo: DemoServer, make_registry: Callable[..., Registry]
) -> None:
    registry = make_registry(demo.url, password=Secret("stored with another key"))
    ran = nights(LOGIN_TRIES + 1)
    assert [(sync.state, sync.error_code) for sync in ran] == [(State.FAILED, "REG_AUTH")] * (LOGIN_TRIES + 1)
    registry.refresh_from_db()
    assert (registry.health_code, registry.refused_logins) == ("REG_AUTH", 0)
    assert "another key" in registry.health_reason
    assert "no longer begin" not in registry.health_remedy


def test_a_login_refused_for_pulling_alone_is_tried_once_a_night_and_three_nights(
    demo: DemoServer, registry: Registry
) -> None:
    # As with CCR, where listing goes by another account.
    demo.faults.add(Fault(match="/service/token", status=401, times=None))
    ran = nights(5)
    assert [(sync.state, sync.error_code) for sync in ran] == [(State.INCOMPLETE, "REG_AUTH")] * LOGIN_TRIES
    assert {sync.repositories_seen for sync in ran} == {17}
    logins = [seen for seen in demo.requests if seen.path.startswith("/service/token")]
    assert len(logins) == LOGIN_TRIES
    registry.refresh_from_db()
    assert (registry.health, registry.health_code) == (Health.FAILING, "REG_AUTH")
    assert registry.is_left_alone
