"""A data update against the demo registry: what it finds, leaves alone, and never takes for gone."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.template.loader import render_to_string
from django.utils import timezone

from demo.catalog import Tag as DemoTag
from demo.faults import Fault, html_page
from demo.images import ROBOT
from demo.server import DemoServer
from images.models import ArtifactKind, Image, ImageLayer, Manifest, ManifestLayer
from repositories import sync as data_update, sync_intake
from repositories.credentials import Secret
from repositories.models import Health, Registry, Repository, Sync, SyncTrigger, Tag
from repositories.registries import client, pace
from repositories.updates import cancel_sync, request_sync
from tcss.lifecycle import MAX_ATTEMPTS, State


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def update(registry: Registry) -> Sync:
    """Ask for a data update, run it here, and read how it ended."""
    sync = request_sync(registry, SyncTrigger.MANUAL)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def rows_written() -> dict[str, int]:
    """Rows inserted, changed and deleted in this transaction so far, by table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables")
        return dict(cursor.fetchall())


def manifests_asked_for(demo: DemoServer) -> list[str]:
    return [seen.path for seen in demo.requests if "/manifests/" in seen.path]


def tag(repository: str, name: str) -> Tag:
    return Tag.objects.get(repository_name=repository, name=name)


def test_every_tag_of_the_registry_becomes_a_row(demo: DemoServer, registry: Registry) -> None:
    sync = update(registry)

    expected = set()
    for project in demo.catalog.projects:
        for repository in project.repositories:
            children = {ref.digest for artifact in repository.artifacts for ref in artifact.references}
            for artifact in repository.artifacts:
                name = f"{project.name}/{repository.name}"
                expected |= {(name, each.name, artifact.digest) for each in artifact.tags}
                if not artifact.tags and artifact.digest not in children:
                    expected.add((name, artifact.digest, artifact.digest))
    assert set(Tag.objects.values_list("repository_name", "name", "manifest_digest")) == expected
    assert (sync.state, sync.error_code) == (State.SUCCEEDED, "")
    assert (sync.tags_seen, sync.tags_new, sync.tags_missing) == (len(expected), len(expected), 0)
    assert sync.repositories_seen == sync.repositories_total == Repository.objects.count()
    assert registry.health == Health.HEALTHY
    assert registry.last_synced_at is not None
    assert demo.unexpected == []


def test_every_image_has_its_config_and_layers(demo: DemoServer, registry: Registry) -> None:
    update(registry)

    for row in Manifest.objects.filter(kind=ArtifactKind.IMAGE, is_read=True):
        assert row.image is not None
        assert row.image.image_id == row.config_digest
        assert (row.image.os, row.image.architecture) in {("linux", "amd64"), ("linux", "arm64")}
        assert row.image.history
        assert ImageLayer.objects.filter(image=row.image).count() == row.layers.count() > 0
    nginx = tag("library/nginx", "1.24.0-alpine")
    assert nginx.manifest.kind == ArtifactKind.INDEX
    assert nginx.image is not None
    assert nginx.image.architecture == "amd64"
    assert Tag.objects.filter(manifest__kind=ArtifactKind.IMAGE, image=None).count() == 0


def test_the_same_image_in_two_repositories_is_one_image(registry: Registry) -> None:
    update(registry)

    here = tag("library/debian", "12")
    there = tag("platform/base/debian", "approved-2024q1")
    assert here.manifest_digest != there.manifest_digest
    assert here.image == there.image


def test_charts_and_signatures_are_no_images_and_cost_no_manifest(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)

    chart = tag("platform/charts/shop", "1.6.0")
    assert (chart.manifest.kind, chart.image) == (ArtifactKind.CHART, None)
    signatures = Tag.objects.filter(manifest__kind=ArtifactKind.SIGNATURE)
    assert signatures.count() == 2
    others = {chart.manifest_digest, *signatures.values_list("manifest_digest", flat=True)}
    assert not any(digest in path for path in manifests_asked_for(demo) for digest in others)


def test_environment_values_are_not_kept(registry: Registry) -> None:
    update(registry)

    front = tag("payments/gateway", "5.0.1").image
    assert front is not None
    for entry in front.history:
        instruction = entry["created_by"]
        if instruction.startswith("ENV "):
            assert instruction.endswith("=…") or "PATH=" in instruction or "VERSION=" in instruction


