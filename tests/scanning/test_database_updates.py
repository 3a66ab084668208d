"""The vulnerability database renews itself: when due, once an hour, never at the cost of the one in use."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from demo.blobs import BlobStore
from demo.server import DemoServer, running
from demo.vulnerability_db import write_bundle
from scanning import database_updates, installed
from scanning.engine_models import MatchRun
from tcss.lifecycle import State
from tests.scanning.database_mirror import mirrored

NOWHERE = "127.0.0.1:9/mirror/trivy-db:2"


@pytest.fixture(autouse=True)
def updates(data_dir: Path, settings: Settings) -> None:
    settings.DATABASE_UPDATES = True
    settings.TRIVY_DB_REPOSITORY = NOWHERE


@pytest.fixture
def mirror(tmp_path: Path, settings: Settings):
    write_bundle(tmp_path / "db.tar.gz")
    store = BlobStore(tmp_path / "registry")
    with running(store.directory, mirrored(store, tmp_path / "db.tar.gz")) as server:
        settings.TRIVY_DB_REPOSITORY = server.url.removeprefix("http://") + "/mirror/trivy-db:2"
        yield server


def downloads(server: DemoServer) -> int:
    return sum("/blobs/" in request.path for request in server.requests)


def test_an_installation_without_a_database_gets_the_newest(mirror: DemoServer, settings: Settings) -> None:
    version = database_updates.refresh()
    assert version is not None
    assert installed.vulnerability_database().current() == version
    assert version.source == settings.TRIVY_DB_REPOSITORY


def test_a_fresh_database_is_left_alone(mirror: DemoServer) -> None:
    version = database_updates.refresh()
    assert version is not None
    assert version.updated_at is not None
    asked = len(mirror.requests)
    assert database_updates.refresh(version.updated_at + timedelta(hours=2)) is None
    assert len(mirror.requests) == asked


def test_an_old_database_is_replaced(mirror: DemoServer) -> None:
    database_updates.refresh()
    before = downloads(mirror)
    version = database_updates.refresh(timezone.now() + timedelta(days=30))
    assert version is not None
    assert downloads(mirror) > before


def test_a_source_that_does_not_answer_is_asked_once_an_hour(
    database: object, caplog: pytest.LogCaptureFixture
) -> None:
    version = installed.vulnerability_database().current()
    later = timezone.now() + timedelta(days=30)
    for minutes in (0, 1, 59):
        assert database_updates.refresh(later + timedelta(minutes=minutes)) is None
    said = "The vulnerability database could not be downloaded"
    assert caplog.messages.count(said) == 1
    database_updates.refresh(later + timedelta(minutes=61))
    assert caplog.messages.count(said) == 2
    assert installed.vulnerability_database().current() == version


def test_a_clock_that_was_set_back_does_not_put_the_next_attempt_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = timezone.now()
    database_updates.refresh(now + timedelta(days=365))
    database_updates.refresh(now)
    assert caplog.messages.count("The vulnerability database could not be downloaded") == 2


def test_an_installation_that_is_told_not_to_asks_nobody(mirror: DemoServer, settings: Settings) -> None:
    settings.DATABASE_UPDATES = False
    assert database_updates.refresh() is None
    assert not mirror.requests
    assert installed.vulnerability_database().current() is None


def test_after_going_back_none_is_downloaded_by_itself_for_a_day(mirror: DemoServer) -> None:
    database_updates.refresh()
    database_updates.refresh(timezone.now() + timedelta(days=30))
    went_back = timezone.now() + timedelta(days=60)
    database_updates.roll_back(went_back)
    before = downloads(mirror)
    assert database_updates.refresh(went_back + timedelta(hours=23)) is None
    assert downloads(mirror) == before
    assert database_updates.refresh(went_back + timedelta(hours=25)) is not None


def test_the_account_of_a_private_mirror_comes_from_the_settings(settings: Settings) -> None:
    assert database_updates.login() is None
    settings.TRIVY_DB_USERNAME, settings.TRIVY_DB_PASSWORD = "reader", "secret"
    login = database_updates.login()
    assert login is not None
    assert (login.username, login.password) == ("reader", "secret")


@pytest.mark.django_db
def test_the_newest_database_any_host_has_used_is_known(settings: Settings) -> None:
    assert database_updates.newest_known() is None
    now = timezone.now()
    for days in (3, 1, 2):
        made = now - timedelta(days=days)
        MatchRun.objects.create(database_version=f"{days}", database_updated_at=made, state=State.SUCCEEDED)
    assert database_updates.newest_known() == now - timedelta(days=1)
