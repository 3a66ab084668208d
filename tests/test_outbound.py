"""The one way out: which addresses it takes, what it sends, what it believes, and when it gives up."""

import gzip
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tcss.outbound import OutboundSession, tls_context
from tcss.outbound_addresses import AddressFormError, is_allowed, origin_of, parse_origin
from tcss.outbound_failures import TEXTS, OutboundError
from tcss.outbound_sockets import Limits
from tests.fakes.certificates import Authority, make_authority
from tests.fakes.hostile_server import HostileServer, hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SHORT = Limits(connect=1.0, read=0.6, total=1.5, minimum_rate=10_000, rate_window=30.0)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def fetch(url: str, *, limit: int = 2**20, limits: Limits = SHORT, **session: Any) -> tuple[int, bytes]:
    outbound = OutboundSession(**{"allowed_networks": LOOPBACK, **session})
    try:
        with outbound.get(url, limits=limits) as reply:
            return reply.status, reply.read(limit)
    finally:
        outbound.close()


def code_of(url: str, **fields: Any) -> str:
    with pytest.raises(OutboundError) as caught:
        fetch(url, **fields)
    assert caught.value.reason
    assert caught.value.remedy
    return caught.value.code


@pytest.mark.parametrize(
    ("typed", "origin"),
    [
        ("https://harbor.example.org", "https://harbor.example.org"),
        ("  https://harbor.example.org  ", "https://harbor.example.org"),
        ("HTTPS://Harbor.Example.ORG/", "https://harbor.example.org"),
        ("https://harbor.example.org:443", "https://harbor.example.org"),
        ("https://harbor.example.org:8443/", "https://harbor.example.org:8443"),
        ("http://harbor:80", "http://harbor"),
        ("http://192.0.2.7:8080", "http://192.0.2.7:8080"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
    ],
)
def test_an_address_is_brought_into_its_one_form(typed: str, origin: str) -> None:
    assert str(parse_origin(typed)) == origin


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        "harbor.example.org",
        "//harbor.example.org",
        "ftp://harbor.example.org",
        "file:///etc/passwd",
        "gopher://harbor.example.org",
        "javascript:alert(1)",
        "https://",
        "https:///",
        "https://:8443",
        "http://harbor@127.0.0.1/",
        "http://harbor:secret@127.0.0.1",
        "http://127.0.0.1#@harbor",
        "http://127.0.0.1?@harbor",
        "http://127.0.0.1\\@harbor",
        "http://har\tbor",
        "http://har\nbor",
        "http://har bor",
        "http://harbor\x00.example",
        "http://harbor.example.org.",
        "http://-harbor.example.org",
        "http://harbor..example.org",
        f"http://{'a' * 300}",
        f"http://{'a.' * 130}org",
        "http://h\u0430rbor.example",
        "http://①②⑦.⓪.⓪.①",
        "http://harbor:0",
        "http://harbor:99999",
        "http://harbor:",
        "http://harbor:80:80",
        "http://harbor:８０",
        "http://harbor:+80",
        "https://harbor.example.org/harbor/projects",
        "https://harbor.example.org/v2/",
        "https://harbor.example.org/?a=b",
        "https://harbor.example.org/#a",
        "http://0",
        "http://127.1",
        "http://0x7f.1",
        "http://0x7f000001",
        "http://2130706433",
        "http://0177.0.0.1",
        "http://127.0.0.1.5",
        "http://256.1.1.1",
        "http://[::1",
        "http://[::1]x",
        "http://[fe80::1%25eth0]",
        "http://[nonsense]",
        "http://%31%32%37.0.0.1",
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_with_what_to_type(typed: str) -> None:
    with pytest.raises(AddressFormError) as caught:
        parse_origin(typed)
    assert str(caught.value).endswith((".", "projects", "8443", "v2/", "example.org", "127.0.0.1"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 - not bound to
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.0.23",
        "192.0.0.8",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.5",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "2001::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "ff02::1",
        "100::1",
    ],
)
def test_what_is_not_public_is_blocked(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_public_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), ())


def test_the_installer_allows_private_networks_but_never_metadata() -> None:
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for address in ("10.0.0.1", "127.0.0.1", "::1", "100.64.0.1", "fc00::1", "::ffff:10.0.0.1"):
        assert is_allowed(ipaddress.ip_address(address), everything)
    for address in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1", "224.0.0.1", "::"):
        assert not is_allowed(ipaddress.ip_address(address), everything)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0"]
)
def test_a_name_of_this_machine_gets_no_connection(server: HostileServer, host: str) -> None:
    assert code_of(f"http://{host}:{server.port}/", allowed_networks=()) == "REG_BLOCKED_ADDR"
    assert server.connections == 0


