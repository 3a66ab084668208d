"""TCR: what one instance holds, the paging of its API, pulls by temporary tokens, and its connection test."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.catalog import Artifact, Catalog, Project, Repository as DemoRepository, Tag as DemoTag
from demo.faults import Fault
from demo.tencent import DemoCloud
from demo.tencent_api import refusal
from demo.tencent_model import Instance
from demo.tencent_samples import GUANGZHOU
from repositories import sync as data_update
from repositories.connections import connect, pull_client, test_connection as try_connection
from repositories.credentials import Secret
from repositories.models import CloudAccount, Health, Network, Registry, RegistryKind, SyncTrigger, Tag
from repositories.registries import client
from repositories.registries.answers import MalformedError
from repositories.registries.failures import AccessRefusedError, BadAnswerError, RegistryError
from repositories.registries.protocol import CheckReport, Kind, ProjectItem, RepositoryItem, StepState
from repositories.registries.tencent_listing import time_of
from repositories.updates import request_sync
from tcss.lifecycle import State

WEB = RepositoryItem("shop/web", "shop")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def registry(cloud: DemoCloud, cloud_account: CloudAccount) -> Registry:
    """The instance of Guangzhou, connected."""
    return Registry.objects.create(
        name="tcr demo",
        kind=RegistryKind.TCR,
        region="ap-guangzhou",
        address=cloud.registry(GUANGZHOU).url,
        username="",
        password=Secret.of(""),
        account=cloud_account,
        instance_id=GUANGZHOU,
    )


def artifact(number: int) -> Artifact:
    digest = f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"
    pushed = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Artifact(digest, "", MANIFEST, 1000, push_time=pushed, tags=(DemoTag(f"v{number}", pushed),))


def holding(count: int) -> Catalog:
    """One repository with so many images."""
    return Catalog(
        (Project("shop", (DemoRepository("web", tuple(artifact(each) for each in range(count))),)),)
    )


def tags_listed(registry: Registry) -> list[str]:
    return [tag.name for item in connect(registry).list_artifacts(WEB) for tag in item.tags]


def test_namespaces_repositories_and_images_are_listed(registry: Registry) -> None:
    adapter = connect(registry)
    projects = list(adapter.list_projects())
    names = {item.name for project in projects for item in adapter.list_repositories(project)}
    assert [project.name for project in projects] == ["base", "shop"]
    assert {"shop/backend/orders/api", "shop/web", "base/proxy/nginx"} <= names
    (item,) = adapter.list_artifacts(WEB)
    assert item.kind == Kind.IMAGE
    assert [tag.name for tag in item.tags] == ["1.0.0"]
    assert item.pushed_at.tzinfo is not None
    assert item.size > 0


def test_an_index_is_told_from_an_image(registry: Registry) -> None:
    kinds = {
        item.kind for item in connect(registry).list_artifacts(RepositoryItem("base/proxy/nginx", "base"))
    }
    assert kinds == {Kind.INDEX}


def test_every_page_is_asked_for_by_its_number(cloud: DemoCloud, registry: Registry) -> None:
    cloud.change(GUANGZHOU, catalog=holding(250))
    assert sorted(tags_listed(registry)) == sorted(f"v{each}" for each in range(250))
    bodies = [call.body for call in cloud.calls if call.action == "DescribeImages"]
    assert [
        body.count('"Offset": 1,') + body.count('"Offset": 2,') + body.count('"Offset": 3,')
        for body in bodies
    ] == [1, 1, 1]
    assert all('"Limit": 100' in body for body in bodies)


def from_zero(cloud: DemoCloud) -> Callable[[Any], Any]:
    """Makes the API count pages from 0, as examples in its documents do."""
    original = cloud.api._perform

    def perform(call: Any) -> Any:
        if "Offset" in call.parameters and call.action != "DescribeInstances":
            call = replace(call, parameters={**call.parameters, "Offset": call.parameters["Offset"] + 1})
        return original(call)

    return perform


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_nothing_is_left_out_where_pages_are_counted_from_zero(
    cloud: DemoCloud, registry: Registry, count: int
) -> None:
    cloud.change(GUANGZHOU, catalog=holding(count))
    cloud.api._perform = from_zero(cloud)
    listed = tags_listed(registry)
    assert sorted(listed) == sorted(f"v{each}" for each in range(count))


def change_totals(cloud: DemoCloud, totals: list[object]) -> None:
    """Lets the answers say these totals, one after the other, the last for ever."""
    original = cloud.api._perform

    def perform(call: Any) -> Any:
        answer = dict(original(call))
        if call.action == "DescribeImages":
            total = totals.pop(0) if len(totals) > 1 else totals[0]
            answer.pop("TotalCount")
            if total is not None:
                answer["TotalCount"] = total
        return answer

    cloud.api._perform = perform


@pytest.mark.parametrize(
    "totals", [[250, 400], [250, 3, 3], [250, 249, 251], [None], [-1], ["250"], [0], [10**9, 250]]
)
def test_a_total_that_changes_or_lies_leaves_nothing_out(
    cloud: DemoCloud, registry: Registry, totals: list[object]
) -> None:
    cloud.change(GUANGZHOU, catalog=holding(250))
    change_totals(cloud, totals)
    listed = tags_listed(registry)
    assert len(listed) == len(set(listed)) == 250


def test_an_image_that_is_pushed_while_it_is_listed_is_listed_once(
    cloud: DemoCloud, registry: Registry
) -> None:
    cloud.change(GUANGZHOU, catalog=holding(150))
    original = cloud.api._perform

    def perform(call: Any) -> Any:
        answer = original(call)
        if call.action == "DescribeImages" and call.parameters["Offset"] == 1:
            cloud.change(GUANGZHOU, catalog=holding(151))
        return answer

    cloud.api._perform = perform
    listed = tags_listed(registry)
    assert len(listed) == len(set(listed))
    assert set(listed) >= {f"v{each}" for each in range(150)}


def test_a_listing_that_breaks_off_gives_what_it_had_and_says_so(
    cloud: DemoCloud, registry: Registry
) -> None:
    cloud.change(GUANGZHOU, catalog=holding(250))
    cloud.api.faults.add(refusal('"Offset": 3', "InternalError", times=None))
    found = []
    listing = connect(registry).list_artifacts(WEB)
    with pytest.raises(RegistryError) as caught:
        found.extend(listing)
    assert caught.value.code == "REG_5XX"
    assert len(found) == 200


def test_a_malformed_image_makes_the_listing_incomplete(cloud: DemoCloud, registry: Registry) -> None:
    original = cloud.api._perform

    def perform(call: Any) -> Any:
        answer = dict(original(call))
        if call.action == "DescribeImages":
            answer["ImageInfoList"] = [{"Digest": "sha256:../..", "ImageVersion": "v1"}]
        return answer

    cloud.api._perform = perform
    with pytest.raises(BadAnswerError, match="left out"):
        list(connect(registry).list_artifacts(WEB))


def test_two_tags_of_one_image_are_one_artifact(cloud: DemoCloud, registry: Registry) -> None:
    one = artifact(1)
    both = replace(one, tags=(*one.tags, DemoTag("latest", one.push_time)))
    cloud.change(GUANGZHOU, catalog=Catalog((Project("shop", (DemoRepository("web", (both,)),)),)))
    (item,) = connect(registry).list_artifacts(WEB)
    assert {tag.name for tag in item.tags} == {"v1", "latest"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2020-04-26T02:42:29.372Z", datetime(2020, 4, 26, 2, 42, 29, 372_000, tzinfo=UTC)),
        ("2020-04-26T10:42:29+08:00", datetime(2020, 4, 26, 2, 42, 29, tzinfo=UTC)),
        ("2019-01-02 15:04:05 +0800 CST", datetime(2019, 1, 2, 7, 4, 5, tzinfo=UTC)),
        ("2019-01-02 15:04:05.123456789 +0000 UTC", datetime(2019, 1, 2, 15, 4, 5, 123_456, tzinfo=UTC)),
        ("2019-01-02 15:04:05", datetime(2019, 1, 2, 7, 4, 5, tzinfo=UTC)),
        ("", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_every_form_of_a_time_is_read(written: str, expected: datetime) -> None:
    assert time_of({"UpdateTime": written}, "UpdateTime") == expected


@pytest.mark.parametrize("written", ["yesterday", "2019-13-02 15:04:05 +0800 CST", "9" * 60])
def test_what_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(MalformedError):
        time_of({"UpdateTime": written}, "UpdateTime")


def update(registry: Registry) -> Any:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def test_a_data_update_lists_the_instance_and_reads_its_images(registry: Registry) -> None:
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.SUCCEEDED, "")
    names = set(Tag.objects.values_list("repository_name", "name"))
    assert ("shop/web", "1.0.0") in names
    assert ("base/os/debian", "12") in names
    assert Tag.objects.get(repository_name="shop/web").image is not None
    assert Tag.objects.get(repository_name="base/proxy/nginx").image is not None
    assert registry.health == Health.HEALTHY


@pytest.mark.parametrize("status", ["Isolate", "Unhealthy", "Deploying"])
def test_an_instance_that_does_not_run_loses_nothing(
    cloud: DemoCloud, registry: Registry, status: Any
) -> None:
    update(registry)
    before = Tag.objects.filter(missing_since=None).count()
    cloud.change(GUANGZHOU, status=status)
    sync = update(registry)
    assert sync.state == State.FAILED
    assert registry.health == Health.FAILING
    assert registry.health_code == "REG_FORBIDDEN"
    assert "instance" in registry.health_reason
    assert Tag.objects.filter(missing_since=None).count() == before > 0


def blob_of(registry: Registry) -> tuple[str, int]:
    """The largest layer of the web image."""
    (item,) = connect(registry).list_artifacts(WEB)
    manifest = pull_client(registry).get_manifest(WEB.name, item.digest)
    layer = max(manifest.layers, key=lambda each: each.size)
    return layer.digest, layer.size


def tokens_made(cloud: DemoCloud) -> int:
    return sum(call.action == "CreateInstanceToken" for call in cloud.calls)


def test_a_pull_uses_one_token_and_follows_to_the_storage(cloud: DemoCloud, registry: Registry) -> None:
    digest, size = blob_of(registry)
    before = tokens_made(cloud)
    pulls = pull_client(registry)
    for _ in range(3):
        with pulls.get_blob(WEB.name, digest, size) as chunks:
            assert sum(len(chunk) for chunk in chunks) == size
    assert tokens_made(cloud) == before + 1
    assert any(digest[7:] in seen.path for seen in cloud.storage.requests)


def test_tokens_that_end_in_the_middle_of_a_pull_are_renewed(cloud: DemoCloud, registry: Registry) -> None:
    digest, size = blob_of(registry)
    cloud.redirects_blobs = False
    pulls = pull_client(registry)
    with pulls.get_blob(WEB.name, digest, size) as chunks:
        next(chunks)
    before = tokens_made(cloud)
    cloud.expire_tokens()
    cloud.registry(GUANGZHOU).faults.add(Fault(match="/blobs/", skip=1, cut_at=size // 2))
    with pulls.get_blob(WEB.name, digest, size) as chunks:
        first = next(chunks)
        cloud.expire_tokens()
        assert len(first) + sum(len(chunk) for chunk in chunks) == size
    assert tokens_made(cloud) == before + 2


def test_a_token_is_renewed_before_its_end(cloud: DemoCloud, registry: Registry) -> None:
    cloud.tokens.lifetime = timedelta(seconds=-5)
    login = pull_client(registry)._http.connection.account  # type: ignore[attr-defined]
    first = login.credentials()
    login._good_until = 0.0
    assert login.credentials() != first
    assert tokens_made(cloud) == 2
    cloud.tokens.lifetime = timedelta(hours=1)
    login.forget()
    kept = login.credentials()
    assert login.credentials() == kept
    assert tokens_made(cloud) == 3
    assert kept[1] not in repr(login)


def test_a_token_that_is_refused_for_good_is_not_asked_for_without_end(
    cloud: DemoCloud, registry: Registry
) -> None:
    (item,) = connect(registry).list_artifacts(WEB)
    before = tokens_made(cloud)
    cloud.registry(GUANGZHOU).faults.add(Fault(match="/service/token", times=None, status=401))
    with pytest.raises(AccessRefusedError):
        pull_client(registry).get_manifest(WEB.name, item.digest)
    assert tokens_made(cloud) - before <= 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Username": "", "Token": "x"},
        {"Username": "a:b", "Token": "x"},
        {"Username": "a", "Token": "x\r\ny"},
    ],
)
def test_a_token_that_is_none_is_refused(
    cloud: DemoCloud, registry: Registry, answer: dict[str, str]
) -> None:
    cloud.api._perform = lambda call: answer
    login = pull_client(registry)._http.connection.account  # type: ignore[attr-defined]
    with pytest.raises(BadAnswerError):
        login.credentials()


def failing(report: CheckReport) -> tuple[str, str]:
    """Name and sentence of the step that failed; every step after it was left out."""
    (failed,) = [step for step in report.steps if step.state == StepState.FAILED]
    after = report.steps[report.steps.index(failed) + 1 :]
    assert all(step.state == StepState.SKIPPED for step in after)
    return failed.name, failed.sentence


def test_every_step_of_the_connection_test_passes(registry: Registry) -> None:
    report = try_connection(registry)
    assert report.error is None
    assert [step.name for step in report.steps] == [
        "Tencent Cloud's API",
        "Secret ID and key",
        "Region",
        "Instance",
        "Network entry",
        "Address",
        "Host name",
        "Connection",
        "Certificate",
        "Right to list",
        "Registry token",
        "Right to pull",
    ]
    states = {step.name: step.state for step in report.steps}
    # The demonstration has no TLS.
    assert states.pop("Certificate") == StepState.WARNED
    assert set(states.values()) == {StepState.PASSED}


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"status": "Isolate"}, "Instance", "isolated"),
        ({"entry": "Closed"}, "Network entry", "closed"),
        ({"allowlist": ()}, "Network entry", "allows nobody"),
    ],
)
def test_the_connection_test_names_the_step_that_the_instance_fails(
    cloud: DemoCloud, registry: Registry, changes: dict[str, Any], step: str, words: str
) -> None:
    cloud.change(GUANGZHOU, **changes)
    name, sentence = failing(try_connection(registry))
    assert name == step
    assert words in sentence


@pytest.mark.parametrize(
    ("fields", "step", "words"),
    [
        ({"region": "ap-nowhere"}, "Region", "ap-nowhere"),
        ({"instance_id": "tcr-another0"}, "Instance", "no such TCR instance"),
        ({"address": "http://127.0.0.1:9"}, "Connection", "could not be reached"),
    ],
)
def test_the_connection_test_names_the_step_that_the_row_fails(
    registry: Registry, fields: dict[str, str], step: str, words: str
) -> None:
    for name, value in fields.items():
        setattr(registry, name, value)
    name, sentence = failing(try_connection(registry))
    assert name == step
    assert words in sentence


def test_the_connection_test_tells_a_wrong_key_from_an_api_out_of_reach(
    cloud: DemoCloud, registry: Registry, settings: Any
) -> None:
    assert registry.account is not None
    registry.account.secret_key = Secret.of("another")
    assert failing(try_connection(registry))[0] == "Secret ID and key"
    settings.TENCENT_ENDPOINT = "http://127.0.0.1:9"
    assert failing(try_connection(registry))[0] == "Tencent Cloud's API"


def test_the_connection_test_looks_at_the_linked_networks_of_a_vpc(
    cloud: DemoCloud, registry: Registry
) -> None:
    registry.network = Network.VPC
    registry.address = cloud.registry(GUANGZHOU, private=True).url
    assert try_connection(registry).error is None
    cloud.change(GUANGZHOU, networks=())
    assert failing(try_connection(registry)) == ("Network entry", "The instance is linked to no VPC.")


def test_an_account_that_may_not_look_at_the_network_is_only_warned(
    cloud: DemoCloud, registry: Registry
) -> None:
    account = replace(cloud.content.account, denied=frozenset({"DescribeExternalEndpointStatus"}))
    cloud.content = replace(cloud.content, account=account)
    report = try_connection(registry)
    assert report.error is None
    assert {step.name: step.state for step in report.steps}["Network entry"] == StepState.WARNED


def test_a_listing_of_another_instance_is_no_listing_of_this_one(
    cloud: DemoCloud, registry: Registry
) -> None:
    cloud.content = cloud.content.with_instance(Instance("tcr-other000", "other", "ap-guangzhou", holding(3)))
    adapter = connect(registry)
    repositories = list(adapter.list_repositories(ProjectItem("shop")))
    assert len(repositories) == 3
