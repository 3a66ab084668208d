"""The demo registry's API under a test's hands: changing content, what is listed, sessions and logins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.blobs import BlobStore
from demo.catalog import Accessory, Project, Repository, Tag
from demo.server import DemoServer, running
from tests.demo.small_registry import OPERATOR, ROBOT, Reply, ask, basic, content, image

ARTIFACTS = "/api/v2.0/projects/library/repositories/hello/artifacts"
CURRENT = "/api/v2.0/users/current"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    with running(tmp_path, content(BlobStore(tmp_path))) as server:
        yield server


def tags_of(reply: Reply) -> list[list[str]]:
    """The tag names of each listed artifact."""
    return [[tag["name"] for tag in each["tags"] or ()] for each in reply.json()]


def test_listens_on_the_loopback_address_only(server: DemoServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_pushed_tag_appears_and_a_deleted_one_goes_between_two_requests(server: DemoServer) -> None:
    pushed = image(server.blobs, "3.0", word="third", day=2)
    server.catalog = server.catalog.with_artifact("library", "hello", pushed)
    assert tags_of(ask(server, ARTIFACTS)) == [["3.0"], ["2.0"], ["1.0", "latest"]]
    server.catalog = server.catalog.without_tag("library", "hello", "3.0")
    assert tags_of(ask(server, ARTIFACTS)) == [[], ["2.0"], ["1.0", "latest"]]
    server.catalog = server.catalog.without_artifact("library", "hello", pushed.digest)
    assert tags_of(ask(server, ARTIFACTS)) == [["2.0"], ["1.0", "latest"]]


def test_a_moved_tag_names_the_new_artifact_alone(server: DemoServer) -> None:
    repository = server.catalog.repository("library/hello")
    assert repository is not None
    newer = repository.find("2.0")
    assert newer is not None
    moved = Tag("latest", datetime(2024, 6, 1, tzinfo=UTC))
    server.catalog = server.catalog.with_tag("library", "hello", moved, newer.digest)
    assert tags_of(ask(server, ARTIFACTS)) == [["latest", "2.0"], ["1.0"]]
    assert ask(server, f"{ARTIFACTS}/latest").json()["digest"] == newer.digest


def test_new_repositories_and_projects_are_served_and_forgotten_ones_are_not(server: DemoServer) -> None:
    catalog = server.catalog.with_project(Project("fresh", public=True))
    server.catalog = catalog.with_repository("fresh", Repository("one"))
    assert ask(server, "/api/v2.0/projects/fresh/repositories").json()[0]["name"] == "fresh/one"
    server.catalog = server.catalog.without_repository("fresh", "one")
    assert ask(server, "/api/v2.0/projects/fresh/repositories").json() == []
    server.catalog = server.catalog.without_project("fresh")
    assert ask(server, "/api/v2.0/projects/fresh/repositories", OPERATOR).status == 403


def test_a_change_of_what_is_not_there_is_refused(server: DemoServer) -> None:
    with pytest.raises(LookupError):
        server.catalog.with_tag("library", "hello", Tag("x"), "sha256:" + "0" * 64)
    with pytest.raises(LookupError):
        server.catalog.with_repository("nowhere", Repository("x"))


def test_children_of_an_index_are_listed_on_demand_only(server: DemoServer) -> None:
    path = "/api/v2.0/projects/library/repositories/multi/artifacts"
    assert [each["references"] is not None for each in ask(server, path).json()] == [True]
    child = ask(server, path).json()[0]["references"][0]["child_digest"]
    assert ask(server, f"{path}/{child}").json()["digest"] == child
    assert len(ask(server, f"{path}?q=base%3D%2A").json()) == 2


def test_an_accessory_is_counted_and_takes_a_place_but_is_not_shown(server: DemoServer) -> None:
    signature = image(server.blobs, "sha256-x.sig", word="signature", day=5)
    subject = server.catalog.projects[0].repositories[0].artifacts[0]
    attached = Accessory(signature.digest, "signature.cosign", signature.size)
    catalog = server.catalog.with_artifact("library", "hello", signature)
    server.catalog = catalog.with_artifact("library", "hello", replace(subject, accessories=(attached,)))
    first = ask(server, f"{ARTIFACTS}?page_size=1&with_accessory=true")
    assert (first.json(), first.headers["x-total-count"]) == ([], "3")
    shown = ask(server, f"{ARTIFACTS}?with_accessory=true").json()
    assert len(shown) == 2
    assert shown[1]["accessories"][0]["type"] == "signature.cosign"


def test_a_nested_name_needs_two_encodings(server: DemoServer) -> None:
    base = "/api/v2.0/projects/team/repositories"
    assert ask(server, f"{base}/app%252Fbackend/artifacts/1.0", OPERATOR).status == 200
    assert ask(server, f"{base}/app%2Fbackend/artifacts/1.0", OPERATOR).status == 404


def test_a_page_larger_than_a_hundred_is_refused(server: DemoServer) -> None:
    reply = ask(server, f"{ARTIFACTS}?page_size=101")
    assert (reply.status, reply.code) == (422, "UNPROCESSABLE_ENTITY")


def test_a_wrong_password_lists_public_projects_and_fails_where_identity_is_asked(server: DemoServer) -> None:
    wrong = basic("operator", "wrong")
    names = [each["name"] for each in ask(server, "/api/v2.0/projects", wrong).json()]
    assert names == ["library"]
    assert ask(server, CURRENT, wrong).status == 401
    assert ask(server, CURRENT, OPERATOR).json()["username"] == "operator"
    assert ask(server, CURRENT, ROBOT).status == 412


def test_an_expired_robot_is_a_stranger(server: DemoServer) -> None:
    assert ask(server, CURRENT, basic("robot$old", "secret")).status == 401


def test_passwords_are_compared_byte_for_byte(server: DemoServer) -> None:
    account = server.catalog.account("operator")
    assert account is not None
    server.catalog = server.catalog.with_account(replace(account, password='p:"\\ %0a é 密'))
    assert ask(server, CURRENT, basic("operator", 'p:"\\ %0a é 密')).status == 200
    assert ask(server, CURRENT, OPERATOR).status == 401


def test_after_a_wrong_password_the_right_one_is_refused_for_a_while(server: DemoServer) -> None:
    server.logins.penalty = 30.0
    wrong = threading.Thread(target=ask, args=(server, CURRENT, basic("operator", "wrong")))
    wrong.start()
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=10)
        while not server.logins.locked("operator") and datetime.now(UTC) < deadline:
            wrong.join(0.01)
        assert ask(server, CURRENT, OPERATOR).status == 401
        assert ask(server, CURRENT, ROBOT).status == 412
    finally:
        server.logins.stopped.set()
        wrong.join()


def test_a_client_that_keeps_the_session_cookie_is_asked_for_a_csrf_token(server: DemoServer) -> None:
    first = ask(server, "/api/v2.0/systeminfo")
    cookie = first.headers["set-cookie"].partition(";")[0]
    second = ask(server, "/api/v2.0/systeminfo", {"Cookie": cookie})
    assert second.headers["set-cookie"].startswith("_gorilla_csrf=")
    refused = ask(server, "/api/v2.0/projects", {"Cookie": cookie, **OPERATOR}, method="POST")
    assert (refused.status, refused.json()["errors"][0]["message"]) == (403, "CSRF token invalid")
    both = f"{cookie}; {second.headers['set-cookie'].partition(';')[0]}"
    token = {"X-Harbor-CSRF-Token": second.headers["x-harbor-csrf-token"]}
    allowed = ask(server, "/api/v2.0/projects", {"Cookie": both, **OPERATOR, **token}, method="POST")
    assert allowed.status == 405


def test_every_request_is_in_the_log_and_unknown_ones_are_told_apart(server: DemoServer) -> None:
    ask(server, f"{ARTIFACTS}?page=1", {"X-Mark": "here"})
    ask(server, "/api/v2.0/nothing")
    ask(server, "/api/v2.0/projects/library", method="DELETE")
    ask(server, "/some/portal/page")
    seen = [(each.method, each.path, each.status) for each in server.requests]
    assert seen == [
        ("GET", f"{ARTIFACTS}?page=1", 200),
        ("GET", "/api/v2.0/nothing", 404),
        ("DELETE", "/api/v2.0/projects/library", 405),
        ("GET", "/some/portal/page", 200),
    ]
    assert server.requests[0].headers["x-mark"] == "here"
    assert server.unexpected == [
        "GET /api/v2.0/nothing",
        "DELETE /api/v2.0/projects/library",
        "GET /some/portal/page",
    ]


def test_build_history_is_offered_for_single_images_only(server: DemoServer) -> None:
    history = ask(server, f"{ARTIFACTS}/1.0/additions/build_history")
    assert history.json() == [{"created_by": "COPY word /"}]
    multi = "/api/v2.0/projects/library/repositories/multi/artifacts/1.0/additions/build_history"
    assert ask(server, multi).status == 400


def test_several_clients_are_served_at_once(server: DemoServer) -> None:
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(ask(server, ARTIFACTS))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.status for each in replies] == [200] * 20
    assert len({each.body for each in replies}) == 1
