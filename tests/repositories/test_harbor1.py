"""Harbor 1.x: what is listed of a replayed 1.10, how a long list of tags is read, and what is asked."""

import ipaddress
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from demo.catalog import NEVER, PULL, Account, Catalog, Grant
from demo.faults import Fault
from demo.images import OPERATOR
from demo.rendering import project_id
from demo.rendering1 import tags_of
from demo.server import DemoServer, running
from images.models import Image
from repositories.credentials import Secret
from repositories.models import Health, Registry, RegistryVersion, Sync, SyncTrigger, Tag
from repositories.registries import client, harbor_v1
from repositories.registries.connection import Connection
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    ListingCutError,
    RegistryError,
)
from repositories.registries.harbor_identity import ROBOT_1
from repositories.registries.harbor_v1 import HarborV1
from repositories.registries.protocol import ArtifactItem, Kind, RepositoryItem, StepState
from repositories.sync import run
from repositories.updates import request_sync
from tcss.lifecycle import State
from tests.demo import recorded_harbor1
from tests.fakes.hostile_server import Answer, hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HELLO = RepositoryItem("library/hello", "library")
TAGS = "/api/repositories/library/hello/tags"
SWAGGER = recorded_harbor1.RECORDINGS.parent.parent / "harbor-v1.10-swagger.yaml"
GROUPS = ("01_probes", "02_auth", "03_projects", "04_repositories", "05_tags", "06_registry", "07_token")
needs_the_descriptions = pytest.mark.skipif(
    not SWAGGER.is_file(), reason="the recordings of a real Harbor (../shared) are not at hand"
)


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def older(demo_content: tuple[Path, Catalog]) -> Iterator[DemoServer]:
    """The demo registry as a Harbor 1.10, with a robot that may pull all there is."""
    directory, catalog = demo_content
    robot = Account("robot$ci", "robot secret", robot=True, grants=(Grant("*", PULL),))
    with running(directory, catalog.with_account(robot), face="harbor1") as server:
        yield server


@pytest.fixture
def registry(older: DemoServer, make_registry: Callable[..., Registry]) -> Registry:
    return make_registry(older.url, version=RegistryVersion.V1)


def harbor(url: str, password: str = "secret", username: str = OPERATOR, **fields: Any) -> HarborV1:
    return HarborV1(Connection(url, username, lambda: password, allowed_networks=LOOPBACK), **fields)


def update(registry: Registry) -> Sync:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def row(name: str, digit: str, **fields: object) -> dict[str, object]:
    """A row of a list of tags, with the members a real one has."""
    return {
        "digest": f"sha256:{digit * 64}",
        "name": name,
        "size": 1570,
        "architecture": "amd64",
        "os": "linux",
        "os.version": "",
        "docker_version": "",
        "author": "tester <tester@example.org>",
        "created": "2024-05-01T10:00:00Z",
        "config": {"labels": {"org.example.name": "many"}},
        "immutable": False,
        "signature": None,
        "labels": [],
        "push_time": "2026-11-23T16:35:50.958139Z",
        "pull_time": "0001-01-01T00:00:00Z",
        **fields,
    }


def listed(rows: object, repository: RepositoryItem = HELLO) -> list[ArtifactItem]:
    body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    with hostile_server({f"/api/repositories/{repository.name}/tags": http(200, body)}) as server:
        return list(harbor(server.url).list_artifacts(repository))


def names(artifacts: list[ArtifactItem]) -> list[str]:
    return [tag.name for artifact in artifacts for tag in artifact.tags]


def test_everything_a_harbor_1_holds_is_listed(older: DemoServer, password: str) -> None:
    adapter = harbor(older.url, password)
    found = {}
    for project in adapter.list_projects():
        held = older.content.project(project.name)
        assert held is not None
        assert project.number == project_id(held)
        for repository in adapter.list_repositories(project):
            for artifact in adapter.list_artifacts(repository):
                for tag in artifact.tags:
                    found[repository.name, tag.name] = (artifact.digest, artifact.size, tag.pushed_at)
                assert artifact.kind == Kind.IMAGE
    expected = {
        (f"{project.name}/{place.name}", tag.name): (artifact.digest, artifact.size, tag.push_time)
        for project in older.content.projects
        for place in project.repositories
        for tag, artifact in tags_of(place)
    }
    assert found == expected
    assert len(found) > 10


