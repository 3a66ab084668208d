"""The demo registry as a Harbor 1.10 in a test's hands: what it holds, labels, pages, pulls, sessions."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from demo import images
from demo.blobs import BlobStore
from demo.catalog import DOCKER_MANIFEST, Accessory, Catalog, Label, Project, Repository, Tag
from demo.docker_content import docker_content
from demo.rendering import project_id
from demo.server import DemoServer, running
from tests.demo.small_registry import OPERATOR, ROBOT, Reply, ask, basic, bearer, content, image, token

DOCKER = {"Accept": DOCKER_MANIFEST}
HELLO = "/api/repositories/library/hello/tags"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    with running(tmp_path, content(BlobStore(tmp_path)), face="harbor1") as server:
        yield server


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server with the sample images."""
    with running(tmp_path_factory.mktemp("samples"), face="harbor1") as server:
        yield server


def number_of(server: DemoServer, name: str) -> int:
    """The number of a project."""
    project = server.catalog.project(name)
    assert project is not None
    return project_id(project)


def repositories(server: DemoServer, project: str, headers: dict[str, str] | None = None) -> Reply:
    """The repositories of a project."""
    return ask(server, f"/api/repositories?project_id={number_of(server, project)}", headers)


def tag_names(reply: Reply) -> list[str]:
    """The names of the listed tags."""
    return [each["name"] for each in reply.json()]


def test_the_version_is_told_by_systeminfo_and_nowhere_else(server: DemoServer) -> None:
    assert ask(server, "/api/systeminfo").json()["harbor_version"].startswith("v1.10.")
    assert [ask(server, path).status for path in ("/api/version", "/api/v2.0/systeminfo")] == [404, 404]


def test_an_oci_image_is_there_as_docker_would_have_pushed_it(server: DemoServer) -> None:
    shown = ask(server, f"{HELLO}/1.0").json()
    headers = {**DOCKER, **bearer(token(server, "library/hello"))}
    reply = ask(server, f"/v2/library/hello/manifests/{shown['digest']}", headers)
    assert "sha256:" + hashlib.sha256(reply.body).hexdigest() == shown["digest"]
    manifest = reply.json()
    assert manifest["mediaType"] == reply.headers["content-type"] == DOCKER_MANIFEST
    sizes = [manifest["config"]["size"], *(layer["size"] for layer in manifest["layers"])]
    assert shown["size"] == len(reply.body) + sum(sizes)
    original = server.catalog.projects[0].repositories[0].artifacts[0]
    assert json.loads(server.blobs.read(original.digest))["config"]["digest"] == manifest["config"]["digest"]
    for layer in manifest["layers"]:
        blob = ask(server, f"/v2/library/hello/blobs/{layer['digest']}", headers)
        assert "sha256:" + hashlib.sha256(blob.body).hexdigest() == layer["digest"]


def test_an_index_and_what_only_it_names_are_not_there(server: DemoServer) -> None:
    names = [each["name"] for each in repositories(server, "library").json()]
    assert names == ["library/hello"]
    assert ask(server, "/api/repositories/library/multi/tags").json() == []
    reply = ask(server, "/v2/library/multi/tags/list", bearer(token(server, "library/multi")))
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


def test_a_tagged_child_of_an_index_is_an_image_like_others(server: DemoServer) -> None:
    child = server.catalog.projects[0].repositories[1].artifacts[1]
    server.catalog = server.catalog.with_tag("library", "multi", Tag("1.0-amd64"), child.digest)
    assert tag_names(ask(server, "/api/repositories/library/multi/tags")) == ["1.0-amd64"]


def test_the_sample_content_loses_indexes_signatures_and_charts(samples: DemoServer) -> None:
    listed = {
        each["name"]
        for project in samples.catalog.projects
        for each in repositories(samples, project.name, operator(samples)).json()
    }
    assert {"library/nginx", "platform/charts/shop"}.isdisjoint(listed)
    assert {"library/debian", "shop/backend/orders", "payments/core/settlement"} <= listed
    settlement = ask(samples, "/api/repositories/payments/core/settlement/tags", operator(samples))
    assert tag_names(settlement) == ["0.9.4", "nightly"]


def operator(server: DemoServer) -> dict[str, str]:
    """The sample operator's login."""
    account = server.catalog.account(images.OPERATOR)
    assert account is not None
    return basic(account.name, account.password)


def test_every_sample_image_is_whole(samples: DemoServer) -> None:
    for project in samples.content.projects:
        for place in project.repositories:
            path = f"/api/repositories/{project.name}/{place.name}/tags"
            for shown in ask(samples, path, operator(samples)).json():
                made = ask(samples, f"{path}/{shown['name']}/manifest", operator(samples)).json()
                config = made["config"].encode()
                assert "sha256:" + hashlib.sha256(config).hexdigest() == made["manifest"]["config"]["digest"]
                assert json.loads(config)["architecture"] == shown["architecture"]
                assert all(layer["digest"] in samples.blobs for layer in made["manifest"]["layers"])