def test_a_second_update_asks_for_no_manifest_and_writes_nothing(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    demo.requests.clear()

    before = rows_written()

    sync = update(registry)

    assert manifests_asked_for(demo) == []
    assert not any("/blobs/" in seen.path for seen in demo.requests)
    changed = {table for table, rows in rows_written().items() if rows != before.get(table)}
    assert changed == {"repositories_sync", "repositories_registry"}
    assert (sync.state, sync.tags_new, sync.tags_missing) == (State.SUCCEEDED, 0, 0)


def test_a_moved_tag_points_at_the_new_content(demo: DemoServer, registry: Registry) -> None:
    update(registry)
    old, new = tag("shop/web", "1.0.0"), tag("shop/web", "1.1.0")
    moved = DemoTag("1.0.0", push_time=datetime(2026, 1, 2, tzinfo=UTC))
    demo.catalog = demo.catalog.with_tag("shop", "web", moved, new.manifest_digest)

    sync = update(registry)

    after = tag("shop/web", "1.0.0")
    assert (after.pk, after.manifest_digest, after.image) == (old.pk, new.manifest_digest, new.image)
    assert after.is_latest
    # What nothing names any more is an artifact without a tag.
    assert Tag.objects.filter(repository_name="shop/web", name=old.manifest_digest).exists()
    assert sync.tags_new == 1


def test_the_newest_push_of_a_repository_is_its_latest(registry: Registry) -> None:
    update(registry)

    for repository in Repository.objects.all():
        tags = Tag.objects.filter(
            repository=repository, manifest__kind__in=[ArtifactKind.IMAGE, ArtifactKind.INDEX]
        )
        newest = tags.order_by("-pushed_at", "-pk").first()
        latest = list(Tag.objects.filter(repository=repository, is_latest=True))
        assert latest == ([newest] if newest else [])


def test_a_newest_push_that_was_not_marked_is_marked_by_the_next_update(registry: Registry) -> None:
    update(registry)
    before = set(Tag.objects.filter(is_latest=True).values_list("pk", flat=True))
    Tag.objects.update(is_latest=False)
    update(registry)
    assert set(Tag.objects.filter(is_latest=True).values_list("pk", flat=True)) == before


def test_a_deleted_tag_is_marked_missing_and_unmarked_when_it_is_back(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    whole = demo.catalog
    demo.catalog = whole.without_tag("library", "alpine", "3.18.2")

    sync = update(registry)

    assert sync.tags_missing == 1
    gone = tag("library/alpine", "3.18.2")
    assert gone.missing_since is not None
    first_missed = gone.missing_since
    update(registry)
    assert tag("library/alpine", "3.18.2").missing_since == first_missed
    demo.catalog = whole
    update(registry)
    assert tag("library/alpine", "3.18.2").missing_since is None


def test_a_deleted_repository_and_a_deleted_project_are_marked_missing(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    demo.catalog = demo.catalog.without_repository("shop", "web").without_project("payments")

    sync = update(registry)

    assert sync.state == State.SUCCEEDED
    missing = Tag.objects.exclude(missing_since=None)
    assert {each.repository_name for each in missing} == {
        "shop/web",
        "payments/ledger",
        "payments/gateway",
        "payments/core/settlement",
    }
    assert not missing.filter(is_latest=True).exists()
    assert Image.objects.filter(tags__in=missing).exists()


def test_an_empty_registry_marks_nothing_and_says_that_this_is_odd(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    demo.catalog = replace(demo.catalog, projects=())

    sync = update(registry)

    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_PROTOCOL")
    assert "marked as missing" in sync.error_reason
    assert not Tag.objects.exclude(missing_since=None).exists()


def test_one_forbidden_repository_leaves_its_images_and_the_rest_alone(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    before = registry.last_synced_at
    demo.faults.add(Fault(match="/shop/repositories/web/artifacts", status=403, times=None))

    sync = update(registry)

    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_FORBIDDEN")
    assert sync.error_remedy
    assert not Tag.objects.exclude(missing_since=None).exists()
    assert Repository.objects.get(name="shop/web").error_code == "REG_FORBIDDEN"
    assert not Repository.objects.exclude(name="shop/web").exclude(error_code="").exists()
    assert registry.last_synced_at == before
    assert registry.health == Health.HEALTHY


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(match="/shop/repositories\\?", status=403, times=None), "REG_FORBIDDEN"),
        (Fault(match="/shop/repositories\\?", status=503, times=None), "REG_5XX"),
        (Fault(match="/web/artifacts", cut_at=20, times=None), "REG_CONNECT"),
        (Fault(match="/web/artifacts", body=b'[{"digest":', times=None), "REG_PROTOCOL"),
        (Fault(match="/web/artifacts", body=b'{"a":1}', times=None), "REG_PROTOCOL"),
        (Fault(match="/web/artifacts", body=b'[{"digest":"sha256:../../x"}]', times=None), "REG_PROTOCOL"),
        (html_page("/web/artifacts", times=None), "REG_PROTOCOL"),
        (html_page("/web/artifacts", status=502, times=None), "REG_5XX"),
    ],
)
def test_a_listing_that_is_not_whole_takes_nothing_for_gone(
    demo: DemoServer, registry: Registry, fault: Fault, code: str
) -> None:
    update(registry)
    known = set(Tag.objects.values_list("pk", "manifest_digest"))
    demo.catalog = demo.catalog.without_artifact("shop", "web", tag("shop/web", "1.0.0").manifest_digest)
    demo.faults.add(fault)

    sync = update(registry)

    assert (sync.state, sync.error_code) == (State.INCOMPLETE, code)
    assert set(Tag.objects.filter(missing_since=None).values_list("pk", "manifest_digest")) == known
    assert "nginx" not in sync.error_reason


def test_a_damaged_page_is_asked_for_again(demo: DemoServer, registry: Registry) -> None:
    demo.faults.add(Fault(match="/web/artifacts", body=b'[{"digest":', times=1))
    demo.faults.add(Fault(match="GET /api/v2.0/projects\\?", status=503, times=2))
    assert update(registry).state == State.SUCCEEDED


def test_an_unreadable_manifest_leaves_its_tag_and_is_tried_again(
    demo: DemoServer, registry: Registry
) -> None:
    demo.faults.add(Fault(match="/v2/shop/front/manifests/", corrupt=True, times=None))
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "IMG_DIGEST")
    front = tag("shop/front", "3.2.0")
    assert (front.image, front.missing_since) == (None, None)

    demo.faults.clear()
    assert update(registry).state == State.SUCCEEDED
    assert tag("shop/front", "3.2.0").image is not None


def test_a_wrong_password_fails_at_once_and_keeps_what_is_known(demo: DemoServer, registry: Registry) -> None:
    update(registry)
    registry.password = Secret.of("wrong")
    registry.save()
    demo.requests.clear()

    sync = update(registry)

    assert (sync.state, sync.error_code, sync.attempt) == (State.FAILED, "REG_AUTH", 1)
    assert (registry.health, registry.health_code) == (Health.FAILING, "REG_AUTH")
    assert registry.health_remedy
    # A wrong password that is tried again and again locks the account.
    assert sum("authorization" in seen.headers for seen in demo.requests) == 1
    assert not Tag.objects.exclude(missing_since=None).exists()


def test_a_robot_account_lists_and_pulls(demo: DemoServer, make_registry: Callable[..., Registry]) -> None:
    robot = demo.catalog.account(ROBOT)
    assert robot is not None
    sync = update(make_registry(demo.url, username=ROBOT, password=Secret.of(robot.password)))
    assert (sync.state, sync.tags_seen) == (State.SUCCEEDED, Tag.objects.count())
    assert Tag.objects.count() > 20


def test_a_registry_that_is_away_is_tried_three_times_and_then_fails(
    demo: DemoServer, registry: Registry
) -> None:
    demo.faults.add(Fault(match="/api/", status=503, times=None))
    sync = request_sync(registry, SyncTrigger.MANUAL)
    states = []
    for _ in range(3):
        data_update.run(sync.pk)
        sync.refresh_from_db()
        states.append((sync.state, sync.attempt, sync.error_code))
    assert states == [
        (State.QUEUED, 1, "REG_5XX"),
        (State.QUEUED, 2, "REG_5XX"),
        (State.FAILED, 3, "REG_5XX"),
    ]
    registry.refresh_from_db()
    assert (registry.health, registry.health_code) == (Health.FAILING, "REG_5XX")


def test_a_registry_that_asks_for_a_pause_gets_it(demo: DemoServer, registry: Registry) -> None:
    demo.faults.add(Fault(match="/api/", status=429, times=None, headers={"Retry-After": "600"}))
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.QUEUED, "REG_RATE")
    assert len(demo.requests) == 1
    assert sync.available_at is not None
    wait = sync.available_at - datetime.now(UTC)
    assert timedelta(minutes=9) < wait < timedelta(minutes=11)


