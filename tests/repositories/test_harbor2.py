"""Harbor 2 as recorded from real servers: what each artifact is, thousands of tags, what is asked at all."""

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from demo.catalog import Tag as DemoTag
from demo.exchange import Answer as DemoAnswer
from demo.faults import Fault
from demo.images import OPERATOR
from demo.server import DemoServer
from images.models import ArtifactKind, Image
from licensing.services import assign
from repositories.models import Registry, Sync, SyncTrigger, Tag
from repositories.registries import client
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import AccessRefusedError, TryLaterError
from repositories.registries.harbor_v2 import HarborV2
from repositories.registries.protocol import ArtifactItem, Kind, RepositoryItem
from repositories.sync import run
from repositories.updates import request_sync
from tcss.lifecycle import State
from tcss.outbound_sockets import Limits
from tests.demo.exchanges import ALL_RECORDINGS, Exchange, read
from tests.fakes.hostile_server import hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SWAGGER = ALL_RECORDINGS.parent / "harbor-v2.15-swagger.yaml"
TEAM = "/api/v2.0/projects/team-private/repositories"
DETAILS = re.compile(r"with_[a-z_]+")
needs_the_recordings = pytest.mark.skipif(
    not SWAGGER.is_file(), reason="the recordings of a real Harbor (../shared) are not at hand"
)


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def harbor(url: str, password: str = "secret", **fields: Any) -> HarborV2:
    return HarborV2(Connection(url, OPERATOR, lambda: password, allowed_networks=LOOPBACK), **fields)


def update(registry: Registry) -> Sync:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def recorded(version: str, repository: str) -> Exchange:
    """The recorded list of a repository's artifacts, as an administrator got it."""
    path = f"{TEAM}/{repository}/artifacts"
    everything = read(ALL_RECORDINGS / f"harbor-{version}" / "05_artifacts.jsonl")
    return next(each for each in everything if (each.path, each.status) == (path, 200))


def listed(exchange: Exchange, name: str) -> list[ArtifactItem]:
    """What the adapter makes of a recorded answer."""
    total = exchange.headers["x-total-count"]
    answer = http(200, exchange.body, X_Total_Count=total)
    path = urlsplit(exchange.path).path
    with hostile_server({path: answer, f"{path}?page=2": http(200, b"[]")}) as server:
        return list(harbor(server.url).list_artifacts(RepositoryItem(name, name.partition("/")[0])))


def kinds(artifacts: list[ArtifactItem]) -> dict[str, Kind]:
    """The kind of each artifact, by its first tag's name without a hash in it."""
    found = {}
    for artifact in artifacts:
        name = artifact.tags[0].name if artifact.tags else "-"
        found[re.sub("^sha256-[0-9a-f]{64}", "", name)] = artifact.kind
    return found


@needs_the_recordings
@pytest.mark.parametrize("version", ["2.5.0", "2.9.5"])
@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("app%252Fbackend", {"main": Kind.IMAGE}),
        ("multi", {"latest": Kind.INDEX, "1.0-arm64": Kind.IMAGE}),
        (
            "multi-oci",
            dict.fromkeys(("1.0", "amd-only", "nested", "no-mediatype"), Kind.INDEX),
        ),
        ("buildkit", {"1.0": Kind.INDEX}),
        ("charts%252Fmychart", {"0.1.0": Kind.CHART}),
        ("wasm", {"1": Kind.WASM}),
        ("oras", {"1": Kind.OTHER, "sbom": Kind.OTHER}),
        ("untagged", {"-": Kind.IMAGE}),
        ("moved-tag", {"latest": Kind.IMAGE, "-": Kind.IMAGE}),
    ],
)
def test_recorded_artifacts_are_what_they_are(
    version: str, repository: str, expected: dict[str, Kind]
) -> None:
    name = "team-private/" + repository.replace("%252F", "/")
    assert kinds(listed(recorded(version, repository), name)) == expected


