"""The demo registry's pulling side: tokens, manifests, blobs, ranges, and what a pull leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from demo.blobs import BlobStore
from demo.server import DemoServer, running
from tests.demo.small_registry import (
    ANY_MANIFEST,
    LAYER,
    OPERATOR,
    ROBOT,
    Reply,
    ask,
    basic,
    bearer,
    content,
    token,
)

BACKEND = "/v2/team/app/backend"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    with running(tmp_path, content(BlobStore(tmp_path))) as server:
        yield server


def pull(server: DemoServer, headers: dict[str, str], *, method: str = "GET") -> Reply:
    """The private image's manifest."""
    return ask(server, f"{BACKEND}/manifests/1.0", {**ANY_MANIFEST, **headers}, method=method)


def layer(server: DemoServer, headers: dict[str, str] | None = None) -> Reply:
    """The private image's layer."""
    digest = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    return ask(server, f"{BACKEND}/blobs/{digest}", {**ROBOT, **(headers or {})})


def test_the_token_flow_ends_in_a_manifest(server: DemoServer) -> None:
    challenge = ask(server, f"{BACKEND}/manifests/1.0").headers["www-authenticate"]
    assert challenge == (
        f'Bearer realm="{server.url}/service/token",service="harbor-registry",'
        'scope="repository:team/app/backend:pull"'
    )
    reply = pull(server, bearer(token(server, "team/app/backend", ROBOT)))
    assert reply.status == 200
    assert "sha256:" + hashlib.sha256(reply.body).hexdigest() == reply.headers["docker-content-digest"]


def test_the_realm_is_the_configured_address_whatever_host_was_asked(server: DemoServer) -> None:
    server.external_url = "https://registry.example.com"
    challenge = ask(server, "/v2/", {"Host": "other.example.com"}).headers["www-authenticate"]
    assert 'realm="https://registry.example.com/service/token"' in challenge


def test_a_token_for_a_repository_one_may_not_read_is_given_and_refused_later(server: DemoServer) -> None:
    given = token(server, "team/app/backend", basic("operator", "wrong"))
    refused = pull(server, bearer(given))
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="harbor"')


def test_tokens_end_by_themselves_or_when_told(server: DemoServer) -> None:
    good = bearer(token(server, "team/app/backend", OPERATOR))
    assert pull(server, good).status == 200
    server.tokens.expire()
    assert pull(server, good).status == 401
    server.tokens.lifetime = timedelta(0)
    assert pull(server, bearer(token(server, "team/app/backend", OPERATOR))).status == 401


def test_a_token_opens_only_its_own_repository(server: DemoServer) -> None:
    other = bearer(token(server, "library/hello", ROBOT))
    assert pull(server, other).status == 401
    assert ask(server, "/v2/library/hello/tags/list", other).json()["tags"] == ["1.0", "2.0", "latest"]


def test_a_changed_token_is_worth_nothing(server: DemoServer) -> None:
    good = token(server, "team/app/backend", OPERATOR)
    head, claims, signature = good.split(".")
    for bad in (f"{head}.{claims}x.{signature}", f"{head}.{claims}.", "x", "a.b.c"):
        assert pull(server, bearer(bad)).status == 401


def test_fetching_a_manifest_moves_its_pull_time_and_looking_at_it_does_not(server: DemoServer) -> None:
    path = "/api/v2.0/projects/team/repositories/app%252Fbackend"
    assert pull(server, ROBOT, method="HEAD").status == 200
    known = {"If-None-Match": pull(server, ROBOT, method="HEAD").headers["docker-content-digest"]}
    assert pull(server, {**ROBOT, **known}).status == 304
    assert ask(server, f"{path}/artifacts/1.0", ROBOT).json()["pull_time"].startswith("0001-")
    assert server.pulls == []
    assert pull(server, ROBOT).status == 200
    assert [each.repository for each in server.pulls] == ["team/app/backend"]
    assert not ask(server, f"{path}/artifacts/1.0", ROBOT).json()["pull_time"].startswith("0001-")
    assert ask(server, path, ROBOT).json()["pull_count"] == 1


def test_oci_manifests_must_be_named_in_the_accept_header(server: DemoServer) -> None:
    refused = ask(server, f"{BACKEND}/manifests/1.0", {"Accept": "*/*", **ROBOT})
    assert (refused.status, refused.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-9", LAYER[:10]), ("bytes=100-", LAYER[100:]), ("bytes=-5", LAYER[-5:])],
)
def test_blobs_are_served_in_parts(server: DemoServer, asked: str, expected: bytes) -> None:
    reply = layer(server, {"Range": asked})
    assert (reply.status, reply.body) == (206, expected)
    assert reply.headers["content-range"].endswith(f"/{len(LAYER)}")


def test_a_range_behind_the_end_is_refused(server: DemoServer) -> None:
    reply = layer(server, {"Range": f"bytes={len(LAYER)}-"})
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(LAYER)}")


def test_whole_blobs_arrive_unchanged(server: DemoServer) -> None:
    reply = layer(server)
    assert (reply.status, reply.body) == (200, LAYER)


def test_a_blob_is_found_only_in_repositories_that_use_it(server: DemoServer) -> None:
    config = "sha256:" + hashlib.sha256(b"").hexdigest()
    own = pull(server, ROBOT).json()["config"]["digest"]
    assert ask(server, f"{BACKEND}/blobs/{own}", ROBOT).status == 200
    assert ask(server, f"/v2/library/hello/blobs/{own}", ROBOT).code == "BLOB_UNKNOWN"
    assert ask(server, f"{BACKEND}/blobs/{config}", ROBOT).code == "BLOB_UNKNOWN"


def test_a_damaged_blob_keeps_its_name(server: DemoServer) -> None:
    digest = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    server.blobs.put_as(digest, b"damaged")
    assert layer(server).body == b"damaged"


def test_the_catalog_of_all_repositories_is_for_administrators(server: DemoServer) -> None:
    assert ask(server, "/v2/_catalog", ROBOT).status == 401
    assert ask(server, "/v2/_catalog", bearer(token(server, "library/hello", ROBOT))).status == 401


def test_the_registry_takes_no_pushes(server: DemoServer) -> None:
    refused = ask(server, f"{BACKEND}/manifests/2.0", OPERATOR, method="PUT")
    assert refused.status == 401
