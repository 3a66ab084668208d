"""Flaws that others published: a test each, here or where it stands already (tests/evil/test_rows.py)."""

from pathlib import Path

import pytest

from repositories.registries.failures import BadAnswerError, CannotPullError, NotTrustedError, RegistryError
from tcss.outbound import OutboundSession
from tcss.outbound_addresses import AddressFormError, parse_origin
from tcss.outbound_failures import TEXTS, OutboundError
from tests.evil.certificates import Maker
from tests.evil.world import LOOPBACK, SHORT, lister, puller
from tests.fakes.hostile_server import hostile_server, http

DIGEST = f"sha256:{0:064x}"


@pytest.mark.parametrize(
    "prefix", ["http://127.0.0.1:{other}", "http://127.0.0.2:{own}", "https://127.0.0.1:{own}"]
)
def test_v1_cve_2026_33540_a_realm_on_another_origin_gets_no_request(prefix: str) -> None:
    with hostile_server() as registry, hostile_server() as other:
        realm = prefix.format(own=registry.port, other=other.port)
        registry.answers["/v2/"] = http(401, WWW_Authenticate=f'Bearer realm="{realm}/service/token"')
        with pytest.raises(BadAnswerError, match="token service is on another host"):
            puller(registry.url).get_manifest("shop/web", DIGEST)
        assert other.connections == 0
        assert [asked for asked in registry.asked if "authorization" in asked.headers] == []


def test_v2_cve_2020_15157_a_layer_elsewhere_is_asked_for_without_credentials() -> None:
    with hostile_server() as registry, hostile_server() as store:
        store.answers["/blob"] = http(200, b"x")
        registry.answers["/service/token"] = http(200, b'{"token":"T0KEN"}')

        def answer(connection: object) -> None:
            realm = f'Bearer realm="{registry.url}/service/token"'
            known = "authorization" in registry.asked[-1].headers
            moved = http(307, Location=f"{store.url}/blob", Set_Cookie="sid=1")
            connection.sendall(moved if known else http(401, WWW_Authenticate=realm))  # type: ignore[attr-defined]

        registry.answers["/v2/"] = answer
        with pytest.raises(CannotPullError):
            puller(registry.url, tries=3).read_blob("shop/web", DIGEST, limit=100)
        assert store.asked
        for asked in store.asked:
            assert set(asked.headers) <= {"host", "user-agent", "accept-encoding", "accept", "connection"}


def test_v3_cve_2026_2376_the_second_hop_is_looked_at_like_the_first() -> None:
    with hostile_server() as registry, hostile_server() as store:
        registry.answers["/v2/"] = http(302, Location=f"{store.url}/hop")
        store.answers["/hop"] = http(302, Location="http://169.254.169.254/latest/meta-data/")
        with pytest.raises(NotTrustedError, match="REG_BLOCKED_ADDR"):
            puller(registry.url).read_blob("shop/web", DIGEST, limit=100)


def test_v4_cve_2026_85471_a_blocked_port_says_the_same_open_or_closed() -> None:
    def said(port: int) -> tuple[str, str, str]:
        with pytest.raises(RegistryError) as caught:
            list(lister(f"http://127.0.0.1:{port}", allowed_networks=()).list_projects())
        error = caught.value
        return error.code, error.reason, error.remedy

    with hostile_server(greeting=b"220 mail.internal ESMTP\r\n") as server:
        blocked_open = said(server.port)
        assert server.connections == 0
    assert said(server.port) == said(1) == blocked_open == ("REG_BLOCKED_ADDR", *TEXTS["REG_BLOCKED_ADDR"])


@pytest.mark.parametrize(
    "greeting", [b"220 CANARY ESMTP\r\n", b"HTTP/1.1 500 CANARY\r\nX: CANARY\r\n\r\nCANARY"]
)
def test_v4_cve_2020_13788_nothing_of_what_a_target_says_is_repeated(greeting: bytes) -> None:
    with hostile_server(greeting=greeting) as server, pytest.raises(RegistryError) as caught:
        list(lister(server.url).list_projects())
    assert "CANARY" not in f"{caught.value!r} {caught.value.reason} {caught.value.remedy}"


@pytest.mark.parametrize(
    "typed",
    ["http://github@127.0.0.1", "http://127.0.0.1#@harbor", "http://harbor\\@127.0.0.1", "http://har\tbor"],
)
def test_v5_cve_2026_44971_an_address_with_a_hidden_host_is_no_address(typed: str) -> None:
    with pytest.raises(AddressFormError):
        parse_origin(typed)


@pytest.mark.parametrize(
    "digest", ["sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "latest", f"{DIGEST}/../x"]
)
def test_v6_cve_2024_3727_a_digest_of_other_form_never_becomes_a_path(digest: str) -> None:
    with hostile_server() as server:
        with pytest.raises(CannotPullError, match="IMG_MALFORMED"):
            puller(server.url).get_manifest("shop/web", digest)
        assert server.connections == 0


def test_v7_cve_2021_41190_a_manifest_that_is_two_things_is_refused() -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    raw = f'{{"schemaVersion":2,"mediaType":"{kind}","config":{{}},"layers":[],"manifests":[]}}'.encode()
    with hostile_server({"/v2/": http(200, raw, Content_Type=kind)}) as server:
        client = puller(server.url)
        with pytest.raises(CannotPullError):
            client.get_manifest("shop/web", DIGEST)


def test_v12_cve_2024_35195_ticking_validation_again_validates_again(tmp_path: Path) -> None:
    certificate, key = Maker(tmp_path).self_signed()
    with hostile_server({"/": http(200, b"hello")}, certificate=(str(certificate), str(key))) as server:
        for _ in range(2):
            lax = OutboundSession(allowed_networks=LOOPBACK, verify=False)
            with lax.get(f"{server.url}/", limits=SHORT) as reply:
                assert reply.read(100) == b"hello"
            strict = OutboundSession(allowed_networks=LOOPBACK, verify=True)
            with (
                pytest.raises(OutboundError, match="REG_TLS_UNTRUSTED"),
                strict.get(f"{server.url}/", limits=SHORT),
            ):
                pass
