"""The demo registry answers as a real Harbor 2.5.0 did, exchange by exchange."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from demo.server import DemoServer, running
from tests.demo.recorded_harbor2 import RECORDINGS, Exchange, fill, load, recorded_catalog

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
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CHANGING = frozenset({"token", "issued_at"})
HEADERS = (
    "x-total-count",
    "link",
    "www-authenticate",
    "docker-content-digest",
    "docker-distribution-api-version",
    "content-type",
    "content-range",
    "accept-ranges",
    "location",
    "transfer-encoding",
)


def why_left_out(exchange: Exchange) -> str | None:
    """The reason an exchange is not replayed, or None."""
    if exchange.via != "nginx" and "%2F" in exchange.path:
        return "asked Harbor's core without the proxy, and the demo registry always has one in front"
    if "_gorilla_csrf=" in exchange.sent.get("Cookie", ""):
        return "goes on with a login by form, which no client of ours does"
    if "held for 1.5 s" in exchange.name or exchange.name in ("and again", "list projects while locked"):
        return "depends on another request being held at that moment; has its own test"
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, exchange.path)), None)


def normal(value: Any) -> Any:
    """A JSON value without what two runs cannot share: the times and the tokens themselves."""
    if isinstance(value, dict):
        return {key: type(each).__name__ if key in CHANGING else normal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [normal(each) for each in value]
    return "a time" if isinstance(value, str) and TIME.fullmatch(value) else value


def shape(value: Any) -> Any:
    """The keys and types of a JSON value; of a list, the different shapes it holds."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return sorted({json.dumps(shape(each)) for each in value})
    return type(value).__name__


def session(headers: dict[str, str]) -> bool:
    """Whether an answer sets the session cookie."""
    return headers.get("set-cookie", "").startswith("sid=")


class Replay:
    """Sends recorded requests to the demo registry, with the accounts and tokens of this run."""

    def __init__(self, server: DemoServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        self._newest_token = ""

    def send(self, exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
        """The demo registry's answer to a recorded request."""
        headers = dict(exchange.sent)
        sent = headers.get("Authorization", "")
        if sent.startswith("Basic <base64 of "):
            headers["Authorization"] = basic(sent.removeprefix("Basic <base64 of ").removesuffix(">"))
        elif sent == "Bearer <token>":
            headers["Authorization"] = f"Bearer {self._token(exchange)}"
        answer = self._ask(exchange.method, exchange.path, headers)
        if exchange.path.startswith("/service/token") and answer[0] == 200:
            self._newest_token = json.loads(answer[2])["token"]
        return answer

    def _token(self, exchange: Exchange) -> str:
        if exchange.name == "use it":
            return self._newest_token
        if exchange.name == "garbled token":
            return "garbled"
        found = re.match(r"/v2/(.+?)/(?:manifests|blobs|tags|referrers)/", exchange.path)
        other = found is None or exchange.name == "token of another repo"
        name = "library/hello" if other else found[1].replace("%2F", "/")
        path = f"/service/token?service=harbor-registry&scope=repository:{name}:pull"
        headers = {"Host": "registry", "Authorization": basic("admin:<admin password>")}
        return json.loads(self._ask("GET", path, headers)[2])["token"]

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self._connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, text in headers.items():
            self._connection.putheader(name, text)
        self._connection.endheaders()
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()


def basic(pair: str) -> str:
    """A Basic header; the recordings write an empty password as a placeholder."""
    return "Basic " + base64.b64encode(pair.replace("<empty password>", "").encode()).decode()


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
def answers(
    exchanges: list[Exchange], server: DemoServer
) -> list[tuple[Exchange, tuple[int, dict[str, str], bytes]]]:
    """Every replayed exchange with the demo registry's answer."""
    replay = Replay(server)
    return [(each, replay.send(each)) for each in exchanges if why_left_out(each) is None]


Answers = list[tuple[Exchange, tuple[int, dict[str, str], bytes]]]


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
    assert not [(each.label, each.status, got[0]) for each, got in answers if each.status != got[0]]


@pytest.mark.parametrize("name", HEADERS)
def test_the_headers_a_client_reads_are_the_recorded_ones(answers: Answers, name: str) -> None:
    compared = [(each.label, each.headers.get(name), got[1].get(name)) for each, got in answers]
    assert not [each for each in compared if each[1] != each[2]]
    assert any(recorded is not None for _label, recorded, _got in compared)


def test_session_cookies_are_set_where_they_were_recorded(answers: Answers) -> None:
    assert not [each.label for each, got in answers if session(each.headers) != session(got[1])]


def test_registry_bodies_announce_the_recorded_length(answers: Answers) -> None:
    opened = [
        (each.label, each.headers.get("content-length"), got[1].get("content-length"))
        for each, got in answers
        if each.path.startswith("/v2/") and each.status in (200, 206)
    ]
    assert len(opened) > 100
    assert not [each for each in opened if each[1] != each[2]]


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
    compared = [(each, claims_of(json.loads(got[2])["token"])) for each, got in answers if each.claims]
    assert len(compared) > 100
    for each, claims in compared:
        assert each.claims is not None
        assert claims.keys() == each.claims.keys(), each.label
        assert claims.get("sub") == each.claims.get("sub"), each.label
        assert accesses(claims) == accesses(each.claims), each.label


def claims_of(token: str) -> dict[str, Any]:
    """The middle part of a token."""
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


def accesses(claims: dict[str, Any]) -> list[tuple[str, str, list[str]]] | None:
    """What a token allows; the order of actions is the server's mood."""
    if claims["access"] is None:
        return None
    return [(each["type"], each["name"], sorted(each["actions"])) for each in claims["access"]]
