"""Rows C-N: whatever way an address comes and is written, no packet goes where none may go."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from pytest_django import Settings

from demo.catalog import Catalog
from demo.evil import Evil, Scenario
from demo.evil_scenarios import REDIRECTS
from demo.server import running
from repositories.connections import test_connection as try_connection
from repositories.models import Registry
from repositories.registries.failures import RegistryError
from tcss.environment import own_services
from tcss.lifecycle import State
from tcss.outbound_addresses import AddressFormError, Service, parse_origin
from tests.evil.world import LOOPBACK, SHORT, Known, kept, lister, marked, puller, update
from tests.fakes.hostile_server import hostile_server, http

HERE = ("127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0", "0.0.0.0")  # noqa: S104
IPV6 = (
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
)
METADATA = ("169.254.169.254", "169.254.0.23", "100.100.100.200", "100.64.0.1")
NEVER_TYPED = (
    "http://①②⑦.⓪.⓪.①",
    "http://[fe80::1%25eth0]",
    "http://harbor@127.0.0.1/",
    "http://127.0.0.1#@harbor",
)
ODD_FORMS = (
    *NEVER_TYPED,
    "http://127.0.0.1\\@harbor",
    "http://127.0\t.0.1",
    "http://harbor.example.org.",
    "http://h\u0430rbor.example",
    f"http://{'a' * 300}.example",
    "http://harbor.example:0",
    "http://harbor.example:99999",
)


@dataclass
class Canary:
    """A listener that nobody may reach, and how often somebody did."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def canary() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Canary(listener.getsockname()[1])

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    found.connections += 1
                    with connection:
                        connection.settimeout(1)
                        found.heard.append(connection.recv(65536))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address a connection was tried to; what is not of this test's own servers is not reached."""
    tried: list[Any] = []
    original = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            tried.append(address)
            if not str(address[0]).startswith("127."):
                raise ConnectionRefusedError
        original(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


@pytest.fixture
def operator(db: None) -> Client:
    user = User.objects.create_user("operator")
    user.groups.add(Group.objects.get(name="Operator"))
    client = Client()
    client.force_login(user)
    return client


def entered(address: str) -> dict[str, str]:
    """What somebody types into the form of an image repository."""
    return {
        "name": "Evil",
        "kind": "harbor",
        "version": "V2",
        "network": "public",
        "region": "default",
        "address": address,
        "username": "somebody",
        "password": "secret",
        "verify_tls": "on",
        "action": "test",
    }


def refused(address: str, allowed: Any = ()) -> str:
    with pytest.raises(RegistryError) as caught:
        list(lister(address, allowed_networks=allowed).list_projects())
    return caught.value.code


@pytest.mark.parametrize("host", HERE)
def test_c_n1_every_way_to_write_this_machine_is_blocked(canary: Canary, host: str) -> None:
    assert refused(f"http://{host}:{canary.port}") == "REG_BLOCKED_ADDR"
    assert canary.connections == 0


def test_c_n1_this_machine_by_its_name_is_reached_where_the_installer_allows_it(
    evil_content: tuple[Path, Catalog],
) -> None:
    with running(*evil_content) as server:
        address = server.url.replace("127.0.0.1", "localhost")
        assert list(lister(address, allowed_networks=LOOPBACK).list_projects())


@pytest.mark.parametrize("host", [*IPV6, *METADATA])
@pytest.mark.parametrize("allowed", [(), LOOPBACK], ids=["nothing-allowed", "loopback-allowed"])
def test_c_n2_c_n3_no_packet_goes_to_an_address_of_nobodys_registry(
    connected: list[Any], host: str, allowed: Any
) -> None:
    if allowed and host in {"[::1]", "[::ffff:127.0.0.1]"}:
        # Another way to write what the installer allows.
        refused(f"http://{host}:9", allowed)
        return
    assert refused(f"http://{host}:9", allowed) == "REG_BLOCKED_ADDR"
    assert connected == []


def test_c_n3_the_name_of_a_clouds_metadata_is_blocked_by_what_it_resolves_to(
    connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver(["169.254.0.23"]))
    assert refused("http://metadata.tencentyun.com") == "REG_BLOCKED_ADDR"
    assert connected == []


def resolver(*answers: list[str]) -> Callable[..., list[Any]]:
    """A resolver that gives these answers in turn, then the last for ever."""
    left = list(answers)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    return getaddrinfo


def test_c_n4_the_address_that_was_looked_at_is_the_one_connected_to(
    canary: Canary, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile_server({"/": http(404, b"{}")}) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolver(["127.0.0.1"], ["169.254.169.254"]))
        client = lister(f"http://harbor.example:{server.port}")
        for _ in range(2):
            with pytest.raises(RegistryError):
                list(client.list_projects())
        assert server.asked
    assert {address[0] for address in connected} == {"127.0.0.1"}
    assert canary.connections == 0


def test_c_n5_a_name_with_one_bad_address_is_refused_whole(
    canary: Canary, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver(["127.0.0.1", "10.1.2.3"]))
    assert refused(f"http://harbor.example:{canary.port}", LOOPBACK) == "REG_BLOCKED_ADDR"
    assert (canary.connections, connected) == (0, [])


@pytest.mark.parametrize("scenario", REDIRECTS, ids=lambda scenario: scenario.title)
def test_c_n6_a_redirect_leads_nowhere(
    evil: Evil, registry: Registry, before: Known, canary: Canary, connected: list[Any], scenario: Scenario
) -> None:
    evil.lay(scenario, elsewhere=canary.url)
    sync = update(registry)
    assert sync.state in {State.INCOMPLETE, State.FAILED}
    assert sync.error_code in {"REG_PROTOCOL", "REG_BLOCKED_ADDR"}
    assert canary.connections == 0
    assert {address[:2] for address in connected} == {("127.0.0.1", evil.server.server_address[1])}
    assert kept(before)
    assert marked() == set()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://10.1.2.3/",
        "http://0x7f.1:6379/",
        "//[::1]:22/",
    ],
)
def test_c_n6_a_layer_is_not_fetched_from_where_no_storage_may_be(
    connected: list[Any], status: int, location: str
) -> None:
    with hostile_server({"/v2/": http(status, Location=location)}) as server:
        with pytest.raises(RegistryError) as caught:
            puller(server.url).read_blob("shop/web", f"sha256:{0:064x}", limit=100)
        assert caught.value.code in {"REG_PROTOCOL", "REG_BLOCKED_ADDR"}
        assert {address[:2] for address in connected} == {("127.0.0.1", server.port)}