def test_a_data_update_of_a_harbor_1_reads_every_manifest_once_and_writes_nothing_twice(
    older: DemoServer, registry: Registry
) -> None:
    sync = update(registry)
    assert (sync.state, sync.error_reason) == (State.SUCCEEDED, "")
    expected = {
        (f"{project.name}/{place.name}", tag.name): artifact.digest
        for project in older.content.projects
        for place in project.repositories
        for tag, artifact in tags_of(place)
    }
    tags = Tag.objects.filter(registry=registry)
    rows = {(tag.repository_name, tag.name): tag.manifest_digest for tag in tags}
    assert rows == expected
    assert not tags.filter(image=None).exists()
    assert {pull.digest for pull in older.pulls} == set(expected.values())
    assert len(older.pulls) == len(set(expected.values()))

    update(registry)
    assert len(older.pulls) == len(set(expected.values()))
    assert registry.health == Health.HEALTHY


def test_the_same_image_is_one_whether_harbor_1_or_2_has_it(
    older: DemoServer, registry: Registry, demo: DemoServer, make_registry: Callable[..., Registry]
) -> None:
    update(registry)
    before = Image.objects.count()
    update(make_registry(demo.url))
    tag = Tag.objects.filter(registry=registry).first()
    assert tag is not None
    twin = Tag.objects.exclude(registry=registry).get(repository_name=tag.repository_name, name=tag.name)
    assert twin.image_id == tag.image_id
    assert twin.manifest_digest != tag.manifest_digest
    assert Image.objects.count() - before < before


def test_a_robot_of_harbor_1_is_told_that_it_cannot_list(older: DemoServer) -> None:
    report = harbor(older.url, "robot secret", "robot$ci").check()
    states = {step.name: step.state for step in report.steps}
    assert states["Login"] == StepState.PASSED
    assert states["Right to list"] == StepState.FAILED
    assert report.error is not None
    assert (report.error.code, report.error.reason) == ("REG_FORBIDDEN", ROBOT_1)
    assert "person" in report.error.remedy


def test_a_data_update_by_a_robot_of_harbor_1_fails_at_once_and_says_why(
    older: DemoServer, make_registry: Callable[..., Registry]
) -> None:
    robot = make_registry(
        older.url, version=RegistryVersion.V1, username="robot$ci", password=Secret.of("robot secret")
    )
    sync = update(robot)
    assert (sync.state, sync.error_code, sync.error_reason) == (State.FAILED, "REG_FORBIDDEN", ROBOT_1)
    assert not [seen for seen in older.requests if "/projects" in seen.path]


@pytest.mark.parametrize("username", [OPERATOR, "robot$ci", "nobody"])
def test_a_wrong_password_lists_nothing_though_harbor_1_answers_anybody(
    older: DemoServer, username: str
) -> None:
    with pytest.raises(AccessRefusedError) as caught:
        list(harbor(older.url, "wrong", username).list_projects())
    assert caught.value.code == "REG_AUTH"
    assert not [seen for seen in older.requests if "/projects" in seen.path]


def test_people_who_log_in_by_single_sign_on_are_told_so(older: DemoServer) -> None:
    mode = b'{"harbor_version":"v1.10.19-b1a56175","auth_mode":"oidc_auth"}'
    length = {"Content-Length": str(len(mode))}
    older.faults.add(Fault(match="/api/systeminfo", body=mode, headers=length, times=None))
    report = harbor(older.url, "wrong").check()
    assert report.error is not None
    assert "single sign-on" in report.error.reason
    assert "admin" in report.error.remedy


def test_a_harbor_2_behind_v1_is_told_apart(demo: DemoServer, password: str) -> None:
    report = harbor(demo.url, password).check()
    assert report.error is not None
    assert report.error.reason == "This is Harbor 2.x, not Harbor 1.x."
    assert "V2" in report.error.remedy
    assert [step.name for step in report.steps if step.state == StepState.FAILED] == ["API version"]
    assert not any("authorization" in seen.headers for seen in demo.requests)


def test_a_server_that_became_harbor_2_fails_its_next_data_update_and_loses_nothing(
    registry: Registry, demo: DemoServer
) -> None:
    update(registry)
    known = Tag.objects.filter(registry=registry, missing_since=None).count()
    registry.address = demo.url
    registry.save()
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.FAILED, "REG_PROTOCOL")
    assert "V2" in sync.error_remedy
    assert "Harbor 2.x" in registry.health_reason
    assert Tag.objects.filter(registry=registry, missing_since=None).count() == known


