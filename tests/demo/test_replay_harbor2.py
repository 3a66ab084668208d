"""The demo registry answers as a real Harbor 2.5.0 did, exchange by exchange."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from demo.server import DemoServer, running
from tests.demo.exchanges import Exchange, fill
from tests.demo.recorded_harbor2 import RECORDINGS, load, recorded_catalog
from tests.demo.replaying import (
    HEADERS,
    Answers,
    Replay,
    normal,
    other_headers,
    other_lengths,
    other_sessions,
    other_statuses,
    other_tokens,
    shape,
)

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the recorded answers of real servers (../shared) are not at hand"
)

GROUPS = (
    "01_probes",
    "02_auth",
    "03_projects",
    "04_repositories",
    "05_artifacts",
    "06_registry",
    "07_token",
    "08_errors",
    "10_session_csrf_cors",
    "16_empty_pages_and_base",
)
REPLAYED = 1137
LEFT_OUT = 108

NO_CLIENT_OF_OURS = "no client of ours asks this; the demo registry answers 404"
WRITTEN = "shows what a write left behind, and the demo registry is read-only"
REASONS = {
    r"/api/v2\.0/(systeminfo/|configurations|statistics|system/|robots/|labels/)": NO_CLIENT_OF_OURS,
    r"/api/v2\.0/users(\?|/search|/current/|/9999|$)": NO_CLIENT_OF_OURS,
    r"/api/v2\.0/projects/%2e%2e/users": NO_CLIENT_OF_OURS,
    r"/api/v2\.0/projects/team-private/(summary|_deletable|members|logs|metadatas|scanner|immutabletagrules"
    r"|robots|webhook|preheat)": NO_CLIENT_OF_OURS,
    r"/repositories/copied": WRITTEN,
}
TIES = re.compile(r"sort=-?(pull_count|pull_time|size)\b|/multi-oci/artifacts\?q=base")
"""Rows with the same value in the column they are sorted by, where the database chose the order, and rows
recorded on two installations whose push times cannot be compared: here the shapes are compared."""


def why_left_out(exchange: Exchange) -> str | None:
    """The reason an exchange is not replayed, or None."""
    if exchange.via != "nginx" and "%2F" in exchange.path:
        return "asked Harbor's core without the proxy, and the demo registry always has one in front"
    if "_gorilla_csrf=" in exchange.sent.get("Cookie", ""):
        return "goes on with a login by form, which no client of ours does"
    if "held for 1.5 s" in exchange.name or exchange.name in ("and again", "list projects while locked"):
        return "depends on another request being held at that moment; has its own test"
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, exchange.path)), None)


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    """All reading exchanges, in their order."""
    return [each for group in GROUPS for each in load(group) if each.method in ("GET", "HEAD")]


@pytest.fixture(scope="module")
def server(exchanges: list[Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo registry with the content of the recorded server."""
    with running(tmp_path_factory.mktemp("registry"), recorded_catalog(exchanges)) as server:
        server.external_url = "http://127.0.0.1:18200"
        fill(server.blobs, exchanges)
        yield server


@pytest.fixture(scope="module")
def answers(exchanges: list[Exchange], server: DemoServer) -> Answers:
    """Every replayed exchange with the demo registry's answer."""
    replay = Replay(server)
    return [(each, replay.send(each)) for each in exchanges if why_left_out(each) is None]


def test_nearly_every_recorded_reading_exchange_is_replayed(
    exchanges: list[Exchange], answers: Answers
) -> None:
    left_out = Counter(why_left_out(each) for each in exchanges)
    assert len(answers) == left_out.pop(None) == REPLAYED
    assert left_out.total() == LEFT_OUT
    assert len(left_out) == 5


def test_what_no_client_of_ours_asks_is_not_there(exchanges: list[Exchange], server: DemoServer) -> None:
    replay = Replay(server)
    left_out = [each for each in exchanges if why_left_out(each) == NO_CLIENT_OF_OURS]
    assert [replay.send(each)[0] for each in left_out] == [404] * len(left_out)


def test_every_status_is_the_recorded_one(answers: Answers) -> None:
    assert not other_statuses(answers)


@pytest.mark.parametrize("name", HEADERS)
def test_the_headers_a_client_reads_are_the_recorded_ones(answers: Answers, name: str) -> None:
    assert not other_headers(answers, name)


def test_session_cookies_are_set_where_they_were_recorded(answers: Answers) -> None:
    assert not other_sessions(answers)


def test_registry_bodies_announce_the_recorded_length(answers: Answers) -> None:
    assert not other_lengths(answers)


def test_json_bodies_say_what_was_recorded(answers: Answers) -> None:
    different, compared = [], 0
    for each, got in answers:
        if "json" not in each.headers.get("content-type", "") or not each.body:
            continue
        compared += 1
        reduce = shape if TIES.search(each.path) else normal
        if reduce(each.json()) != reduce(json.loads(got[2])):
            different.append((each.label, each.body[:300], got[2][:300]))
    assert not different
    assert compared == 977


def test_other_bodies_are_the_recorded_bytes(answers: Answers) -> None:
    compared = [
        (each, got[2])
        for each, got in answers
        if each.body
        and "json" not in each.headers["content-type"]
        and "html" not in each.headers["content-type"]
    ]
    assert not [each.label for each, body in compared if each.body != body]
    assert len(compared) > 10


def test_tokens_allow_what_the_recorded_ones_allowed(answers: Answers) -> None:
    assert not other_tokens(answers)