@needs_the_recordings
@pytest.mark.parametrize("version", ["2.5.0", "2.9.5"])
def test_what_cosign_tagged_is_no_image_though_harbor_says_so(version: str) -> None:
    exchange = recorded(version, "signed")
    assert {entry["type"] for entry in exchange.json() if entry["tags"]} == {"IMAGE"}
    found = kinds([each for each in listed(exchange, "team-private/signed") if each.tags])
    assert found == {"1.0": Kind.IMAGE, ".att": Kind.SIGNATURE, ".sbom": Kind.SBOM}


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("CHART", Kind.CHART),
        ("WASM", Kind.WASM),
        ("CNAB", Kind.CNAB),
        ("SBOM", Kind.SBOM),
        ("UNKNOWN", Kind.OTHER),
        ("CNAI", Kind.OTHER),
        ("SOMETHING.NEW", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_a_type_that_is_no_image_is_listed_as_what_it_is(type_: str, kind: Kind) -> None:
    entry = {"digest": f"sha256:{'a' * 64}", "type": type_, "tags": [{"name": "1"}]}
    with hostile_server({"/api/": http(200, json.dumps([entry]).encode(), X_Total_Count="1")}) as server:
        found = list(harbor(server.url).list_artifacts(RepositoryItem("library/x", "library")))
    assert [artifact.kind for artifact in found] == [kind]
    assert kind in {*ArtifactKind}


def with_many_tags(demo: DemoServer, count: int) -> tuple[RepositoryItem, int]:
    """A repository of which one artifact has very many tags, and how many tags it has in all."""
    place = demo.catalog.repository("payments/ledger")
    assert place is not None
    image = next(each for each in place.artifacts if each.tags and each.type == "IMAGE")
    more = tuple(DemoTag(f"build-{number}", image.push_time, id=number + 1) for number in range(count))
    demo.catalog = demo.catalog.with_artifact("payments", "ledger", replace(image, tags=image.tags + more))
    item = RepositoryItem("payments/ledger", "payments")
    return item, count + sum(len(each.tags) for each in place.artifacts)


def test_an_artifact_whose_tags_fill_a_page_has_them_read_page_by_page(
    demo: DemoServer, password: str
) -> None:
    item, count = with_many_tags(demo, 1500)
    before = list(harbor(demo.url, password).list_artifacts(item))
    assert not [seen for seen in demo.requests if "/tags?" in seen.path]
    found = list(harbor(demo.url, password, limits=Limits(body=60_000)).list_artifacts(item))
    names = [tag.name for artifact in found for tag in artifact.tags]
    assert (len(names), len(set(names))) == (count, count)
    assert [(each.digest, each.kind, set(each.tags)) for each in found] == [
        (each.digest, each.kind, set(each.tags)) for each in before
    ]


def test_a_gateway_that_does_not_wait_for_the_tags_gets_shorter_questions(
    demo: DemoServer, password: str
) -> None:
    item, count = with_many_tags(demo, 10)
    demo.faults.add(Fault(match="with_tag=true", status=504, times=None))
    found = list(harbor(demo.url, password).list_artifacts(item))
    assert sum(len(artifact.tags) for artifact in found) == count
    demo.faults.add(Fault(match="with_tag=false", status=502, times=None))
    with pytest.raises(TryLaterError):
        list(harbor(demo.url, password).list_artifacts(item))


def test_what_cosign_tagged_is_no_image_where_tags_are_read_by_themselves(
    demo: DemoServer, password: str
) -> None:
    place = demo.catalog.repository("payments/ledger")
    assert place is not None
    image = next(each for each in place.artifacts if each.tags and each.type == "IMAGE")
    signature = f"sha256-{'c' * 64}.sig"
    demo.catalog = demo.catalog.with_artifact(
        "payments", "ledger", replace(image, tags=(DemoTag(signature, id=1),))
    )
    demo.faults.add(Fault(match="with_tag=true", status=504, times=None))
    item = RepositoryItem("payments/ledger", "payments")
    found = {each.digest: each.kind for each in harbor(demo.url, password).list_artifacts(item)}
    assert found[image.digest] == Kind.SIGNATURE


@pytest.mark.parametrize("total", ["0", "49", "5000", "nonsense", None])
def test_a_total_that_is_wrong_loses_no_artifact(demo: DemoServer, password: str, total: str | None) -> None:
    def other_total(answer: DemoAnswer) -> DemoAnswer:
        headers = {name: text for name, text in answer.headers.items() if name != "X-Total-Count"}
        return replace(answer, headers=headers | ({} if total is None else {"X-Total-Count": total}))

    item, _ = with_many_tags(demo, 1)
    expected = list(harbor(demo.url, password).list_artifacts(item))
    demo.faults.add(Fault(match="/artifacts", change=other_total, times=None))
    assert list(harbor(demo.url, password).list_artifacts(item)) == expected


def test_accessories_beside_the_edge_of_a_page_are_listed_with_what_they_belong_to(
    demo: DemoServer, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = RepositoryItem("payments/ledger", "payments")
    expected = {each.digest: each.kind for each in harbor(demo.url, password).list_artifacts(item)}
    assert Kind.SIGNATURE in expected.values()
    # Harbor 2.5 cuts its pages before it takes the accessories out of them, so that some pages are empty.
    monkeypatch.setattr("repositories.registries.paging.PAGE_SIZES", (1,))
    found = {each.digest: each.kind for each in harbor(demo.url, password).list_artifacts(item)}
    assert found == expected


def test_a_policy_that_forbids_a_pull_is_said_of_that_image_and_stops_no_other(
    demo: DemoServer, registry: Registry, password: str
) -> None:
    place = demo.catalog.repository("payments/ledger")
    assert place is not None
    image = next(each for each in place.artifacts if each.tags and each.type == "IMAGE")
    body = b'{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"<b>blocked</b>"}]}'
    length = {"Content-Length": str(len(body))}
    demo.faults.add(Fault(match=image.digest, status=412, body=body, headers=length, times=None))

    connection = Connection(demo.url, OPERATOR, lambda: password, allowed_networks=LOOPBACK)
    with pytest.raises(AccessRefusedError) as caught:
        DistributionClient(connection).get_manifest("payments/ledger", image.digest)
    assert "policy of the registry's project" in caught.value.reason
    assert "vulnerability prevention" in caught.value.remedy
    assert "blocked" not in caught.value.reason

    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.INCOMPLETE, "REG_FORBIDDEN")
    blocked = Tag.objects.filter(manifest_digest=image.digest)
    assert blocked.exists()
    assert not blocked.exclude(image=None).exists()
    images = Tag.objects.filter(manifest__kind=ArtifactKind.IMAGE).exclude(pk__in=blocked)
    assert images.exists()
    assert not images.filter(image=None).exists()


@pytest.mark.django_db
def test_only_images_can_be_licensed_so_nothing_else_ever_is(demo: DemoServer, registry: Registry) -> None:
    update(registry)
    assign(Image.objects.values_list("pk", flat=True), None)
    others = Tag.objects.exclude(manifest__kind__in=[ArtifactKind.IMAGE, ArtifactKind.INDEX])
    assert others.exists()
    assert not others.exclude(image=None).exists()
    assert Image.objects.filter(is_licensed=True).exists()


def shape(target: str) -> tuple[str, frozenset[str]]:
    """What kind of question a path is; which details are wanted with it is left aside."""
    parts = urlsplit(target)
    path = re.sub(r"/projects/[^/]+", "/projects/*", parts.path)
    path = re.sub(r"/repositories/[^/]+", "/repositories/*", path)
    path = re.sub(r"/artifacts/[^/]+", "/artifacts/*", path)
    path = re.sub(r"^/v2/.+/(manifests|blobs)/sha256:[0-9a-f]{64}$", r"/v2/*/\1/sha256:*", path)
    path = re.sub(r"^/v2/.+/tags/list$", "/v2/*/tags/list", path)
    names = {name for name, _ in parse_qsl(parts.query)}
    return path, frozenset(name for name in names if not DETAILS.fullmatch(name))


@needs_the_recordings
def test_every_question_is_one_that_a_real_harbor_2_was_asked(
    demo: DemoServer, registry: Registry, password: str
) -> None:
    assert update(registry).state == State.SUCCEEDED
    assert harbor(demo.url, password).check().error is None
    with_many_tags(demo, 200)
    short = harbor(demo.url, password, limits=Limits(body=20_000))
    list(short.list_artifacts(RepositoryItem("payments/ledger", "payments")))
    known = {
        shape(each.path)
        for file in sorted((ALL_RECORDINGS / "harbor-2.5.0").glob("0[1-7]_*.jsonl"))
        for each in read(file)
        if each.method == "GET" and each.status == 200
    }
    assert {shape(seen.path) for seen in demo.requests} <= known
    assert not [seen for seen in demo.requests if "cookie" in seen.headers]
    assert demo.unexpected == []
    artifacts = [seen for seen in demo.requests if "/artifacts" in seen.path]
    details = {name for seen in artifacts for name in DETAILS.findall(urlsplit(seen.path).query)}
    assert details
    assert details <= described_details()
    assert {seen.headers.get("x-is-resource-name") for seen in artifacts} == {"true"}


def described_details() -> set[str]:
    """The switches of details that the newest described Harbor still knows for a list of artifacts."""
    description = yaml.safe_load(SWAGGER.read_text(encoding="utf-8"))
    path = "/projects/{project_name}/repositories/{repository_name}/artifacts"
    parameters = description["paths"][path]["get"]["parameters"]
    return {each["name"] for each in parameters if each.get("name", "").startswith("with_")}


def test_a_manifest_is_read_once_in_its_life(
    demo: DemoServer, registry: Registry, make_registry: Callable[..., Registry]
) -> None:
    update(registry)
    first = [pull.digest for pull in demo.pulls]
    assert len(first) == len(set(first)) > 10
    update(registry)
    update(make_registry(demo.url))
    assert [pull.digest for pull in demo.pulls] == first