def test_what_1_10_holds_is_made_once_and_is_itself_unchanged_by_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    once = docker_content(content(store), store)
    assert docker_content(once, store) == once
    assert once != content(store)
    with running(tmp_path, content(store), face="harbor1") as server:
        assert server.content is server.content
        before = server.content
        server.catalog = server.catalog.without_repository("library", "hello")
        assert server.content != before


def test_an_artifact_without_its_bytes_is_not_there(tmp_path: Path) -> None:
    lost = replace(image(BlobStore(tmp_path), "1.0"), digest="sha256:" + "0" * 64)
    catalog = Catalog((Project("library", (Repository("hello", (lost,)),), public=True),))
    assert docker_content(catalog, BlobStore(tmp_path)).repository("library/hello") is None


def test_a_signature_attached_to_an_image_leaves_no_trace(server: DemoServer) -> None:
    place = server.catalog.projects[0].repositories[0]
    attached = replace(place.artifacts[0], accessories=(Accessory("sha256:" + "1" * 64, "x", 1),))
    server.catalog = server.catalog.with_artifact("library", "hello", attached)
    assert [artifact.accessories for artifact in server.content.projects[0].repositories[0].artifacts] == [
        (),
        (),
    ]


def test_tags_have_no_pages_and_details_on_demand(server: DemoServer) -> None:
    assert tag_names(ask(server, f"{HELLO}?page=1&page_size=1")) == ["1.0", "2.0", "latest"]
    bare = ask(server, f"{HELLO}?detail=false").json()
    assert [each["digest"] for each in bare] == ["", "", ""]
    assert all(each["digest"] for each in ask(server, HELLO).json())


def test_a_digest_passes_for_a_tag_without_times(server: DemoServer) -> None:
    digest = ask(server, f"{HELLO}/1.0").json()["digest"]
    shown = ask(server, f"{HELLO}/{digest}").json()
    assert (shown["name"], shown["push_time"]) == (digest, "0001-01-01T00:00:00Z")


def test_labels_of_an_image_are_on_its_tags_and_can_be_asked_for(server: DemoServer) -> None:
    place = server.catalog.projects[0].repositories[0]
    labelled = replace(place.artifacts[1], labels=(Label(7, "checked", color="#00FF00"),))
    server.catalog = server.catalog.with_artifact("library", "hello", labelled)
    shown = ask(server, f"{HELLO}?label_id=7").json()
    assert [(each["name"], each["labels"][0]["name"]) for each in shown] == [("2.0", "checked")]


def test_a_repository_whose_last_tag_is_deleted_is_gone_from_the_list_only(server: DemoServer) -> None:
    server.catalog = server.catalog.without_tag("team", "app/backend", "1.0")
    assert repositories(server, "team", OPERATOR).json() == []
    listed = ask(server, "/v2/team/app/backend/tags/list", bearer(token(server, "team/app/backend", ROBOT)))
    assert listed.json() == {"name": "team/app/backend", "tags": None}


@pytest.fixture
def many(tmp_path: Path) -> Iterator[DemoServer]:
    """A server with 501 public projects."""
    projects = tuple(Project(f"p{number:03}", public=True) for number in range(501))
    with running(tmp_path, Catalog(projects), face="harbor1") as server:
        yield server


@pytest.mark.parametrize(
    ("query", "shown", "link"),
    [
        ("", 500, '</api/projects?page=2>; rel="next"'),
        ("?page_size=1000", 500, '</api/projects?page=2&page_size=1000>; rel="next"'),
        ("?page_size=501&page=2", 1, '</api/projects?page=1&page_size=501>; rel="prev"'),
        ("?page_size=500&page=3", 0, None),
    ],
)
def test_pages_hold_five_hundred_at_the_most(many: DemoServer, query: str, shown: int, link: str) -> None:
    reply = ask(many, f"/api/projects{query}")
    assert len(reply.json() or ()) == shown
    assert (reply.headers["x-total-count"], reply.headers.get("link")) == ("501", link)


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "page_size=0", "page_size=x"])
def test_a_page_that_cannot_be_is_refused(many: DemoServer, query: str) -> None:
    reply = ask(many, f"/api/projects?{query}")
    assert (reply.status, reply.json()["message"]) == (400, f"invalid {query.partition('=')[0]}")


def test_a_wrong_password_lists_public_projects_and_fails_where_identity_is_asked(server: DemoServer) -> None:
    wrong = basic("operator", "wrong")
    assert [each["name"] for each in ask(server, "/api/projects", wrong).json()] == ["library"]
    assert ask(server, "/api/users/current", wrong).status == 401
    assert ask(server, "/api/users/current", OPERATOR).json()["username"] == "operator"