@pytest.mark.parametrize("body", [b'{"harbor_version":"v1.10.19"}', b"[]", b"<html>"])
def test_something_else_behind_v1_is_no_harbor(body: bytes) -> None:
    answers: dict[str, Answer] = {"/api/systeminfo": http(200, body), "/api/version": http(404)}
    if b"v1" in body:
        answers = {"/api/version": http(404)}
    with hostile_server(answers) as server, pytest.raises(BadAnswerError) as caught:
        list(harbor(server.url).list_projects())
    assert caught.value.code == "REG_PROTOCOL"


def test_a_digest_with_several_tags_is_one_artifact() -> None:
    found = listed([row("1.0", "a"), row("2.0", "b"), row("latest", "a")])
    assert [(artifact.digest[7], names([artifact])) for artifact in found] == [
        ("a", ["1.0", "latest"]),
        ("b", ["2.0"]),
    ]


def test_a_row_without_details_counts_and_one_without_a_digest_makes_the_listing_incomplete() -> None:
    bare = {"size": 0, "os": "", "architecture": "", "config": None, "created": "0001-01-01T00:00:00Z"}
    found = listed([row("1.0", "a", **bare)])
    assert names(found) == ["1.0"]
    body = json.dumps([row("1.0", "a", digest=""), row("2.0", "b")]).encode()
    seen: list[ArtifactItem] = []
    with hostile_server({TAGS: http(200, body)}) as server, pytest.raises(BadAnswerError) as caught:
        seen.extend(harbor(server.url).list_artifacts(HELLO))
    assert names(seen) == ["2.0"]
    assert "1 tags" in caught.value.reason
    assert "log" in caught.value.remedy


def test_a_tag_that_was_never_pushed_under_its_name_has_the_oldest_time() -> None:
    pushed = listed([row("1.0", "a", push_time="0001-01-01T00:00:00Z")])[0].tags[0].pushed_at
    assert pushed.year == 1970
    assert NEVER.year == 1


def test_what_cosign_stored_as_an_image_is_a_signature() -> None:
    signature = f"sha256-{'c' * 64}"
    found = listed([row(f"{signature}.sig", "a"), row(f"{signature}.sbom", "b"), row("1.0", "c")])
    assert [artifact.kind for artifact in found] == [Kind.SIGNATURE, Kind.SBOM, Kind.IMAGE]


@pytest.mark.parametrize("body", [b"null", b"[]"])
def test_a_repository_without_tags_is_empty(body: bytes) -> None:
    assert listed(body) == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http(200, b"[{}"), "REG_PROTOCOL"),
        (http(200, b"[] []"), "REG_PROTOCOL"),
        (http(200, b"{}"), "REG_PROTOCOL"),
        (http(200, b"[]", Content_Type="text/html"), "REG_PROTOCOL"),
        (http(500, b""), "REG_5XX"),
        (http(404, b""), "REG_NOT_FOUND"),
        (http(401, b""), "REG_AUTH"),
        (http(403, b""), "REG_FORBIDDEN"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n[", "REG_CONNECT"),
    ],
)
def test_a_list_of_tags_that_is_none_is_an_error(answer: bytes, code: str) -> None:
    def once(connection: Any) -> None:
        connection.sendall(answer)

    with hostile_server({TAGS: once}) as server, pytest.raises(RegistryError) as caught:
        list(harbor(server.url).list_artifacts(HELLO))
    assert caught.value.code == code


def test_a_list_of_tags_that_breaks_off_is_asked_for_again(older: DemoServer, password: str) -> None:
    item = RepositoryItem("payments/ledger", "payments")
    before = names(list(harbor(older.url, password).list_artifacts(item)))
    older.faults.add(Fault(match="/ledger/tags", cut_at=200))
    assert names(list(harbor(older.url, password).list_artifacts(item))) == before
    assert before


def test_a_repository_that_harbor_1_cannot_list_for_its_name_is_said_so() -> None:
    item = RepositoryItem("library/a/tags", "library")
    missing: dict[str, Answer] = {"/api/repositories/library/a/tags/tags": http(404)}
    with hostile_server(missing) as server, pytest.raises(BadAnswerError) as caught:
        list(harbor(server.url).list_artifacts(item))
    assert "/tags" in caught.value.reason


