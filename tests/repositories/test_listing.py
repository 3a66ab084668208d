"""Listing Harbor 2: paging that ends when the listing does, names, kinds, and the connection test."""

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from demo.catalog import Account, Catalog, Grant, Project, Repository
from demo.faults import Fault, html_page
from demo.images import OPERATOR
from demo.server import DemoServer, running
from images.models import ArtifactKind
from repositories.registries import client
from repositories.registries.client import JSONAnswer
from repositories.registries.connection import Connection
from repositories.registries.failures import AccessRefusedError, BadAnswerError, ListingCutError
from repositories.registries.harbor_v2 import HarborV2, encode
from repositories.registries.paging import walk
from repositories.registries.protocol import Kind, ProjectItem, RepositoryItem, StepState
from tests.fakes.certificates import make_authority
from tests.fakes.hostile_server import hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
Pages = Callable[[int, int], JSONAnswer]


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def harbor(url: str, password: str, username: str = OPERATOR, **fields: Any) -> HarborV2:
    return HarborV2(Connection(url, username, lambda: password, allowed_networks=LOOPBACK, **fields))


def entries(first: int, last: int) -> list[dict[str, str]]:
    return [{"name": f"n{number}"} for number in range(first, last)]


def walked(pages: Pages) -> tuple[list[str], int]:
    """The names of a listing, and how many pages it took."""
    asked = 0

    def ask(query: Mapping[str, object]) -> JSONAnswer:
        nonlocal asked
        asked += 1
        page, size = query["page"], query["page_size"]
        assert isinstance(page, int)
        assert isinstance(size, int)
        return pages(page, size)

    return list(walk(ask, parse_entry)), asked


def parse_entry(entry: Mapping[str, object]) -> tuple[str, str]:
    name = entry.get("name")
    if isinstance(name, str):
        return name, name
    raise ValueError("no name")


def cut(items: list[dict[str, str]], page: int, size: int) -> list[dict[str, str]]:
    return items[(page - 1) * size : page * size]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