@pytest.mark.parametrize("match", ["/artifacts", "/manifests/"])
def test_a_registry_that_asks_for_a_pause_in_the_middle_gets_it(
    demo: DemoServer, registry: Registry, match: str
) -> None:
    demo.faults.add(Fault(match=match, status=429, times=None, skip=2, headers={"Retry-After": "600"}))
    sync = update(registry)
    assert (sync.state, sync.attempt, sync.error_code) == (State.QUEUED, 1, "REG_RATE")
    assert sync.available_at is not None
    assert sync.available_at - datetime.now(UTC) > timedelta(minutes=9)
    row = SimpleNamespace(registry=registry, latest=SimpleNamespace(sync=sync, badge="info"))
    shown = render_to_string("repositories/parts/progress.html", {"row": row})
    assert "Waiting for the registry until" in shown
    assert f"{timezone.localtime(sync.available_at + timedelta(minutes=1)):%H:%M}" in shown
    demo.faults.clear()
    Sync.objects.update(available_at=None)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.is_complete) == (State.SUCCEEDED, True)


def test_what_was_listed_by_the_last_attempt_counts_though_the_registry_asks_for_a_pause(
    demo: DemoServer, registry: Registry
) -> None:
    demo.faults.add(Fault(match="/artifacts", status=429, times=None, skip=2, headers={"Retry-After": "600"}))
    sync = request_sync(registry, SyncTrigger.MANUAL)
    Sync.objects.update(attempt=MAX_ATTEMPTS - 1)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_RATE")


