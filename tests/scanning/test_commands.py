"""The commands: the vulnerability database, and the demo from nothing to scanned images."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from demo import tencent, tencent_samples
from demo.images import ROBOT
from demo.server import DemoServer
from demo.tencent import DemoCloud
from demo.vulnerability_db import write_bundle
from images.models import Image, ScanStatus
from licensing.models import Entitlement, EntitlementKind
from repositories import sync
from repositories.models import Registry, RegistryKind, Sync
from scanning import installed, pipeline
from scanning.engine_models import MatchRun
from scanning.management.commands import demo
from scanning.models import Scan
from tcss.lifecycle import State
from tests.invariants import assert_invariants


def run(*arguments: object) -> str:
    output = io.StringIO()
    call_command(*(str(argument) for argument in arguments), stdout=output)
    return output.getvalue()


def test_without_a_database_show_says_how_to_get_one(data_dir: Path) -> None:
    with pytest.raises(CommandError, match=r"ENG_DB: .*download.*import"):
        run("vulnerability_db", "show")


@pytest.mark.django_db
def test_a_bundle_is_imported_and_shown_with_its_age(data_dir: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "db.tar.gz")
    assert "db.tar.gz, schema 2" in run("vulnerability_db", "import", tmp_path / "db.tar.gz")
    shown = run("vulnerability_db", "show")
    assert "Made at: 2026-" in shown
    assert str(installed.vulnerability_database().directory()) in shown


@pytest.mark.django_db
def test_an_old_database_is_called_old(data_dir: Path, database: object, settings: Settings) -> None:
    settings.DATABASE_STALE_DAYS = 0
    assert "0 days old or older" in run("vulnerability_db", "show")


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_a_bundle_that_is_none_is_refused_and_the_database_in_use_stays(
    data_dir: Path, database: object, tmp_path: Path, content: bytes
) -> None:
    before = installed.vulnerability_database().directory()
    (tmp_path / "db.tar.gz").write_bytes(content)
    with pytest.raises(CommandError, match="ENG_DB"):
        run("vulnerability_db", "import", tmp_path / "db.tar.gz")
    assert installed.vulnerability_database().directory() == before


def test_a_file_that_is_not_there_is_named(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.tar\.gz"):
        run("vulnerability_db", "import", tmp_path / "nowhere.tar.gz")


def test_a_download_that_fails_says_why(data_dir: Path) -> None:
    with pytest.raises(CommandError, match=r"ENG_DB: .*does not answer"):
        run("vulnerability_db", "download", "--repository", "127.0.0.1:9/none:2")


@pytest.mark.django_db
def test_a_host_with_an_older_database_than_another_says_so(data_dir: Path, database: object) -> None:
    assert "Another host" not in run("vulnerability_db", "show")
    newer = timezone.now() + timedelta(days=300)
    MatchRun.objects.create(
        database_version="next",
        database_updated_at=newer,
        state=State.SUCCEEDED,
    )
    assert "Another host has scanned with a newer one" in run("vulnerability_db", "show")


@pytest.mark.django_db
def test_the_version_before_is_shown_and_gone_back_to(data_dir: Path, tmp_path: Path) -> None:
    for name in ("first.tar.gz", "second.tar.gz"):
        write_bundle(tmp_path / name)
        run("vulnerability_db", "import", tmp_path / name)
    assert "The version before (rollback): first.tar.gz" in run("vulnerability_db", "show")
    assert "first.tar.gz" in run("vulnerability_db", "rollback")
    assert "Vulnerability database: first.tar.gz" in run("vulnerability_db", "show")


def test_without_a_version_before_going_back_says_so(data_dir: Path) -> None:
    with pytest.raises(CommandError, match="ENG_DB: There is no earlier database"):
        run("vulnerability_db", "rollback")


def test_what_is_exported_is_a_file_that_import_takes(
    data_dir: Path, database: object, tmp_path: Path, settings: Settings
) -> None:
    assert "Written:" in run("vulnerability_db", "export", tmp_path / "out.tar.gz")
    assert "Written:" in run("vulnerability_db", "mirror", tmp_path / "mirror.tar")
    settings.DATA_DIR = tmp_path / "other"
    assert "out.tar.gz, schema 2" in run("vulnerability_db", "import", tmp_path / "out.tar.gz")


def test_nothing_is_exported_where_there_is_none_or_where_it_cannot_be_written(
    data_dir: Path, tmp_path: Path, database: object, settings: Settings
) -> None:
    with pytest.raises(CommandError, match="could not be written"):
        run("vulnerability_db", "export", tmp_path / "nowhere" / "out.tar.gz")
    settings.DATA_DIR = tmp_path / "other"
    with pytest.raises(CommandError, match="ENG_DB"):
        run("vulnerability_db", "export", tmp_path / "out.tar.gz")


class _Workers:
    """Stands for the workers: at every look of the command, one job that waits is done."""

    def wait(self, seconds: float) -> None:
        for each in Sync.objects.filter(state=State.QUEUED)[:1]:
            sync.run(each.pk)
        for scan in Scan.objects.filter(state=State.QUEUED)[:1]:
            pipeline.run(scan.pk)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_PAUSE", _Workers())


@pytest.fixture
def account(server: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = server.catalog.account(ROBOT)
    assert robot is not None
    monkeypatch.setenv("DEMO_ROBOT_SECRET", robot.password)


@pytest.fixture
def licenses(transactional_db: None) -> None:
    """The entitlement of a fresh installation; a test that commits leaves the next one none."""
    Entitlement.objects.get_or_create(kind=EntitlementKind.BUILT_IN, defaults={"quantity": 1000})


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[DemoCloud]:
    with tencent.running(tmp_path) as cloud:
        monkeypatch.setenv("DEMO_TENCENT_SECRET_KEY", cloud.account.secret_key)
        monkeypatch.setenv("DEMO_TENCENT_PASSWORD", cloud.account.personal_password)
        settings.TENCENT_ENDPOINT = cloud.api_url
        yield cloud
        assert cloud.unexpected == []


def test_the_demo_ends_with_every_image_scanned_once_and_a_second_start_finds_it_so(
    server: DemoServer,
    cloud: DemoCloud,
    data_dir: Path,
    database: object,
    account: None,
    workers: None,
    licenses: None,
) -> None:
    told = run("demo", "--registry", server.url, "--cloud")
    images = Image.objects.filter(tags__isnull=False).distinct()
    statuses = [image.scan_status for image in images]
    assert statuses.count(ScanStatus.EXCEPTION) == 1
    assert statuses.count(ScanStatus.SCANNED) == len(statuses) - 1 >= 14
    rows = {line.split()[0]: line for line in told.splitlines() if line}
    for name in ("shop/api:2.3.0", "base/os/debian:12", "payments/checkout:1.2.0", "demo-user/alpine:3.18"):
        assert " Scanned " in rows[name]
    assert "IMG_DIGEST" in told
    kinds = Registry.objects.order_by("kind").values_list("kind", flat=True)
    assert list(kinds) == [RegistryKind.CCR, RegistryKind.HARBOR, RegistryKind.TCR, RegistryKind.TCR]
    shared = images.filter(tags__repository_name__in=("library/debian", "base/os/debian", "demo-user/debian"))
    assert Scan.objects.filter(image=shared.get()).count() == 1
    assert_invariants()
    scans = Scan.objects.filter(state=State.SUCCEEDED).count()
    run("demo", "--registry", server.url, "--cloud")
    assert Registry.objects.count() == 4
    assert Scan.objects.filter(state=State.SUCCEEDED).count() == scans


def test_a_demo_cloud_that_cannot_be_listed_is_told_with_its_code(
    server: DemoServer, cloud: DemoCloud, data_dir: Path, account: None, transactional_db: None
) -> None:
    cloud.content = replace(cloud.content, account=replace(cloud.account, secret_key="another"))
    with pytest.raises(CommandError, match="REG_AUTH"):
        run("demo", "--registry", server.url, "--cloud")


def test_the_demos_cloud_account_is_the_samples() -> None:
    assert demo.CLOUD_SECRET_ID == tencent_samples.SECRET_ID
    assert demo.CLOUD_USER == tencent_samples.UIN
    content = {tencent_samples.PERSONAL_REGION, "ap-singapore"}
    assert set(demo.CLOUD_REGIONS) == content


@pytest.mark.django_db
def test_the_demo_without_its_secret_says_what_is_missing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMO_ROBOT_SECRET", raising=False)
    monkeypatch.delenv("DEMO_ROBOT_SECRET_FILE", raising=False)
    with pytest.raises(CommandError, match="DEMO_ROBOT_SECRET"):
        run("demo", "--registry", "http://127.0.0.1:1")


@pytest.mark.django_db(transaction=True)
def test_a_demo_registry_that_does_not_answer_is_told_with_its_code(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, workers: None
) -> None:
    monkeypatch.setenv("DEMO_ROBOT_SECRET", "secret")
    with pytest.raises(CommandError, match=r"REG_CONNECT|too long"):
        run("demo", "--registry", "http://127.0.0.1:9", "--seconds", "60")


def test_the_work_of_nobody_ends_with_the_deadline(
    transactional_db: None, server: DemoServer, data_dir: Path, account: None
) -> None:
    with pytest.raises(CommandError, match="too long"):
        run("demo", "--registry", server.url, "--seconds", "1")
