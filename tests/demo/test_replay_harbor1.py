"""The demo registry's older face answers as a real Harbor 1.10.19 did, exchange by exchange."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from demo.schema1 import SIGNED_MANIFEST
from demo.server import DemoServer, running
from tests.demo.exchanges import Exchange
from tests.demo.recorded_harbor1 import RECORDINGS, fill_all, load, recorded_catalog
from tests.demo.replaying import (
    HEADERS,
    Answers,
    Replay,
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
    "05_tags",
    "06_registry",
    "07_token",
    "08_errors",
    "10_session_csrf_cors",
)
REPLAYED = 638
LEFT_OUT = 100

NO_CLIENT_OF_OURS = "no client of ours asks this; the demo registry answers 404"
WRITTEN = "shows what a write left behind, and the demo registry is read-only"
PROXIED = "asked Harbor's core without the proxy, and the demo registry always has one in front"
BY_FORM = "goes on with a login by form, which no client of ours does"
HELD = "depends on another request being held at that moment; the locking has its own test"
REASONS = {
    r"/api/(systeminfo/|configurations|statistics|system/|labels/)": NO_CLIENT_OF_OURS,
    r"/api/users(\?|/search|/9999)|/%2e%2e/users": NO_CLIENT_OF_OURS,
    r"/api/projects/2/": NO_CLIENT_OF_OURS,
    r"/api/repositories/(top|.+/(signatures|labels|scan)$)": NO_CLIENT_OF_OURS,
    r"/list-try/|q=try": WRITTEN,
}
JSON_BODY = re.compile(rb'[{["]|null')
LABELLED = re.compile(r"/repositories/library/hello/tags(/1\.0)?$")
"""Was labelled in the middle of the recording, on one tag of two that share an image: the catalog has labels
on images. That labels are shown has its own test."""


def why_left_out(exchange: Exchange) -> str | None:
    """The reason an exchange is not replayed, or None."""
    if exchange.via != "nginx" and "%2F" in exchange.path:
        return PROXIED
    if exchange.name in ("current with session", "session + wrong basic", "current after logout", "logout"):
        return BY_FORM
    if "held for 1.5 s" in exchange.name or exchange.name == "list projects while locked":
        return HELD
    if exchange.name in ("tag with label", "retagged"):
        return WRITTEN
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, exchange.path)), None)


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    """All reading exchanges, in their order."""
    return [each for group in GROUPS for each in load(group) if each.method in ("GET", "HEAD")]


@pytest.fixture(scope="module")
def server(exchanges: list[Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo registry with the content of the recorded server."""
    place = tmp_path_factory.mktemp("registry")
    with running(place, recorded_catalog(exchanges), face="harbor1") as server:
        server.external_url = "http://127.0.0.1:18100"
        fill_all(server.blobs, exchanges)
        yield server


@pytest.fixture(scope="module")
def answers(exchanges: list[Exchange], server: DemoServer) -> Answers:
    """Every replayed exchange with the demo registry's answer."""
    replay = Replay(server)
    return [(each, replay.send(each)) for each in exchanges if why_left_out(each) is None]


def comparable(value: Any) -> Any:
    """A JSON value without what two runs cannot share: tokens, signatures, and rows in no order.

    The catalog does not know when an account or an allowlist was changed either.
    """
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: comparable(each) for key, each in value.items()}
    for key in ("token", "issued_at", "signatures"):
        if key in made:
            made[key] = shape(made[key])
    for key, by in (("components", lambda each: each["name"]), ("tags", str)):
        if made.get(key):
            made[key] = sorted(made[key], key=by)
    if "password_version" in made:
        made.pop("update_time")
    if "cve_whitelist" in made:
        made["cve_whitelist"] = shape(made["cve_whitelist"])
    return made


def unlabelled(value: Any) -> Any:
    """Tags, or one tag, without the labels on them."""
    if isinstance(value, list):
        return [unlabelled(each) for each in value]
    return {key: each for key, each in value.items() if key != "labels"}


def test_nearly_every_recorded_reading_exchange_is_replayed(
    exchanges: list[Exchange], answers: Answers
) -> None:
    left_out = Counter(why_left_out(each) for each in exchanges)
    assert len(answers) == left_out.pop(None) == REPLAYED
    assert left_out.total() == LEFT_OUT
    assert set(left_out) == {NO_CLIENT_OF_OURS, WRITTEN, PROXIED, BY_FORM, HELD}


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


def test_good_answers_set_the_token_against_forgery_where_it_was_recorded(answers: Answers) -> None:
    good = [
        (each.label, "_xsrf=" in each.headers.get("set-cookie", ""), "_xsrf=" in got[1].get("set-cookie", ""))
        for each, got in answers
        if each.status == 200
    ]
    assert not [each for each in good if each[1] != each[2]]


def test_registry_bodies_announce_the_recorded_length(answers: Answers) -> None:
    assert not other_lengths(answers)


def test_json_bodies_say_what_was_recorded(answers: Answers) -> None:
    different, compared = [], 0
    for each, got in answers:
        if (
            not each.body.startswith((b"{", b"[", b'"', b"null"))
            or each.headers["content-type"] == SIGNED_MANIFEST
        ):
            continue
        compared += 1
        recorded, told = comparable(each.json()), comparable(json.loads(got[2]))
        if LABELLED.search(each.path):
            recorded, told = unlabelled(recorded), unlabelled(told)
        if recorded != told:
            different.append((each.label, each.body[:300], got[2][:300]))
    assert not different
    assert compared == 531


def test_manifests_in_the_first_format_differ_in_their_signature_only(answers: Answers) -> None:
    compared = [
        (comparable(each.json()), comparable(json.loads(got[2])))
        for each, got in answers
        if each.headers.get("content-type") == SIGNED_MANIFEST and each.body
    ]
    assert compared
    assert not [each for each in compared if each[0] != each[1]]


def test_errors_and_blobs_are_the_recorded_bytes(answers: Answers) -> None:
    compared = [
        (each, got[2])
        for each, got in answers
        if each.body and each.headers["content-type"].startswith(("text/plain", "application/octet"))
    ]
    assert not [(each.label, each.body, body) for each, body in compared if each.body != body]
    assert len(compared) > 100


def test_tokens_allow_what_the_recorded_ones_allowed(answers: Answers) -> None:
    assert not other_tokens(answers)
