"""The connection test: the certificate it shows, and the accounts and servers it tells apart."""

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from demo.catalog import Catalog
from demo.faults import Fault
from demo.images import OPERATOR, ROBOT
from demo.server import DemoServer, running
from repositories.models import Registry
from repositories.registries import client
from repositories.registries.connection import Connection
from repositories.registries.failures import RegistryError
from repositories.registries.harbor_identity import OIDC, OLD_ROBOT
from repositories.registries.harbor_v2 import HarborV2
from repositories.registries.protocol import CertificateItem, CheckReport, StepState
from tests.fakes.certificates import Authority, make_authority
from tests.fakes.hostile_server import hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
LIKE_A_PAGE = '<script>alert("\N{RIGHT-TO-LEFT OVERRIDE}")</script>\x07'


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def harbor(url: str, password: str, username: str = OPERATOR, **fields: Any) -> HarborV2:
    return HarborV2(Connection(url, username, lambda: password, allowed_networks=LOOPBACK, **fields))


@pytest.fixture
def secured(
    demo_content: tuple[Path, Catalog], authority: Authority, tmp_path: Path
) -> Iterator[tuple[DemoServer, str]]:
    """The demo registry behind a certificate nobody trusts by default, and the certificate's fingerprint."""
    files = [Path(file) for file in authority.issue(tmp_path)]
    directory, catalog = demo_content
    with running(directory, catalog, certificate=(files[0], files[1])) as server:
        yield server, fingerprint_of(files[0])


def fingerprint_of(file: Path) -> str:
    """The SHA-256 of a certificate, made another way than the console does."""
    digest = x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA256()).hex().upper()
    return ":".join(digest[place : place + 2] for place in range(0, 64, 2))


def shown(report: CheckReport) -> CertificateItem:
    found = [step.certificate for step in report.steps if step.certificate]
    assert len(found) == 1
    return found[0]


def failing(report: CheckReport) -> tuple[str, RegistryError]:
    failed = [step for step in report.steps if step.state == StepState.FAILED]
    assert len(failed) == 1
    assert failed[0].error is not None
    return failed[0].name, failed[0].error


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("trust", ["validated", "untrusted", "not validated"])
def test_the_certificate_is_shown_whether_or_not_it_is_trusted(
    secured: tuple[DemoServer, str], authority: Authority, password: str, trust: str
) -> None:
    server, fingerprint = secured
    fields: dict[str, Any] = {
        "validated": {"custom_ca": authority.pem},
        "untrusted": {},
        "not validated": {"verify_tls": False},
    }[trust]
    report = harbor(server.url, password, **fields).check()
    certificate = shown(report)
    assert certificate.fingerprint == fingerprint
    assert (certificate.subject, certificate.issuer) == ("CN=server", "CN=authority")
    assert certificate.names == ("127.0.0.1",)
    assert certificate.valid_from < certificate.valid_until
    assert (report.error is None) == (trust != "untrusted")
    if trust == "untrusted":
        assert server.requests == []


def test_a_certificate_for_another_name_shows_which(
    authority: Authority, tmp_path: Path, password: str
) -> None:
    files = authority.issue(tmp_path, address="127.0.0.9")
    with hostile_server(certificate=files) as server:
        report = harbor(server.url, password, custom_ca=authority.pem).check()
    assert failing(report)[1].code == "REG_TLS_NAME"
    assert shown(report).names == ("127.0.0.9",)


@pytest.mark.parametrize(("days", "word"), [((-60, -30), "expired on"), ((30, 60), "not valid before")])
def test_a_certificate_out_of_its_time_is_refused_with_the_day(
    authority: Authority, tmp_path: Path, days: tuple[int, int], word: str
) -> None:
    files = authority.issue(tmp_path, days=days)
    with hostile_server(certificate=files) as server:
        report = harbor(server.url, "secret", custom_ca=authority.pem).check()
        assert server.asked == []
    name, error = failing(report)
    assert (name, error.code) == ("Certificate", "REG_TLS_EXPIRED")
    certificate = shown(report)
    day = certificate.valid_until if days[1] < 0 else certificate.valid_from
    assert word in error.reason
    assert str(day.year) in error.reason