@pytest.mark.parametrize("typed", ODD_FORMS)
def test_c_n7_an_address_of_odd_form_is_an_error_of_its_field(
    operator: Client, connected: list[Any], typed: str
) -> None:
    with pytest.raises(AddressFormError):
        parse_origin(typed)
    page = operator.post("/registries/add/", {**entered(typed), "action": "save-anyway"}).content.decode()
    assert "field__error" in page
    assert not Registry.objects.exists()
    assert connected == []


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("  HTTPS://Harbor.Example.ORG/  ", "https://harbor.example.org"),
        ("https://harbor.example.org/harbor/projects", None),
        ("https://harbor.example.org/v2/", None),
        ("https://harbor.example.org/?a=b", None),
        ("harbor.example.org", None),
    ],
)
def test_c_n8_an_address_is_brought_into_form_or_told_what_to_type(typed: str, becomes: str | None) -> None:
    if becomes:
        assert str(parse_origin(typed)) == becomes
        return
    with pytest.raises(AddressFormError, match=r"https?://"):
        parse_origin(typed)


def test_c_n9_the_consoles_own_services_are_known_from_its_settings() -> None:
    found = own_services(
        "https://console.example.org",
        ["console.example.org", "*", "[::1]"],
        "postgres://u:p@db.example.org/tcss",
        "rediss://:p@Broker.example.org:6390/0",
        "postgres://u:p@/tcss?host=/run/postgresql",
        "unix:///run/valkey.sock?db=0",
    )
    assert set(found) == {
        Service("console.example.org", 443, shared=True),
        Service("::1", 443, shared=True),
        Service("db.example.org", 5432),
        Service("broker.example.org", 6390),
    }


@pytest.mark.parametrize("way", ["same name", "other name", "the console"])
def test_c_n9_the_consoles_own_services_are_no_registry(
    canary: Canary, connect: Callable[..., Registry], settings: Settings, way: str
) -> None:
    service = Service("localhost", canary.port, shared=way == "the console")
    settings.OWN_SERVICES = [service]
    host = "127.0.0.1" if way == "other name" else "localhost"
    registry = connect(f"http://{host}:{canary.port}")
    report = try_connection(registry)
    sync = update(registry)
    assert report.error is not None
    assert report.error.code == sync.error_code == "REG_BLOCKED_ADDR"
    assert "the console itself" in sync.error_reason
    assert canary.connections == 0


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254", "http://[::ffff:169.254.169.254]", "http://10.1.2.3"]
)
def test_the_form_and_its_test_button_send_no_packet_to_a_blocked_network(
    operator: Client, connected: list[Any], address: str
) -> None:
    page = operator.post(
        "/registries/add/", entered(address), headers={"HX-Request": "true"}
    ).content.decode()
    assert "REG_BLOCKED_ADDR" in page
    assert connected == []


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        answered.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        with pytest.raises(RegistryError) as caught:
            list(lister("http://harbor.example").list_projects())
    finally:
        answered.set()
    assert (caught.value.code, SHORT.connect) in {("REG_DNS", 1.0), ("REG_TIMEOUT", 1.0)}
