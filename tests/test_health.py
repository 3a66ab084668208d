"""The health pages: the process answers, it can serve, and what is old or stuck."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings

from images.models import Image
from repositories.credentials import Secret
from repositories.models import Registry, Sync, SyncTrigger
from scanning.engine_models import MatchRun
from scanning.models import Scan
from tcss import views
from tcss.lifecycle import State
from tcss.status import QUEUE_LATE_SECONDS, TICK_LATE_SECONDS, record_tick, status
from tcss.tasks import tick


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """A process that has not looked at the schema yet."""
    views._require_current_schema.cache_clear()


@pytest.fixture
def data_folder(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    settings.DISK_FLOOR_BYTES = 1
    return tmp_path


def codes() -> set[str]:
    return {problem.code for problem in status().problems}


def add_database(data_folder: Path, *, days_old: float) -> None:
    folder = data_folder / "vulnerability-db" / "current"
    folder.mkdir(parents=True)
    (folder / "trivy.db").write_bytes(b"x")
    updated = timezone.now() - timedelta(days=days_old)
    (folder / "metadata.json").write_text(
        json.dumps({"Version": 2, "UpdatedAt": updated.isoformat(), "NextUpdate": updated.isoformat()})
    )


def queued_scan(*, minutes: float = 0) -> Scan:
    image = Image.objects.create(image_id=f"sha256:{Image.objects.count():064x}")
    scan = Scan.objects.create(image=image)
    Scan.objects.filter(pk=scan.pk).update(queued_at=timezone.now() - timedelta(minutes=minutes))
    return scan


def test_livez_answers_without_a_database(client: Client) -> None:
    response = client.get("/livez")
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_readyz_looks_at_the_schema_once_and_at_the_database_every_time(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    assert client.get("/readyz").status_code == 200
    with django_assert_num_queries(1):
        assert client.get("/readyz").content == b"ready\n"


def test_readyz_says_that_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def cursor(self) -> None:
            raise OperationalError("connection refused: password=hunter2")

    monkeypatch.setattr(views, "connection", Away())
    response = client.get("/readyz")
    assert (response.status_code, response.content) == (503, b"the database does not answer\n")


@pytest.mark.django_db
def test_readyz_waits_for_migrations_and_looks_again(client: Client) -> None:
    applied = MigrationRecorder.Migration.objects.get(app="tcss", name="0001_roles")
    applied.delete()
    response = client.get("/readyz")
    assert (response.status_code, response.content) == (503, b"migrations have not run\n")
    MigrationRecorder.Migration.objects.create(app="tcss", name="0001_roles")
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("address", ["/livez", "/readyz"])
@pytest.mark.django_db
def test_probes_make_no_session_and_take_no_post(client: Client, address: str) -> None:
    assert not client.get(address).cookies
    assert client.post(address).status_code == 405


@pytest.mark.django_db
def test_statusz_is_json_for_people_with_a_role(client: Client, data_folder: Path) -> None:
    assert client.get("/statusz").status_code == 302
    user = User.objects.create_user("vera")
    client.force_login(user)
    assert client.get("/statusz").status_code == 403
    user.groups.add(Group.objects.get(name="Viewer"))
    response = client.get("/statusz")
    assert response["Content-Type"] == "application/json"
    told = response.json()
    assert told["scans"] == {
        "queued": 0,
        "waiting": 0,
        "running": 0,
        "overdue": 0,
        "oldest_queued_seconds": None,
    }
    assert told["broker"]["reachable"] is True
    assert told["disk"]["free_bytes"] > 0
    assert all(set(problem) == {"code", "reason", "remedy"} for problem in told["problems"])


@pytest.mark.django_db
def test_nothing_is_wrong_with_an_idle_console_in_order(data_folder: Path) -> None:
    add_database(data_folder, days_old=1)
    tick.run()
    queued_scan()
    found = status()
    assert found.problems == ()
    assert found.scans.queued == 1
    assert found.broker.last_tick_seconds_ago is not None
    assert found.broker.last_tick_seconds_ago < TICK_LATE_SECONDS
    assert found.vulnerability_database.age_days == 1.0


@pytest.mark.django_db
def test_a_job_that_nobody_takes_is_told_with_its_age(data_folder: Path) -> None:
    queued_scan(minutes=QUEUE_LATE_SECONDS / 60 - 1)
    assert "QUEUE_LATE" not in codes()
    queued_scan(minutes=QUEUE_LATE_SECONDS / 60 + 1)
    assert "QUEUE_LATE" in codes()
    oldest = status().scans.oldest_queued_seconds
    assert oldest is not None
    assert QUEUE_LATE_SECONDS + 60 <= oldest < QUEUE_LATE_SECONDS + 120


@pytest.mark.django_db
def test_a_running_data_update_without_a_worker_is_told(data_folder: Path) -> None:
    registry = Registry.objects.create(
        name="main", address="https://r", username="u", password=Secret.of("p")
    )
    sync = Sync.objects.create(registry=registry, trigger=SyncTrigger.MANUAL)
    Sync.objects.claim(sync.pk)
    assert "WORKER_LOST" not in codes()
    Sync.objects.filter(pk=sync.pk).update(lease_until=timezone.now() - timedelta(seconds=5))
    assert "WORKER_LOST" in codes()
    assert status().syncs.overdue == 1


@pytest.mark.django_db
def test_ended_jobs_are_of_no_interest(data_folder: Path) -> None:
    scan = queued_scan(minutes=999)
    Scan.objects.filter(pk=scan.pk).update(state=State.SUCCEEDED)
    assert status().scans.queued == 0
    assert status().scans.oldest_queued_seconds is None


@pytest.mark.django_db
def test_a_broker_that_is_away_is_a_problem_and_no_error(data_folder: Path, settings: Settings) -> None:
    settings.REDIS_URL = f"unix://{data_folder}/no-socket"
    assert "BROKER_AWAY" in codes()
    assert status().broker.reachable is False


@pytest.mark.django_db
def test_a_scheduler_that_is_silent_is_told(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_tick()
    assert "TICK_LATE" not in codes()
    monkeypatch.setattr("tcss.status.TICK_LATE_SECONDS", -1)
    assert "TICK_LATE" in codes()


@pytest.mark.django_db
def test_a_missing_and_an_old_vulnerability_database_are_told_apart(
    data_folder: Path, settings: Settings
) -> None:
    assert "ENG_DB" in codes()
    add_database(data_folder, days_old=settings.DATABASE_STALE_DAYS + 1)
    assert "ENG_DB" not in codes()
    assert "ENG_DB_OLD" in codes()


@pytest.mark.django_db
def test_a_database_is_old_from_the_seventh_day_on(data_folder: Path) -> None:
    add_database(data_folder, days_old=7)
    assert "ENG_DB_OLD" in codes()


@pytest.mark.django_db
def test_a_host_with_an_older_database_than_another_is_told(data_folder: Path) -> None:
    add_database(data_folder, days_old=2)
    assert "ENG_DB_OLD" not in codes()
    MatchRun.objects.create(
        database_version="newer", database_updated_at=timezone.now(), state=State.SUCCEEDED
    )
    assert status().vulnerability_database.newer_elsewhere
    assert "ENG_DB_OLD" in codes()


@contextmanager
def clamd_of(settings: Settings, folder: Path, *, days_old: float) -> Iterator[None]:
    """A clamd that says how old its signatures are, and nothing else."""
    made = timezone.now() - timedelta(days=days_old)
    answer = f"ClamAV 1.4.6/27500/{made:%a %b %e %H:%M:%S %Y}\0".encode()

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            assert self.request.recv(64) == b"zVERSION\0"
            self.request.sendall(answer)

    settings.CLAMD_ADDRESS = folder / "clamd.sock"
    with socketserver.ThreadingUnixStreamServer(str(settings.CLAMD_ADDRESS), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.django_db
@pytest.mark.parametrize(("days", "is_old"), [(6.9, False), (7.1, True)])
def test_the_age_of_the_virus_signatures_is_told_and_alarmed_from_the_seventh_day_on(
    data_folder: Path, settings: Settings, client: Client, *, days: float, is_old: bool
) -> None:
    add_database(data_folder, days_old=1)
    settings.METRICS_TOKEN = "a-long-token"
    user = User.objects.create_user("vera")
    user.groups.add(Group.objects.get(name="Viewer"))
    client.force_login(user)
    with clamd_of(settings, data_folder, days_old=days):
        found = status().malware_signatures
        page = client.get("/registries/").content.decode()
        metrics = client.get("/metrics", headers={"Authorization": "Bearer a-long-token"}).content.decode()
    assert (found.engine, found.signatures, found.age_days) == ("clamav 1.4.6", "27500", round(days, 1))
    assert ("ENG_DB_OLD" in codes()) is is_old
    assert ("Virus signatures are old" in page) is is_old
    assert "Virus signatures" in page
    assert "tcss_clamd_up 1.0" in metrics
    assert "tcss_malware_signatures_age_seconds" in metrics


@pytest.mark.django_db
def test_a_named_clamd_that_does_not_answer_is_told_and_an_unnamed_one_is_not(
    data_folder: Path, settings: Settings
) -> None:
    assert "CLAMD_AWAY" not in codes()
    settings.CLAMD_ADDRESS = data_folder / "nobody.sock"
    assert "CLAMD_AWAY" in codes()


@pytest.mark.django_db
def test_a_full_disk_is_told_even_before_the_data_folder_exists(
    data_folder: Path, settings: Settings
) -> None:
    settings.DATA_DIR = data_folder / "not" / "there" / "yet"
    assert "DISK_FULL" not in codes()
    settings.DISK_FLOOR_BYTES = 2**60
    assert "DISK_FULL" in codes()


@pytest.mark.django_db
def test_metrics_tell_a_scraper_with_the_token_what_waits(
    client: Client, data_folder: Path, settings: Settings
) -> None:
    settings.METRICS_TOKEN = "a-long-token"
    Scan.objects.create(image=Image.objects.create(image_id=f"sha256:{1:064x}"))
    response = client.get("/metrics", headers={"Authorization": "Bearer a-long-token"})
    assert response["Content-Type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }
    assert samples["tcss_jobs", "scan", "queued"] == 1
    assert samples["tcss_jobs", "sync", "running"] == 0
    assert samples["tcss_vulnerability_database_present",] == 0
    assert ("tcss_vulnerability_database_age_seconds",) not in samples
    assert samples["tcss_disk_floor_bytes",] == 1


@pytest.mark.parametrize(
    ("token", "shown"),
    [("a-long-token", "Bearer a-wrong-token"), ("a-long-token", ""), ("", "Bearer "), ("", "")],
)
def test_metrics_are_refused_without_the_token(
    client: Client, data_folder: Path, settings: Settings, token: str, shown: str
) -> None:
    settings.METRICS_TOKEN = token
    assert client.get("/metrics", headers={"Authorization": shown}).status_code == 403