def test_a_robot_may_pull_and_read_nothing_of_the_api(server: DemoServer) -> None:
    assert [each["name"] for each in ask(server, "/api/projects", ROBOT).json()] == ["library"]
    refused = repositories(server, "team", ROBOT)
    assert (refused.status, refused.json()["message"]) == (403, "robot$scanner")
    assert ask(server, "/api/users/current", ROBOT).status == 500
    headers = {**DOCKER, **bearer(token(server, "team/app/backend", ROBOT))}
    assert ask(server, "/v2/team/app/backend/manifests/1.0", headers).status == 200


def test_a_password_opens_nothing_of_the_registry_and_the_challenge_stays_bearer(server: DemoServer) -> None:
    for headers in (OPERATOR, basic("operator", "wrong"), {}):
        reply = ask(server, "/v2/team/app/backend/manifests/1.0", {**DOCKER, **headers})
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == (
            f'Bearer realm="{server.url}/service/token",service="harbor-registry",'
            'scope="repository:team/app/backend:pull"'
        )


def test_a_token_that_ended_and_one_that_allows_too_little_are_told_apart(server: DemoServer) -> None:
    path = "/v2/team/app/backend/manifests/1.0"
    little = ask(server, path, bearer(token(server, "team/app/backend")))
    assert little.headers["www-authenticate"].endswith('error="insufficient_scope"')
    good = bearer(token(server, "team/app/backend", OPERATOR))
    server.tokens.expire()
    assert ask(server, path, good).headers["www-authenticate"].endswith('error="invalid_token"')


def test_a_pull_moves_the_tags_pull_time_and_a_look_does_not(server: DemoServer) -> None:
    headers = {**DOCKER, **bearer(token(server, "library/hello"))}
    ask(server, "/v2/library/hello/manifests/1.0", headers, method="HEAD")
    assert ask(server, f"{HELLO}/1.0").json()["pull_time"].startswith("0001-")
    ask(server, "/v2/library/hello/manifests/1.0", headers)
    assert not ask(server, f"{HELLO}/1.0").json()["pull_time"].startswith("0001-")
    assert repositories(server, "library").json()[0]["pull_count"] == 1


def unpacked(text: str) -> bytes:
    """Base64 without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verified(document: dict[str, Any]) -> bytes:
    """The signed content of a manifest of the first format; raises InvalidSignature when it is not."""
    signature = document["signatures"][0]
    key = signature["header"]["jwk"]
    numbers = [int.from_bytes(unpacked(key[name])) for name in ("x", "y")]
    public = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
    raw = unpacked(signature["signature"])
    pair = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    unsigned = {key: value for key, value in document.items() if key != "signatures"}
    content = json.dumps(unsigned, indent=3).encode()
    packed = base64.urlsafe_b64encode(content).rstrip(b"=")
    public.verify(pair, signature["protected"].encode() + b"." + packed, ec.ECDSA(SHA256()))
    return content


def test_who_does_not_ask_for_dockers_second_format_gets_the_first_signed(samples: DemoServer) -> None:
    headers = bearer(token(samples, "library/alpine"))
    reply = ask(samples, "/v2/library/alpine/manifests/3.18", {"Accept": "*/*", **headers})
    assert reply.json()["schemaVersion"] == 1
    digest = "sha256:" + hashlib.sha256(verified(reply.json())).hexdigest()
    assert reply.headers["docker-content-digest"] == digest
    second = ask(samples, "/v2/library/alpine/manifests/3.18", {**DOCKER, **headers})
    assert second.headers["docker-content-digest"] != digest


def test_an_image_without_history_has_no_first_format(server: DemoServer) -> None:
    reply = ask(server, "/v2/library/hello/manifests/1.0", bearer(token(server, "library/hello")))
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")
    assert ask(server, f"{HELLO}/1.0/manifest?version=v1").status == 500
    assert ask(server, f"{HELLO}/1.0/manifest?version=v3").status == 400


def test_a_client_that_keeps_the_cookies_is_asked_for_the_token_in_a_header(server: DemoServer) -> None:
    set_cookies = ask(server, "/api/systeminfo").headers["set-cookie"]
    key = set_cookies.partition("_xsrf=")[2].partition(";")[0]
    cookies = {"Cookie": f"sid=1; _xsrf={key}"}
    assert ask(server, "/api/projects", {**cookies, **OPERATOR}, method="POST").status == 422
    trusted = {**cookies, **OPERATOR, "X-Xsrftoken": key}
    assert ask(server, "/api/projects", trusted, method="POST").status == 404
    assert "set-cookie" not in ask(server, "/api/systeminfo", cookies).headers


def test_unknown_requests_are_told_apart_in_the_log(server: DemoServer) -> None:
    ask(server, "/api/projects")
    ask(server, "/api/v2.0/projects")
    ask(server, "/v2/library/hello/referrers/x")
    assert server.unexpected == ["GET /api/v2.0/projects", "GET /v2/library/hello/referrers/x"]