def test_slashes_of_a_name_stay_as_they_are() -> None:
    item = RepositoryItem("library/a/b/c", "library")
    with hostile_server({"/api/repositories/library/a/b/c/tags": http(200, b"[]")}) as server:
        assert list(harbor(server.url).list_artifacts(item)) == []
        assert server.unexpected == []


def long_list(count: int) -> bytes:
    """A list of as many tags, written as a real server writes it."""
    rows = [row(f"build-{number}", "a", digest=f"sha256:{number:064x}") for number in range(count)]
    return json.dumps(rows, indent=2).encode()


def test_a_long_list_of_tags_takes_less_memory_than_its_text_twice() -> None:
    body = long_list(4000)
    with hostile_server({TAGS: http(200, body)}) as server:
        adapter = harbor(server.url)
        tracemalloc.start()
        try:
            found = list(adapter.list_artifacts(HELLO))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(found) == 4000
    assert peak < 2 * len(body)


def test_a_list_of_tags_beyond_its_size_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harbor_v1, "TAG_LIST", replace(harbor_v1.TAG_LIST, body=2**20))
    with pytest.raises(ListingCutError) as caught:
        listed(long_list(3000))
    assert "1 MiB" in caught.value.reason


def test_a_list_of_tags_has_more_room_than_other_answers() -> None:
    assert len(listed(long_list(17_000))) == 17_000


@needs_the_descriptions
@pytest.mark.parametrize(
    ("path", "count", "digests"),
    [
        ("/api/repositories/big/many-tags/tags", 120, 120),
        ("/api/repositories/big/one-digest/tags", 60, 1),
        ("/api/repositories/library/a/b/c/tags", 2, 1),
        ("/api/repositories/777/num/tags", 1, 1),
    ],
)
def test_the_recorded_lists_of_a_real_harbor_1_are_read(path: str, count: int, digests: int) -> None:
    recorded = next(
        each for each in recorded_harbor1.load("05_tags") if each.path == path and each.status == 200
    )
    name = path.removeprefix("/api/repositories/").removesuffix("/tags")
    found = listed(recorded.body, RepositoryItem(name, name.partition("/")[0]))
    assert names(found) == [tag for artifact in found for tag in names([artifact])]
    assert len(names(found)) == count
    assert len(found) == digests
    assert sorted(names(found)) == sorted(each["name"] for each in recorded.json())


def shape(target: str) -> tuple[str, tuple[str, ...]]:
    """What kind of question a path is: names and digests in it do not matter, parameters do."""
    parts = urlsplit(target)
    path = re.sub(r"^(/api/repositories)/.+/tags$", r"\1/*/tags", parts.path)
    path = re.sub(r"^/v2/.+/(manifests|blobs)/sha256:[0-9a-f]{64}$", r"/v2/*/\1/sha256:*", path)
    path = re.sub(r"^/v2/.+/tags/list$", "/v2/*/tags/list", path)
    return path, tuple(sorted(name for name, _ in parse_qsl(parts.query)))


@needs_the_descriptions
def test_every_question_is_one_that_a_real_harbor_1_was_asked(
    older: DemoServer, registry: Registry, password: str
) -> None:
    assert update(registry).state == State.SUCCEEDED
    assert harbor(older.url, password).check().error is None
    described = described_questions()
    recorded = {
        shape(each.path)
        for group in GROUPS
        for each in recorded_harbor1.load(group)
        if each.method == "GET" and each.status in {200, 404}
    }
    asked = {shape(seen.path) for seen in older.requests}
    assert asked <= recorded
    for path, parameters in asked:
        if path.startswith("/api/") and path != "/api/version":
            assert set(parameters) <= described[path.replace("*", "{repo_name}")], path
    assert older.unexpected == []
    assert {seen.method for seen in older.requests} == {"GET"}
    assert not [seen for seen in older.requests if "cookie" in seen.headers]
    assert ("/api/repositories/*/tags", ()) in asked


def described_questions() -> Mapping[str, set[str]]:
    """The query parameters of each path that the description of the API lets GET."""
    description = yaml.safe_load(SWAGGER.read_text(encoding="utf-8"))
    return {
        description["basePath"] + path: {
            parameter["name"]
            for parameter in methods["get"].get("parameters", ())
            if parameter.get("in") == "query"
        }
        for path, methods in description["paths"].items()
        if "get" in methods
    }