def test_a_certificate_that_looks_like_a_page_stays_text(
    authority: Authority,
    tmp_path: Path,
    make_registry: Callable[..., Registry],
    client: Client,
) -> None:
    files = authority.issue(tmp_path, subject=LIKE_A_PAGE)
    client.force_login(User.objects.create_superuser("root", password="long enough to be one"))
    with hostile_server(certificate=files) as server:
        registry = make_registry(server.url)
        page = client.post(reverse("repositories:registry-test", args=[registry.pk])).content.decode()
    assert "alert(" in page
    assert "<script>alert" not in page
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert "\x07" not in page
    assert "SHA-256" in page


def test_a_server_without_a_readable_certificate_fails_at_that_step(password: str) -> None:
    with hostile_server(greeting=b"220 mail.example.org ESMTP\r\n") as server:
        address = server.url.replace("http:", "https:")
        report = harbor(address, password).check()
    assert failing(report)[0] == "Certificate"
    assert all(step.certificate is None for step in report.steps)


def json_fault(match: str, body: bytes, **fields: Any) -> Fault:
    return Fault(match=match, body=body, headers={"Content-Length": str(len(body))}, times=None, **fields)


def test_people_who_log_in_by_single_sign_on_are_told_to_use_a_robot(demo: DemoServer) -> None:
    demo.faults.add(json_fault("/systeminfo", b'{"auth_mode":"oidc_auth","self_registration":false}'))
    name, error = failing(harbor(demo.url, "their own password", "somebody").check())
    assert (name, error.code, error.reason) == ("Login", "REG_AUTH", OIDC)
    assert "robot" in error.remedy
    asked = [seen for seen in demo.requests if "systeminfo" in seen.path]
    assert asked
    assert not any("authorization" in seen.headers for seen in asked)


def test_a_robot_of_a_harbor_with_single_sign_on_lists_and_pulls(
    demo: DemoServer, demo_content: tuple[Path, Catalog]
) -> None:
    demo.faults.add(json_fault("/systeminfo", b'{"auth_mode":"oidc_auth"}'))
    account = demo_content[1].account(ROBOT)
    assert account is not None
    assert harbor(demo.url, account.password, ROBOT).check().error is None


def test_a_wrong_password_stays_one_where_the_way_of_logging_in_cannot_be_asked(demo: DemoServer) -> None:
    demo.faults.add(Fault(match="/systeminfo", status=502, times=None))
    name, error = failing(harbor(demo.url, "wrong").check())
    assert (name, error.code) == ("Login", "REG_AUTH")
    assert "single sign-on (OIDC)" in error.remedy


@pytest.mark.parametrize(
    ("version", "step", "code"),
    [
        (b"v2.0.6-0ea5dbd4", "Login", "REG_FORBIDDEN"),
        (b"v2.1.3-b6de84c5", "Login", "REG_FORBIDDEN"),
        (b"v2.2.4-b4eb9f38", "", ""),
        (b"v2.9.5-c5d4e31e", "Login", "REG_5XX"),
    ],
)
def test_a_robot_at_which_an_old_harbor_stumbles_is_judged_by_its_version(
    demo: DemoServer, demo_content: tuple[Path, Catalog], version: bytes, step: str, code: str
) -> None:
    demo.faults.add(Fault(match="/users/current", status=500, times=None))
    demo.faults.add(json_fault("/systeminfo", b'{"harbor_version":"%s"}' % version))
    account = demo_content[1].account(ROBOT)
    assert account is not None
    report = harbor(demo.url, account.password, ROBOT).check()
    if not step:
        assert report.error is None
        return
    name, error = failing(report)
    assert (name, error.code) == (step, code)
    assert (error.reason == OLD_ROBOT) == (code == "REG_FORBIDDEN")


def test_listing_that_outlasts_the_test_is_a_note_and_no_failure(
    demo: DemoServer, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repositories.registries.connection_test.TEST_SECONDS", 1.5)
    demo.faults.add(Fault(match="/artifacts", delay=20.0, times=None))
    report = harbor(demo.url, password).check()
    assert report.error is None
    assert {step.name: step.state for step in report.steps}["Right to list"] == StepState.WARNED


def test_a_data_update_tells_a_server_that_went_back_to_harbor_1() -> None:
    answers = {"/api/systeminfo": http(200, b'{"harbor_version":"v1.10.19-abcdef"}')}
    with hostile_server(answers) as server:
        with pytest.raises(RegistryError) as caught:
            list(harbor(server.url, "secret").list_projects())
        assert not any("authorization" in asked.headers for asked in server.asked)
    assert "V1" in caught.value.remedy
