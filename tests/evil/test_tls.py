"""Rows C-L: what certificates and TLS do wrong has a sentence each, and no password goes out before."""

import re
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.catalog import Catalog
from demo.faults import Fault
from demo.server import DemoServer, running
from repositories.connections import test_connection as try_connection
from repositories.models import Registry
from repositories.registries.failures import RegistryError
from repositories.registries.protocol import StepState
from tcss.lifecycle import State
from tests.evil.certificates import Maker, old_tls
from tests.evil.world import kept, known, lister, marked, update

Connect = Callable[..., Registry]
pytestmark = pytest.mark.usefixtures("short_limits")


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture
def serve(evil_content: tuple[Path, Catalog]) -> Callable[[tuple[Path, Path]], Any]:
    @contextmanager
    def with_certificate(certificate: tuple[Path, Path]) -> Iterator[DemoServer]:
        with running(*evil_content, certificate=certificate) as server:
            yield server

    return with_certificate


def refusal_of(url: str, **fields: Any) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        list(lister(url, **fields).list_projects())
    return caught.value


def test_c_l1_a_self_signed_certificate_is_refused_and_the_ways_out_are_named(
    serve: Any, maker: Maker, connect: Connect
) -> None:
    with serve(maker.self_signed()) as server:
        sync = update(connect(server.url))
        assert (sync.state, sync.error_code) == (State.FAILED, "REG_TLS_UNTRUSTED")
        assert "self-signed" in sync.error_reason
        assert "Custom CA" in sync.error_remedy
        assert "Validate remote certificates" in sync.error_remedy
        assert server.requests == []


def test_c_l2_a_self_signed_certificate_works_without_validation_and_the_test_warns(
    serve: Any, maker: Maker, connect: Connect
) -> None:
    with serve(maker.self_signed()) as server:
        registry = connect(server.url, verify_tls=False)
        assert update(registry).state == State.SUCCEEDED
        report = try_connection(registry)
        assert report.error is None
        assert any(
            step.state == StepState.WARNED and "not validated" in step.sentence for step in report.steps
        )


@pytest.mark.parametrize(
    ("days", "words"),
    [((-40.0, -3.0), "expired on"), ((4.0, 30.0), "is not valid before")],
    ids=["expired", "early"],
)
def test_c_l3_a_certificate_out_of_its_time_is_told_with_the_date(
    serve: Any, maker: Maker, connect: Connect, days: tuple[float, float], words: str
) -> None:
    with serve(maker.server(days=days)) as server:
        registry = connect(server.url, custom_ca=maker.pem)
        sync = update(registry)
        assert (sync.state, sync.error_code) == (State.FAILED, "REG_TLS_EXPIRED")
        day = datetime.now(UTC) + timedelta(days=days[1] if days[1] < 0 else days[0])
        assert words in sync.error_reason
        assert f"{day:%Y-%m-%d}" in sync.error_reason
        report = try_connection(registry)
        assert report.error is not None
        assert (report.error.code, report.error.reason) == (sync.error_code, sync.error_reason)
        assert server.requests == []


def test_c_l3_no_date_is_told_where_the_certificate_is_in_its_time(serve: Any, maker: Maker) -> None:
    with serve(maker.self_signed()) as server:
        assert not re.search(r"\d{4}", refusal_of(server.url).reason)


def test_c_l4_a_certificate_for_another_name_is_refused(serve: Any, maker: Maker) -> None:
    with serve(maker.server(names=("harbor.example.org", "192.0.2.1"))) as server:
        error = refusal_of(server.url, custom_ca=maker.pem)
        assert error.code == "REG_TLS_NAME"
        assert "another name" in error.reason
        assert server.requests == []


def test_c_l4_the_name_is_told_to_the_server_that_needs_it(serve: Any, maker: Maker) -> None:
    asked: list[str | None] = []
    with serve(maker.server(names=("localhost",))) as server:
        server.socket.context.sni_callback = lambda sock, name, context: asked.append(name)
        address = server.url.replace("127.0.0.1", "localhost")
        assert list(lister(address, custom_ca=maker.pem).list_projects())
    assert set(asked) == {"localhost"}


def test_c_l5_an_incomplete_chain_is_not_trusted_and_a_complete_one_is(serve: Any, maker: Maker) -> None:
    with serve(maker.below_middle(complete=False)) as server:
        assert refusal_of(server.url, custom_ca=maker.pem).code == "REG_TLS_UNTRUSTED"
    with serve(maker.below_middle(complete=True)) as server:
        assert list(lister(server.url, custom_ca=maker.pem).list_projects())


def test_c_l5_a_server_of_old_tls_is_told_so(maker: Maker) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with old_tls(maker.server()) as address:
            error = refusal_of(address, custom_ca=maker.pem)
    assert error.code == "REG_PROTOCOL"
    assert "no longer safe" in error.reason
    assert "TLS 1.2" in error.remedy


def test_c_l5_plain_http_behind_an_https_address_is_told_so(evil_content: tuple[Path, Catalog]) -> None:
    with running(*evil_content) as server:
        error = refusal_of(server.url.replace("http:", "https:"))
        assert error.code == "REG_PROTOCOL"
        assert "does not speak TLS" in error.reason
        assert server.requests == []


def test_c_l5_tls_behind_an_http_address_gets_no_password(serve: Any, maker: Maker, connect: Connect) -> None:
    with serve(maker.server()) as server:
        registry = connect(server.url.replace("https:", "http:"))
        report = try_connection(registry)
        assert report.error is not None
        assert report.error.code in {"REG_CONNECT", "REG_PROTOCOL"}
        assert server.requests == []
        steps = {step.name: step for step in report.steps}
        assert steps["Certificate"].state == StepState.WARNED
        assert "unencrypted" in steps["Certificate"].sentence


def renewing(server: DemoServer, certificate: tuple[Path, Path]) -> None:
    """Change the server's certificate, and end every connection after its answer."""
    context = server.socket.context  # type: ignore[attr-defined]
    assert isinstance(context, ssl.SSLContext)

    def renew(answer: Any) -> Any:
        context.load_cert_chain(*certificate)
        return answer

    server.faults.add(
        Fault(match="/projects/shop/repositories", change=renew, headers={"Connection": "close"})
    )
    server.faults.add(Fault(match="/api/", times=None, headers={"Connection": "close"}))


def test_c_l6_a_certificate_renewed_in_the_middle_is_no_trouble(
    serve: Any, maker: Maker, connect: Connect
) -> None:
    with serve(maker.server()) as server:
        registry = connect(server.url, custom_ca=maker.pem)
        renewing(server, maker.server(days=(-2, 60)))
        assert update(registry).state == State.SUCCEEDED


def test_c_l6_a_bad_certificate_in_the_middle_stops_the_data_update_and_costs_nothing(
    serve: Any, maker: Maker, connect: Connect
) -> None:
    with serve(maker.server()) as server:
        registry = connect(server.url, custom_ca=maker.pem)
        assert update(registry).state == State.SUCCEEDED
        before = known()
        renewing(server, maker.self_signed())
        server.requests.clear()
        sync = update(registry)
        # Whether some of the lists came in time is a matter of luck.
        assert sync.state in {State.INCOMPLETE, State.FAILED}
        assert sync.error_code == "REG_TLS_UNTRUSTED"
        assert kept(before)
        assert marked() == set()