def answers_of(*addresses: str) -> Callable[..., list[Any]]:
    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


def test_one_bad_address_among_good_ones_blocks_the_name(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers_of("127.0.0.1", "10.0.0.1"))
    assert code_of(f"http://harbor.test:{server.port}/") == "REG_BLOCKED_ADDR"
    assert server.connections == 0


def test_the_address_that_was_checked_is_the_one_that_is_connected(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = http(200, b"hello")
    asked: list[str] = []
    rebinding = iter([answers_of("127.0.0.1"), answers_of("169.254.169.254")])

    def getaddrinfo(host: str, port: int, *rest: object, **fields: object) -> list[Any]:
        asked.append(host)
        return next(rebinding)(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert fetch(f"http://harbor.test:{server.port}/") == (200, b"hello")
    assert asked == ["harbor.test"]
    assert server.asked[0].headers["host"] == f"harbor.test:{server.port}"
    assert code_of(f"http://harbor.test:{server.port}/") == "REG_BLOCKED_ADDR"


def test_proxies_and_netrc_of_the_environment_are_ignored(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.answers["/"] = http(200, b"hello")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password stolen\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    assert fetch(f"{server.url}/") == (200, b"hello")
    assert "authorization" not in server.asked[0].headers


def test_cookies_are_not_kept(server: HostileServer) -> None:
    server.answers["/"] = http(200, b"hello", Set_Cookie="sid=1; Path=/")
    session = OutboundSession(allowed_networks=LOOPBACK)
    for _ in range(2):
        with session.get(f"{server.url}/", limits=SHORT) as reply:
            reply.read(100)
    assert server.connections == 1
    assert all("cookie" not in asked.headers for asked in server.asked)


def test_a_redirect_is_not_followed_and_its_body_not_unpacked(server: HostileServer) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    server.answers["/a"] = http(302, bomb, Location=f"{server.url}/b", Content_Encoding="gzip")
    session = OutboundSession(allowed_networks=LOOPBACK)
    with session.get(f"{server.url}/a", limits=SHORT) as reply:
        assert (reply.status, reply.header("Location")) == (302, f"{server.url}/b")
        assert reply.read(2**20) == bomb
    assert server.targets() == ["/a"]


def test_what_is_compressed_all_the_same_is_not_decoded(server: HostileServer) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    server.answers["/"] = http(200, bomb, Content_Encoding="gzip")
    assert fetch(f"{server.url}/") == (200, bomb)
    assert server.asked[0].headers["accept-encoding"] == "identity"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "REG_CONNECT"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "REG_CONNECT"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello", "REG_PROTOCOL"),
        (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", "REG_PROTOCOL"),
        (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", "REG_PROTOCOL"),
        (CHUNKED + b"5\r\nhel", "REG_CONNECT"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2**20 + b"\r\n\r\n", "REG_PROTOCOL"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", "REG_PROTOCOL"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "REG_PROTOCOL"),
        (b"HTTP/1.1 99999 OK\r\n\r\n", "REG_PROTOCOL"),
    ],
)
def test_a_broken_answer_has_its_code(server: HostileServer, answer: bytes, code: str) -> None:
    server.answers["/"] = lambda connection: connection.sendall(answer)
    assert code_of(f"{server.url}/") == code


@pytest.mark.parametrize("chunk_size", [b"fffffffffffffff0", b"-1", b"1000000"])
def test_an_endless_body_stops_at_the_limit(server: HostileServer, chunk_size: bytes) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + chunk_size + b"\r\n")
        while not server.stopped.is_set():
            connection.sendall(bytes(2**16))

    server.answers["/"] = flood
    limits = Limits(total=20.0, body=2**20)
    assert code_of(f"{server.url}/", limits=limits, limit=2**20) in {"IMG_TOO_LARGE", "REG_PROTOCOL"}


@pytest.mark.parametrize(
    "before", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_a_server_that_sends_a_byte_now_and_then_meets_the_deadline(
    server: HostileServer, before: bytes
) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(before)
        while not server.stopped.wait(0.2):
            connection.sendall(b"H")

    server.answers["/"] = drip
    began = time.monotonic()
    assert code_of(f"{server.url}/") == "REG_TIMEOUT"
    assert 1.0 < time.monotonic() - began < 4.0


def test_a_body_that_comes_too_slowly_is_given_up(server: HostileServer) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while not server.stopped.wait(0.1):
            connection.sendall(b"x" * 10)

    server.answers["/"] = drip
    limits = Limits(read=5.0, total=60.0, minimum_rate=10_000, rate_window=1.0)
    began = time.monotonic()
    assert code_of(f"{server.url}/", limits=limits) == "REG_TIMEOUT"
    assert time.monotonic() - began < 5.0


def test_a_server_that_never_answers_times_out(server: HostileServer) -> None:
    server.answers["/"] = lambda connection: server.stopped.wait(10) and None
    assert code_of(f"{server.url}/") == "REG_TIMEOUT"


def test_waiting_ends_when_somebody_wants_to_stop(server: HostileServer) -> None:
    server.answers["/"] = lambda connection: server.stopped.wait(30) and None
    stop_at = time.monotonic() + 1.0

    def alive() -> None:
        if time.monotonic() > stop_at:
            raise InterruptedError("stop")

    with pytest.raises((InterruptedError, OutboundError)):
        fetch(f"{server.url}/", limits=Limits(), alive=alive)
    assert time.monotonic() - stop_at < 3.0


def test_a_closed_port_and_an_unknown_name_have_their_codes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert code_of(f"http://127.0.0.1:{port}/") == "REG_CONNECT"
    assert code_of("http://no-such-host.invalid/") == "REG_DNS"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("certificate", "session", "code"),
    [
        ({}, {}, "REG_TLS_UNTRUSTED"),
        ({"days": (-30, -1)}, {"trusted": True}, "REG_TLS_EXPIRED"),
        ({"days": (1, 30)}, {"trusted": True}, "REG_TLS_EXPIRED"),
        ({"address": "192.0.2.1"}, {"trusted": True}, "REG_TLS_NAME"),
        ({}, {"trusted": True}, ""),
        ({}, {"verify": False}, ""),
        ({"address": "192.0.2.1", "days": (-30, -1)}, {"verify": False}, ""),
    ],
)
def test_a_certificate_is_judged_as_this_registry_says(
    authority: Authority, tmp_path: Path, certificate: dict[str, Any], session: dict[str, Any], code: str
) -> None:
    if session.pop("trusted", False):
        session = {**session, "custom_ca": authority.pem}
    with hostile_server(
        {"/": http(200, b"hello")}, certificate=authority.issue(tmp_path, **certificate)
    ) as server:
        if code:
            assert code_of(f"{server.url}/", **session) == code
            assert server.asked == []
        else:
            assert fetch(f"{server.url}/", **session) == (200, b"hello")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_not_validating_one_registry_does_not_relax_another(authority: Authority, tmp_path: Path) -> None:
    with hostile_server({"/": http(200, b"hello")}, certificate=authority.issue(tmp_path)) as server:
        lax, strict = (OutboundSession(allowed_networks=LOOPBACK, verify=verify) for verify in (False, True))
        for _ in range(2):
            with lax.get(f"{server.url}/", limits=SHORT) as reply:
                assert reply.read(100) == b"hello"
            with pytest.raises(OutboundError), strict.get(f"{server.url}/", limits=SHORT):
                pass


def test_a_server_without_tls_is_told_apart() -> None:
    with hostile_server(greeting=http(400)) as server, pytest.raises(OutboundError) as caught:
        fetch(server.url.replace("http:", "https:"))
    assert (caught.value.code, "TLS" in caught.value.reason) == ("REG_PROTOCOL", True)


def test_old_tls_is_not_spoken() -> None:
    for verify in (True, False):
        assert tls_context(verify=verify).minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_sentence_says_what_the_server_said(server: HostileServer) -> None:
    server.answers["/"] = b"CANARY-BANNER\r\n"
    with pytest.raises(OutboundError) as caught:
        fetch(f"{server.url}/")
    error = caught.value
    assert (error.reason, error.remedy) == TEXTS[error.code]
    assert "CANARY" not in f"{error!r} {error} {error.__cause__!r}"
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "url", ["https://a\\@b/", "https://a@b/", "ftp://a/", "/relative", "https://a\r\nX: y/", "https://[::1/"]
)
def test_a_url_from_a_server_without_a_clear_origin_has_none(url: str) -> None:
    assert origin_of(url) is None
