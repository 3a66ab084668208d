"""Rows C-A: logins, tokens and status codes of an evil registry; what was known stays."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from demo.evil import Evil, Scenario
from demo.evil_scenarios import ANSWERS, named
from demo.faults import Fault
from repositories.models import Registry, Repository
from repositories.registries.failures import AccessRefusedError
from tcss.lifecycle import State
from tcss.outbound_sockets import Limits
from tests.evil.world import Known, kept, marked, puller, update
from tests.fakes.hostile_server import hostile_server, http

NO_WAY = ("REG_PROTOCOL", "a way to log in that this console does not speak")
NO_TOKEN = ("REG_PROTOCOL", "gave no token")
ELSEWHERE = ("REG_PROTOCOL", "token service is on another host, port or scheme")
LATER = ("REG_RATE", "asks for fewer requests")
# What a data update says, by the scenario.
EXPECTED = {
    "C-A1-no-challenge": NO_WAY,
    "C-A1-digest": NO_WAY,
    "C-A1-ntlm": NO_WAY,
    "C-A1-open-quotes": ("REG_PROTOCOL", "does not say where its token service is"),
    "C-A2-refused-for-ever": ("REG_AUTH", "refuses this account"),
    "C-A3-no-token": NO_TOKEN,
    "C-A3-huge-token": ("REG_PROTOCOL", "larger than such an answer may be"),
    "C-A3-token-of-two-lines": NO_TOKEN,
    "C-A5-other-port": ELSEWHERE,
    "C-A5-other-scheme": ELSEWHERE,
    "C-A5-metadata": ELSEWHERE,
    "C-A5-user-in-front": ELSEWHERE,
    "C-A6-one-forbidden": ("REG_FORBIDDEN", "may not do this"),
    "C-A7-project-gone": ("REG_NOT_FOUND", "does not have what was asked for"),
    "C-A7-manifest-gone": ("REG_NOT_FOUND", "does not have what was asked for"),
    "C-A8-retry-after-3600": LATER,
    "C-A8-retry-after-past": LATER,
    "C-A8-retry-after-garbage": LATER,
    "C-A8-retry-after-absent": LATER,
    "C-A9-flapping": ("", ""),
    "C-A14-single-sign-on": ("REG_PROTOCOL", "sends us to another address"),
    "C-A14-login-page": ("REG_PROTOCOL", "a web page, not the registry's API"),
    "C-A14-maintenance": ("REG_5XX", "reports a fault of its own"),
}
MANIFEST = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize("scenario", ANSWERS, ids=lambda scenario: scenario.title)
def test_a_refusal_has_its_sentence_and_costs_nothing_that_was_known(
    evil: Evil, registry: Registry, before: Known, scenario: Scenario
) -> None:
    code, words = EXPECTED[scenario.title]
    # Nothing listens at the first port there is.
    evil.lay(scenario, elsewhere="http://127.0.0.1:1")
    sync = update(registry)
    state = State.SUCCEEDED if not code else State.QUEUED if code == "REG_RATE" else State.INCOMPLETE
    assert (sync.state, sync.error_code) == (state, code)
    assert words in sync.error_reason
    assert kept(before)
    assert marked() == set()


def test_every_scenario_of_refusals_has_its_expectation() -> None:
    assert set(EXPECTED) == {scenario.title for scenario in ANSWERS}


@pytest.mark.parametrize(
    "offer",
    [
        'Digest realm="r", nonce="n", Basic realm="r"',
        "Negotiate, Basic",
        'Basic realm="r", charset="UTF-8"',
    ],
)
def test_c_a1_basic_is_found_among_what_is_offered(offer: str) -> None:
    digest = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
    with hostile_server() as server:

        def answer(connection: object) -> None:
            asked = "authorization" in server.asked[-1].headers
            good = http(200, MANIFEST, Content_Type=INDEX)
            connection.sendall(good if asked else http(401, WWW_Authenticate=offer))  # type: ignore[attr-defined]

        server.answers["/v2/"] = answer
        assert puller(server.url, tries=3).get_manifest("shop/web", digest).digest == digest
        assert server.asked[-1].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("life", ["0", "-1", "1000000000000", '"300"'])
def test_c_a3_a_senseless_life_of_a_token_does_no_harm(life: str) -> None:
    digest = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
    with hostile_server() as server:
        realm = f'Bearer realm="{server.url}/service/token",service="s"'
        token = f'{{"token":"T","expires_in":{life},"issued_at":"2999-01-01T00:00:00Z"}}'.encode()

        def answer(connection: object) -> None:
            asked = "authorization" in server.asked[-1].headers
            good = http(200, MANIFEST, Content_Type=INDEX)
            connection.sendall(good if asked else http(401, WWW_Authenticate=realm))  # type: ignore[attr-defined]

        server.answers.update({"/v2/": answer, "/service/token": http(200, token)})
        client = puller(server.url, tries=3)
        for _ in range(3):
            client.get_manifest("shop/web", digest)
        assert sum(target.startswith("/service/token") for target in server.targets()) == 1


def test_c_a4_a_token_that_ends_within_a_blob_is_renewed_and_the_blob_goes_on(evil: Evil) -> None:
    artifact = evil.server.catalog.repository("shop/web").find("latest")  # type: ignore[union-attr]
    assert artifact is not None
    client = puller(evil.server.url, limits=Limits(), tries=3)
    layer = max(client.get_manifest("shop/web", artifact.digest).layers, key=lambda each: each.size)
    evil.server.faults.add(Fault(match="/blobs/", cut_at=layer.size // 2))
    evil.server.faults.add(Fault(match="/blobs/", expire_tokens=True))
    with client.get_blob("shop/web", layer.digest, layer.size) as chunks:
        content = b"".join(chunks)
    assert "sha256:" + hashlib.sha256(content).hexdigest() == layer.digest
    paths = [seen.path for seen in evil.server.requests]
    assert sum(path.startswith("/service/token") for path in paths) == 2


def test_c_a6_the_forbidden_repository_is_named_and_the_others_are_new(
    evil: Evil, registry: Registry
) -> None:
    evil.lay(named("C-A6")[0])
    update(registry)
    assert Repository.objects.get(name="shop/web").error_code == "REG_FORBIDDEN"
    assert not Repository.objects.exclude(name="shop/web").exclude(error_code="").exists()


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("3600", 14.0, 16.0), ("past", 0.0, 1.0), ("garbage", 0.0, 1.0), ("absent", 0.0, 1.0)],
)
def test_c_a8_a_wish_to_wait_is_heard_up_to_a_quarter_of_an_hour(
    evil: Evil, registry: Registry, name: str, least: float, most: float
) -> None:
    evil.lay(named(f"C-A8-retry-after-{name}")[0])
    now = datetime.now(UTC)
    sync = update(registry)
    assert sync.available_at is None or sync.available_at - now < timedelta(minutes=most)
    if least:
        assert sync.available_at is not None
        assert sync.available_at - now > timedelta(minutes=least)


def test_c_a11_name_and_password_arrive_byte_for_byte() -> None:
    username, password = "robot$proj+name", 'p:"\\ %0a é 密'
    with hostile_server() as server:
        server.answers["/v2/"] = http(401, WWW_Authenticate=f'Bearer realm="{server.url}/service/token"')
        server.answers["/service/token"] = http(401)
        client = puller(server.url, username=username, password=lambda: password)
        with pytest.raises(AccessRefusedError):
            client.get_manifest("shop/web", f"sha256:{0:064x}")
        sent = server.asked[-1].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"{username}:{password}"


def test_c_a12_a_project_that_the_account_no_longer_sees_is_marked_and_kept(
    evil: Evil, registry: Registry, before: Known
) -> None:
    evil.server.catalog = evil.server.catalog.without_project("payments")
    update(registry)
    assert kept(before)
    assert marked()
    assert all(name.startswith("payments/") for name in marked())
