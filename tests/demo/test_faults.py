"""Every way in which a test can let the demo registry go wrong."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo.blobs import BlobStore
from demo.exchange import Answer
from demo.faults import Fault, html_page
from demo.server import DemoServer, running
from tests.demo.small_registry import ROBOT, ask, bearer, content, token

PROJECTS = "/api/v2.0/projects"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    with running(tmp_path, content(BlobStore(tmp_path))) as server:
        yield server


def layer_path(server: DemoServer) -> str:
    """Where the sample images' layer is."""
    manifest = ask(server, "/v2/team/app/backend/manifests/1.0", {**ROBOT, "Accept": "*/*"})
    assert manifest.status == 404
    repository = server.catalog.repository("team/app/backend")
    assert repository is not None
    digest = json.loads(server.blobs.read(repository.artifacts[0].digest))["layers"][0]["digest"]
    return f"/v2/team/app/backend/blobs/{digest}"


def test_a_fault_strikes_as_often_as_it_says_and_then_is_over(server: DemoServer) -> None:
    server.faults.add(Fault(match=PROJECTS, skip=1, times=2, status=503))
    assert [ask(server, PROJECTS).status for _ in range(4)] == [200, 503, 503, 200]
    assert len(server.faults.used) == 2


def test_a_fault_strikes_only_what_it_matches(server: DemoServer) -> None:
    server.faults.add(Fault(match=r"^GET /api/v2\.0/projects\?page=2", times=None, status=500))
    assert ask(server, f"{PROJECTS}?page=1").status == 200
    assert ask(server, f"{PROJECTS}?page=2").status == 500
    assert ask(server, f"{PROJECTS}?page=2").status == 500
    server.faults.clear()
    assert ask(server, f"{PROJECTS}?page=2").status == 200


def test_a_rate_limit_names_its_time(server: DemoServer) -> None:
    server.faults.add(Fault(match=PROJECTS, status=429, headers={"Retry-After": "5"}))
    reply = ask(server, PROJECTS)
    assert (reply.status, reply.headers["retry-after"]) == (429, "5")


def test_a_web_page_comes_instead_of_json(server: DemoServer) -> None:
    server.faults.add(html_page(PROJECTS))
    reply = ask(server, PROJECTS)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html")
    assert reply.body.startswith(b"<html>")


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_is_cut_at_any_byte(server: DemoServer, reset: bool) -> None:
    path = layer_path(server)
    server.faults.add(Fault(match="/blobs/", cut_at=70_000, reset=reset))
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request("GET", path, headers=ROBOT)
    answer = connection.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as failure:
        answer.read()
    if not reset:
        assert isinstance(failure.value, http.client.IncompleteRead)
        assert len(failure.value.partial) == 70_000
    connection.close()
    assert ask(server, path, {**ROBOT, "Range": "bytes=70000-"}).status == 206


def test_a_json_body_is_cut_with_its_whole_length_announced(server: DemoServer) -> None:
    server.faults.add(Fault(match=PROJECTS, cut_at=10))
    with pytest.raises(http.client.IncompleteRead):
        ask(server, PROJECTS)


def test_corrupted_bytes_keep_their_number(server: DemoServer) -> None:
    path = layer_path(server)
    whole = ask(server, path, ROBOT).body
    server.faults.add(Fault(match="/blobs/", corrupt=True))
    corrupt = ask(server, path, ROBOT).body
    assert len(corrupt) == len(whole)
    assert sum(one != other for one, other in zip(corrupt, whole, strict=True)) == 1
    assert ask(server, path, ROBOT).body == whole


def test_an_answer_can_be_late_or_drip(server: DemoServer) -> None:
    server.faults.add(Fault(match=PROJECTS, delay=0.3))
    started = time.monotonic()
    ask(server, PROJECTS)
    assert time.monotonic() - started >= 0.3
    server.faults.add(Fault(match="/ping", drip=(1, 0.1)))
    started = time.monotonic()
    assert ask(server, "/api/v2.0/ping").body == b"Pong"
    assert time.monotonic() - started >= 0.3


def test_tokens_expire_in_the_middle(server: DemoServer) -> None:
    given = bearer(token(server, "team/app/backend", ROBOT))
    assert ask(server, "/v2/team/app/backend/tags/list", given).status == 200
    server.faults.add(Fault(match="tags/list", expire_tokens=True))
    assert ask(server, "/v2/team/app/backend/tags/list", given).status == 401
    again = bearer(token(server, "team/app/backend", ROBOT))
    assert ask(server, "/v2/team/app/backend/tags/list", again).status == 200


def test_raw_bytes_replace_the_whole_answer(server: DemoServer) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]\n"
    server.faults.add(Fault(match=PROJECTS, raw=raw))
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as client:
        client.sendall(f"GET {PROJECTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while piece := client.recv(1000):
            got += piece
    assert got == raw


def test_headers_can_be_taken_away_or_lie(server: DemoServer) -> None:
    server.faults.add(Fault(match="/v2/$", without_headers=("WWW-Authenticate",)))
    assert "www-authenticate" not in ask(server, "/v2/").headers
    server.faults.add(Fault(match=PROJECTS, headers={"X-Total-Count": "-1"}))
    assert ask(server, PROJECTS).headers["x-total-count"] == "-1"


def test_the_json_of_an_answer_can_be_rewritten(server: DemoServer) -> None:
    def empty(answer: Answer) -> Answer:
        return replace(answer, body=b"[]")

    server.faults.add(Fault(match=PROJECTS, change=empty))
    assert ask(server, PROJECTS).json() == []
    assert ask(server, PROJECTS).json() != []


def test_stopping_the_server_ends_connections_that_wait(tmp_path: Path) -> None:
    with running(tmp_path, content(BlobStore(tmp_path))) as server:
        server.faults.add(Fault(match="/ping", delay=60.0))
        client = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10)
        client.sendall(b"GET /api/v2.0/ping HTTP/1.1\r\nHost: x\r\n\r\n")
        idle = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10)
        idle.sendall(b"GET /api/v2.0/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
    started = time.monotonic()
    while idle.recv(1000):
        continue
    assert time.monotonic() - started < 5
    client.close()
    idle.close()


def test_a_failure_of_the_servers_own_code_does_not_pass_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_answer: Answer) -> Answer:
        raise ZeroDivisionError

    def ask_broken_server() -> None:
        with running(tmp_path, content(BlobStore(tmp_path))) as server:
            server.faults.add(Fault(match=PROJECTS, change=broken))
            with pytest.raises(http.client.RemoteDisconnected):
                ask(server, PROJECTS)

    with pytest.raises(ZeroDivisionError):
        ask_broken_server()
    assert "ZeroDivisionError" in capsys.readouterr().err