@pytest.mark.parametrize("total", ["right", "absent", "too high", "too low", "zero"])
def test_a_listing_is_walked_to_its_end_whatever_its_total_says(count: int, total: str) -> None:
    items = entries(0, count)
    said = {"right": count, "absent": None, "too high": count + 7, "too low": count // 2, "zero": 0}[total]
    names, _ = walked(lambda page, size: JSONAnswer(cut(items, page, size), said))
    assert names == [item["name"] for item in items]


def test_a_short_listing_with_its_total_takes_one_request() -> None:
    assert walked(lambda page, size: JSONAnswer(cut(entries(0, 7), page, size), 7))[1] == 1


def test_an_empty_page_in_the_middle_does_not_end_a_listing() -> None:
    # Harbor 2.5.0 counts accessories, then leaves them out of the page.
    pages = {1: entries(0, 100), 2: [], 3: entries(200, 220)}
    names, _ = walked(lambda page, size: JSONAnswer(pages.get(page, []), 320))
    assert len(names) == 120


def test_a_page_size_that_is_silently_lowered_loses_nothing() -> None:
    items = entries(0, 95)
    names, _ = walked(lambda page, size: JSONAnswer(cut(items, page, 10), len(items)))
    assert len(names) == 95


def test_a_refused_page_size_is_lowered() -> None:
    def pages(page: int, size: int) -> JSONAnswer:
        if size > 10:
            error = BadAnswerError("REG_PROTOCOL", "refused")
            error.status = 422
            raise error
        return JSONAnswer(cut(entries(0, 25), page, size), 25)

    assert len(walked(pages)[0]) == 25


def test_an_item_on_two_pages_is_listed_once() -> None:
    pages = {1: entries(0, 100), 2: entries(95, 150)}
    names, _ = walked(lambda page, size: JSONAnswer(pages.get(page, []), 150))
    assert names == [f"n{number}" for number in range(150)]


@pytest.mark.parametrize(
    "pages",
    [
        lambda page, size: JSONAnswer(entries(0, 100), None),
        lambda page, size: JSONAnswer(entries(page % 2 * 100, page % 2 * 100 + 100), None),
        lambda page, size: JSONAnswer([], 10**15),
    ],
)
def test_a_listing_without_an_end_is_cut_and_says_so(pages: Pages) -> None:
    with pytest.raises(ListingCutError):
        walked(pages)


def test_endless_new_pages_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repositories.registries.paging.PAGES", 20)
    with pytest.raises(ListingCutError):
        walked(lambda page, size: JSONAnswer(entries(page * 100, page * 100 + 100), None))


def test_pages_without_anything_that_makes_sense_are_cut_early() -> None:
    asked = []

    def ask(query: Mapping[str, object]) -> JSONAnswer:
        asked.append(query)
        return JSONAnswer([{"name": "../x"}], None)

    with pytest.raises(ListingCutError):
        list(walk(ask, parse_entry))
    assert len(asked) < 200


def test_entries_that_are_none_are_left_out_and_make_the_listing_incomplete() -> None:
    items = [*entries(0, 3), {}, {"name": None}, "text", None, *entries(3, 5)]
    listing = walk(lambda query: JSONAnswer(items, len(items)), parse_entry)
    assert [next(listing) for _ in range(5)] == [f"n{number}" for number in range(5)]
    with pytest.raises(BadAnswerError, match="4 entries"):
        next(listing)


@pytest.mark.parametrize(
    ("name", "segment"),
    [("web", "web"), ("backend/api", "backend%252Fapi"), ("a/b/c/d", "a%252Fb%252Fc%252Fd"), ("v2", "v2")],
)
def test_a_name_with_slashes_is_one_segment_encoded_twice(name: str, segment: str) -> None:
    assert encode(name) == segment


@pytest.fixture
def odd_names(tmp_path: Path) -> Iterator[DemoServer]:
    """Projects and repositories whose names look like something else, and more of them than a page holds."""
    many = tuple(Repository(f"r{number:03}") for number in range(230))
    catalog = Catalog(
        projects=(
            Project("123", (Repository("a/b/c/d"), Repository("library"))),
            Project("api", (Repository("v2"), Repository("v2/manifests/latest"))),
            Project("big", many),
        ),
        accounts=(Account("somebody", "secret", grants=(Grant("*", role_id=2),)),),
    )
    with running(tmp_path / "blobs", catalog) as server:
        yield server


def test_nested_numeric_and_reserved_names_are_all_listed(odd_names: DemoServer) -> None:
    registry = harbor(odd_names.url, "secret", "somebody")
    found = {
        project.name: {item.name for item in registry.list_repositories(project)}
        for project in registry.list_projects()
    }
    assert found["123"] == {"123/a/b/c/d", "123/library"}
    assert found["api"] == {"api/v2", "api/v2/manifests/latest"}
    assert len(found["big"]) == 230
    for name in found["123"] | found["api"]:
        assert list(registry.list_artifacts(RepositoryItem(name, name.partition("/")[0]))) == []
    assert odd_names.unexpected == []


@pytest.mark.parametrize(
    "name", ["..", "a/b", "a//b", "%2e%2e", "A", "a b", "a\n", "", None, 7, "a" * 300, "../../v2"]
)
def test_a_name_that_is_none_never_becomes_part_of_a_path(
    demo: DemoServer, password: str, name: object
) -> None:
    demo.faults.add(Fault(match="/projects\\?", body=json.dumps([{"name": name}]).encode(), times=None))
    with pytest.raises(BadAnswerError):
        list(harbor(demo.url, password).list_projects())


def test_a_repository_of_another_project_is_left_out(demo: DemoServer, password: str) -> None:
    demo.faults.add(Fault(match="/projects/shop/", body=b'[{"name":"payments/ledger"}]', times=None))
    with pytest.raises(BadAnswerError):
        list(harbor(demo.url, password).list_repositories(ProjectItem("shop")))


def test_kinds_are_those_of_the_rows() -> None:
    assert {kind.value for kind in Kind} == set(ArtifactKind.values)


def test_artifacts_are_what_they_are(demo: DemoServer, password: str) -> None:
    registry = harbor(demo.url, password)
    kinds: dict[str, list[str]] = {}
    for name in ("library/nginx", "payments/ledger", "payments/core/settlement", "platform/charts/shop"):
        item = RepositoryItem(name, name.partition("/")[0])
        kinds[name] = sorted(artifact.kind for artifact in registry.list_artifacts(item))
    assert kinds == {
        "library/nginx": ["index"],
        "payments/ledger": ["image", "signature"],
        "payments/core/settlement": ["image", "signature"],
        "platform/charts/shop": ["chart"],
    }


def test_a_wrong_password_lists_nothing_though_harbor_answers_anybody(demo: DemoServer) -> None:
    with pytest.raises(AccessRefusedError) as caught:
        list(harbor(demo.url, "wrong").list_projects())
    assert caught.value.code == "REG_AUTH"
    asked = [(seen.path, "authorization" in seen.headers) for seen in demo.requests]
    assert asked == [
        ("/api/version", False),
        ("/api/v2.0/users/current", True),
        ("/api/v2.0/systeminfo", False),
    ]


def failing_step(report: Any) -> tuple[str, str]:
    failed = [step for step in report.steps if step.state == StepState.FAILED]
    assert len(failed) == 1
    assert failed[0].error.remedy
    return failed[0].name, failed[0].error.code


@pytest.mark.parametrize(
    ("fault", "step", "code"),
    [
        (html_page("/api/", times=None), "API version", "REG_PROTOCOL"),
        (html_page("/api/version", status=502, times=None), "API version", "REG_5XX"),
        (
            Fault(match="/api/version", status=301, headers={"Location": "https://x"}),
            "API version",
            "REG_PROTOCOL",
        ),
        (Fault(match="/api/version", body=b'{"version":"v3.0"}'), "API version", "REG_PROTOCOL"),
        (Fault(match="/users/current", status=401, times=None), "Login", "REG_AUTH"),
        (Fault(match="/projects\\?", status=403, times=None), "Right to list", "REG_FORBIDDEN"),
        (Fault(match="/artifacts", status=403, times=None), "Right to list", "REG_FORBIDDEN"),
        (Fault(match="/service/token", status=401, times=None), "Right to pull", "REG_AUTH"),
        (Fault(match="/tags/list", status=403, times=None), "Right to pull", "REG_FORBIDDEN"),
    ],
)
def test_the_connection_test_names_the_step_that_fails(
    demo: DemoServer, password: str, fault: Fault, step: str, code: str
) -> None:
    demo.faults.add(fault)
    assert failing_step(harbor(demo.url, password).check()) == (step, code)


@pytest.mark.parametrize(
    ("address", "step", "code"),
    [
        ("http://no-such-host.invalid", "Host name", "REG_DNS"),
        ("http://169.254.169.254", "Host name", "REG_BLOCKED_ADDR"),
        ("http://127.0.0.1:1", "Connection", "REG_CONNECT"),
    ],
)
def test_the_connection_test_begins_with_the_address(address: str, step: str, code: str) -> None:
    assert failing_step(harbor(address, "secret").check()) == (step, code)


def test_harbor_1_is_told_apart() -> None:
    answers = {"/api/systeminfo": http(200, b'{"harbor_version":"v1.10.19-abcdef"}')}
    with hostile_server(answers) as server:
        report = harbor(server.url, "secret").check()
        assert failing_step(report) == ("API version", "REG_PROTOCOL")
        assert report.error is not None
        assert "Harbor 1" in report.error.reason
        assert "V1" in report.error.remedy
        assert not any("authorization" in asked.headers for asked in server.asked)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_certificate_is_a_step_of_its_own(demo_content: Any, password: str, tmp_path: Path) -> None:
    authority = make_authority()
    files = authority.issue(tmp_path)
    directory, catalog = demo_content
    with running(directory, catalog, certificate=(Path(files[0]), Path(files[1]))) as server:
        untrusted = harbor(server.url, password).check()
        assert failing_step(untrusted) == ("Certificate", "REG_TLS_UNTRUSTED")
        assert untrusted.error is not None
        assert "Custom CA" in untrusted.error.remedy
        assert server.requests == []
        assert harbor(server.url, password, custom_ca=authority.pem).check().error is None
        lax = harbor(server.url, password, verify_tls=False).check()
        assert lax.error is None
        assert next(step for step in lax.steps if step.name == "Certificate").state == StepState.WARNED


def test_an_account_without_projects_connects_with_a_note(tmp_path: Path) -> None:
    catalog = Catalog(accounts=(Account("somebody", "secret"),))
    with running(tmp_path, catalog) as server:
        report = harbor(server.url, "secret", "somebody").check()
    assert report.error is None
    states = {step.name: step.state for step in report.steps}
    assert (states["Right to list"], states["Right to pull"]) == (StepState.WARNED, StepState.SKIPPED)


def test_a_connection_test_ends_while_somebody_waits_for_the_page(
    demo: DemoServer, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repositories.registries.connection_test.TEST_SECONDS", 1.5)
    demo.faults.add(Fault(match="/users/current", delay=20.0, times=None))
    assert failing_step(harbor(demo.url, password).check()) == ("Login", "REG_TIMEOUT")
