"""Sending recorded requests to the demo registry, and what of two answers is compared."""

from __future__ import annotations

import base64
import http.client
import json
import re
from typing import Any

from demo.server import DemoServer
from tests.demo.exchanges import Exchange, joined

Answers = list[tuple[Exchange, tuple[int, dict[str, str], bytes]]]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
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
    return "sid=" in headers.get("set-cookie", "")


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
        if exchange.name.endswith(("use it", "uses it")):
            return self._newest_token
        if exchange.name == "garbled token":
            return "garbled"
        found = re.match(r"/v2/(.+?)/(?:manifests|blobs|tags|referrers)/", exchange.path)
        other = found is None or exchange.name == "token of another repo"
        name = "library/hello" if other else found[1].replace("%2F", "/")
        scope = (
            "registry:catalog:*" if exchange.path.startswith("/v2/_catalog") else f"repository:{name}:pull"
        )
        path = f"/service/token?service=harbor-registry&scope={scope}"
        headers = {"Host": "registry", "Authorization": basic("admin:<admin password>")}
        return json.loads(self._ask("GET", path, headers)[2])["token"]

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self._connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, text in headers.items():
            self._connection.putheader(name, text)
        self._connection.endheaders()
        answer = self._connection.getresponse()
        return answer.status, joined(answer.getheaders()), answer.read()


def basic(pair: str) -> str:
    """A Basic header; the recordings write an empty password as a placeholder."""
    return "Basic " + base64.b64encode(pair.replace("<empty password>", "").encode()).decode()


def claims_of(token: str) -> dict[str, Any]:
    """The middle part of a token."""
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


def accesses(claims: dict[str, Any]) -> list[tuple[str, str, list[str]]] | None:
    """What a token allows; the order of actions is the server's mood."""
    if claims["access"] is None:
        return None
    return [(each["type"], each["name"], sorted(each["actions"])) for each in claims["access"]]


def other_statuses(answers: Answers) -> list[tuple[str, int, int]]:
    """Where the status is not the recorded one."""
    return [(each.label, each.status, got[0]) for each, got in answers if each.status != got[0]]


def other_headers(answers: Answers, name: str) -> list[tuple[str, str | None, str | None]]:
    """Where a header is not the recorded one; raises AssertionError when it was never recorded."""
    compared = [(each.label, each.headers.get(name), got[1].get(name)) for each, got in answers]
    assert any(recorded is not None for _label, recorded, _got in compared)
    return [each for each in compared if each[1] != each[2]]


def other_sessions(answers: Answers) -> list[str]:
    """Where a session cookie is set and was not, or is not and was."""
    return [each.label for each, got in answers if session(each.headers) != session(got[1])]


def other_lengths(answers: Answers) -> list[tuple[str, str | None, str | None]]:
    """Where a registry's good answer announces another length; raises AssertionError when there are none."""
    opened = [
        (each, got) for each, got in answers if each.path.startswith("/v2/") and each.status in (200, 206)
    ]
    assert len(opened) > 50
    return other_headers(opened, "content-length")


def other_tokens(answers: Answers) -> list[str]:
    """Where a token says something else about whom it is for and what it allows."""
    compared = [(each, claims_of(json.loads(got[2])["token"])) for each, got in answers if each.claims]
    assert len(compared) > 50
    return [each.label for each, claims in compared if _essence(each.claims) != _essence(claims)]


def _essence(claims: dict[str, Any] | None) -> tuple[Any, ...]:
    assert claims is not None
    return claims.keys(), claims.get("sub"), accesses(claims)