def test_a_registry_that_goes_away_in_the_middle_is_not_asked_for_everything(
    demo: DemoServer, registry: Registry
) -> None:
    update(registry)
    demo.faults.add(Fault(match="/artifacts", status=503, times=None, skip=2))
    demo.requests.clear()
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_5XX")
    asked = {seen.path.partition("?")[0] for seen in demo.requests if "/artifacts" in seen.path}
    # Two that came through, three that did not, and those that were under way meanwhile.
    assert 5 <= len(asked) <= 5 + pace.MOST
    assert len(asked) < sync.repositories_total
    assert not Tag.objects.exclude(missing_since=None).exists()


def test_a_lost_lease_writes_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    original = sync_intake.known_manifests

    def taken_over(*arguments: Any) -> Any:
        Sync.objects.filter(pk=sync.pk).update(fence=99)
        return original(*arguments)

    monkeypatch.setattr(sync_intake, "known_manifests", taken_over)
    data_update.run(sync.pk)
    assert not Tag.objects.exists()
    assert not Manifest.objects.exists()
    sync.refresh_from_db()
    assert (sync.state, sync.fence) == (State.RUNNING, 99)


def test_a_cancelled_data_update_stops_within_seconds(
    transactional_db: None, demo: DemoServer, registry: Registry
) -> None:
    demo.faults.add(Fault(match="/artifacts", delay=20.0, times=None))
    sync = request_sync(registry, SyncTrigger.MANUAL)
    cancelled_at = []

    def cancel() -> None:
        for _ in range(200):
            if Sync.objects.filter(pk=sync.pk, repositories_total__gt=0, state=State.RUNNING).exists():
                break
            time.sleep(0.05)
        cancel_sync(sync.pk)
        cancelled_at.append(time.monotonic())
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    data_update.run(sync.pk)
    ended = time.monotonic()
    thread.join()
    sync.refresh_from_db()
    assert sync.state == State.CANCELLED
    assert ended - cancelled_at[0] < 5.0


def test_a_key_that_does_not_open_the_password_is_said_so(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry.objects.filter(pk=registry.pk).update(
        password=Secret(Fernet(Fernet.generate_key()).encrypt(b"x").decode())
    )
    registry.refresh_from_db()
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.FAILED, "REG_AUTH")
    assert "TCSS_FIELD_KEYS" in sync.error_remedy


def test_platforms_of_an_index_are_kept_and_its_attestation_is_no_image(registry: Registry) -> None:
    update(registry)
    index = tag("library/nginx", "1.24.0-alpine").manifest
    platforms = {str(platform): platform.manifest for platform in index.platforms.select_related("manifest")}
    assert set(platforms) == {"linux/amd64", "linux/arm64", "unknown/unknown"}
    assert platforms["unknown/unknown"].kind == ArtifactKind.OTHER
    assert platforms["linux/amd64"].is_read
    assert not platforms["linux/arm64"].is_read
    assert ManifestLayer.objects.filter(manifest=platforms["linux/amd64"]).exists()


def test_an_untagged_image_has_a_row_named_by_its_digest(demo: DemoServer, registry: Registry) -> None:
    digest = demo.catalog.repository("shop/legacy-cms").find("2021.12").digest
    demo.catalog = demo.catalog.without_tag("shop", "legacy-cms", "2021.12")
    update(registry)
    row = tag("shop/legacy-cms", digest)
    assert row.is_untagged
    assert row.image is not None


def test_two_registries_with_the_same_images_share_them(
    demo: DemoServer, registry: Registry, make_registry: Callable[..., Registry]
) -> None:
    update(registry)
    images, layers = Image.objects.count(), ImageLayer.objects.count()
    demo.requests.clear()
    update(make_registry(demo.url, name="Again"))
    assert (Image.objects.count(), ImageLayer.objects.count()) == (images, layers)
    assert manifests_asked_for(demo) == []


def test_the_command_updates_and_says_how_it_went(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("data_update", "--registry", "demo", "--here")
    assert "Demo: succeeded, 17 of 17 repositories" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("data_update", "--registry", "nobody")
