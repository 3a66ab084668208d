"""CCR: what the personal edition holds, the paging of its API, pulls by its fixed password, its test."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.catalog import Artifact, Catalog, Project, Repository as DemoRepository, Tag as DemoTag
from demo.tencent import DemoCloud
from demo.tencent_api import refusal
from demo.tencent_model import Personal
from demo.tencent_samples import PERSONAL_REGION
from images.models import Image
from repositories import sync as data_update
from repositories.connections import connect, pull_client, test_connection as try_connection
from repositories.credentials import Secret
from repositories.models import (
    CloudAccount,
    CloudSite,
    Health,
    Registry,
    RegistryKind,
    Sync,
    SyncTrigger,
    Tag,
)
from repositories.registries import client
from repositories.registries.failures import AccessRefusedError, RegistryError
from repositories.registries.protocol import ProjectItem, RepositoryItem, StepState
from repositories.registries.tencent_places import personal_domain
from repositories.sync_hold import Hold, SettingsChangedError
from repositories.updates import request_sync
from tcss.lifecycle import State

ALPINE = RepositoryItem("demo-user/alpine", "demo-user")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def registry(cloud: DemoCloud, cloud_account: CloudAccount) -> Registry:
    """The personal edition of Guangzhou, connected."""
    return Registry.objects.create(
        name="ccr demo",
        kind=RegistryKind.CCR,
        region=PERSONAL_REGION,
        address=cloud.personal().url,
        username="",
        password=Secret.of(""),
        account=cloud_account,
    )


def artifact(number: int) -> Artifact:
    digest = f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"
    pushed = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Artifact(digest, "", MANIFEST, 1000, push_time=pushed, tags=(DemoTag(f"v{number}", pushed),))


def hold(cloud: DemoCloud, *projects: Project) -> None:
    cloud.content = cloud.content.with_personal(Personal(PERSONAL_REGION, Catalog(projects)))


def test_namespaces_repositories_and_images_are_listed(registry: Registry) -> None:
    adapter = connect(registry)
    (project,) = adapter.list_projects()
    names = [item.name for item in adapter.list_repositories(project)]
    assert names == ["demo-user/debian", "demo-user/alpine"]
    (item,) = adapter.list_artifacts(ALPINE)
    assert {tag.name for tag in item.tags} == {"3.18", "3.18.2"}
    assert (item.os, item.architecture) == ("linux", "amd64")
    assert item.digest.startswith("sha256:")


def test_times_are_in_chinas_zone(cloud: DemoCloud, registry: Registry) -> None:
    (item,) = connect(registry).list_artifacts(ALPINE)
    pushed = cloud.content.personal[0].catalog.repository(ALPINE.name).artifacts[0].tags[0].push_time
    assert item.pushed_at == pushed.replace(microsecond=0)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_every_page_is_asked_for_by_its_first_entry(
    cloud: DemoCloud, registry: Registry, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    artifacts = tuple(artifact(each) for each in range(count))
    hold(cloud, Project("shop", (DemoRepository("web", artifacts),)))
    # These artifacts have no bytes for the demonstration to take the image ID from.
    monkeypatch.setattr("demo.tencent_personal.PersonalEdition._image_id", lambda *_: "")
    listed = [
        tag.name
        for item in connect(registry).list_artifacts(RepositoryItem("shop/web", "shop"))
        for tag in item.tags
    ]
    assert sorted(listed) == sorted(f"v{each}" for each in range(count))


def test_repositories_are_asked_for_once_for_all_namespaces(cloud: DemoCloud, registry: Registry) -> None:
    projects = [Project(f"n{each}", (DemoRepository("web"), DemoRepository("api"))) for each in range(5)]
    hold(cloud, *projects)
    adapter = connect(registry)
    found = {project.name: list(adapter.list_repositories(project)) for project in adapter.list_projects()}
    assert {name: [item.name for item in items] for name, items in found.items()} == {
        f"n{each}": [f"n{each}/web", f"n{each}/api"] for each in range(5)
    }
    asked = [call.action for call in cloud.calls if call.action == "DescribeRepositoryOwnerPersonal"]
    assert len(asked) == 1


def test_a_list_of_repositories_that_fails_fails_for_every_namespace(
    cloud: DemoCloud, registry: Registry
) -> None:
    cloud.api.faults.add(refusal("DescribeRepositoryOwnerPersonal", "InternalError", times=None))
    adapter = connect(registry)
    for name in ("demo-user", "another"):
        with pytest.raises(RegistryError, match="REG_5XX"):
            list(adapter.list_repositories(ProjectItem(name)))


def test_repositories_listed_before_an_error_are_given_before_it(
    cloud: DemoCloud, registry: Registry
) -> None:
    hold(cloud, Project("shop", tuple(DemoRepository(f"r{each}") for each in range(150))))
    cloud.api.faults.add(refusal('"Offset": 100', "InternalError", times=None))
    found: list[RepositoryItem] = []
    with pytest.raises(RegistryError, match="REG_5XX"):
        found.extend(connect(registry).list_repositories(ProjectItem("shop")))
    assert len(found) == 100


def test_a_data_update_finds_the_images_of_tcr_again(cloud: DemoCloud, registry: Registry) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.SUCCEEDED, "")
    tags = Tag.objects.filter(repository_name="demo-user/alpine").order_by("name")
    assert [tag.name for tag in tags] == ["3.18", "3.18.2"]
    assert len({tag.image_id for tag in tags}) == 1
    assert Image.objects.count() == 2


def test_a_pull_logs_in_with_the_fixed_password(cloud: DemoCloud, registry: Registry) -> None:
    (item,) = connect(registry).list_artifacts(ALPINE)
    manifest = pull_client(registry).get_manifest(ALPINE.name, item.digest)
    assert manifest.layers


def test_without_a_password_images_are_listed_and_not_pulled(registry: Registry) -> None:
    assert registry.account is not None
    registry.account.personal_password = None
    (item,) = connect(registry).list_artifacts(ALPINE)
    with pytest.raises(AccessRefusedError) as caught:
        pull_client(registry).get_manifest(ALPINE.name, item.digest)
    assert caught.value.code == "REG_AUTH"
    assert "CCR's username and password" in caught.value.reason
    failed = next(step for step in try_connection(registry).steps if step.state == StepState.FAILED)
    assert failed.name == "Registry account"


def test_an_account_that_moves_to_the_other_site_begins_a_data_update_anew(registry: Registry) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    held = Sync.objects.claim(sync.pk)
    assert held is not None
    hold_of_it = Hold(held)
    hold_of_it.beat()
    CloudAccount.objects.update(site=CloudSite.INTERNATIONAL)
    with pytest.raises(SettingsChangedError):
        hold_of_it.write(lambda: None)


def test_a_wrong_password_is_tried_once_in_a_data_update_and_counted(
    cloud: DemoCloud, registry: Registry
) -> None:
    CloudAccount.objects.update(personal_password=Secret.of("wrong"))
    sync = request_sync(registry, SyncTrigger.MANUAL)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_AUTH")
    logins = [seen for seen in cloud.personal().requests if seen.path.startswith("/service/token")]
    assert [seen.status for seen in logins] == [401]
    registry.refresh_from_db()
    assert (registry.health, registry.refused_logins) == (Health.FAILING, 1)


def test_every_step_of_the_connection_test_passes(registry: Registry) -> None:
    report = try_connection(registry)
    assert report.error is None
    assert [step.name for step in report.steps][:4] == [
        "Tencent Cloud's API",
        "Secret ID and key",
        "Region",
        "Personal edition",
    ]
    assert report.steps[-1].name == "Right to pull"
    assert report.steps[-1].state == StepState.PASSED


def test_a_region_where_it_was_never_used_says_so(registry: Registry) -> None:
    registry.region = "ap-tokyo"
    failed = next(step for step in try_connection(registry).steps if step.state == StepState.FAILED)
    assert failed.name == "Personal edition"
    assert "never used in the region ap-tokyo" in failed.sentence


def test_arrears_have_their_own_sentence(cloud: DemoCloud, registry: Registry) -> None:
    cloud.content = replace(cloud.content, account=replace(cloud.account, in_arrears=True))
    with pytest.raises(AccessRefusedError) as caught:
        list(connect(registry).list_projects())
    assert "payment is overdue" in caught.value.reason


@pytest.mark.parametrize("data", [None, 5, [], {"RepoInfo": "x"}, {"RepoInfo": [{"RepoName": "../x"}]}])
def test_nonsense_about_repositories_is_refused(cloud: DemoCloud, registry: Registry, data: Any) -> None:
    cloud.api._perform = lambda call: {"Data": data}
    with pytest.raises(RegistryError, match="REG_PROTOCOL"):
        list(connect(registry).list_repositories(ProjectItem("demo-user")))


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("ap-guangzhou", "ccr.ccs.tencentyun.com"),
        ("ap-shanghai", "ccr.ccs.tencentyun.com"),
        ("ap-hongkong", "hkccr.ccs.tencentyun.com"),
        ("ap-jakarta", "jktccr.ccs.tencentyun.com"),
        ("ap-shanghai-fsi", "shjrccr.ccs.tencentyun.com"),
    ],
)
def test_every_region_has_its_host(region: str, domain: str) -> None:
    assert personal_domain(region) == domain
