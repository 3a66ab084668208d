"""The list's query object: filters, orders, pages and totals."""

import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.http import QueryDict
from pytest_django import DjangoAssertNumQueries

from images import listing as listing_module
from images.listing import Listing, registries_in_use
from images.models import NEVER, ArtifactKind, CategoryStatus, Image, ScanStatus
from images.ordering import ORDERS
from repositories.models import RegistryKind, Tag
from tests.images import shelf

pytestmark = pytest.mark.django_db


def listed(query: str = "") -> Listing:
    return Listing(QueryDict(query), registries=registries_in_use())


def names(query: str = "") -> list[str]:
    return [row.tag.name for row in listed(query).page().rows]


@pytest.fixture
def crowd() -> list[Tag]:
    """Sixty rows full of ties: equal times, severities and sizes, shared images, rows without an image."""
    where = shelf.registry()
    images = [
        shelf.image(
            str(number),
            size=number % 3,
            worst_severity=number % 4 - 1,
            critical_count=number % 2,
            last_scanned_at=NEVER if number % 3 else shelf.START + timedelta(hours=number % 5),
        )
        for number in range(20)
    ]
    return [
        shelf.tag(
            where,
            f"v{number}",
            repository=f"shop/{number % 4}",
            content=None if number % 6 == 0 else images[number % 20],
            pushed_at=shelf.START + timedelta(hours=number % 7),
        )
        for number in range(60)
    ]


def pages(query: str) -> Iterator[list[int]]:
    """Every page of a list from the first on, by its links."""
    while True:
        page = listed(query).page()
        yield [row.tag.pk for row in page.rows]
        if not page.next_url:
            return
        query = page.next_url.removeprefix("?")


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_pages_show_every_row_once_whatever_the_order(crowd: list[Tag], order: str) -> None:
    seen = list(pages(f"sort={order}&size=20"))
    assert [len(page) for page in seen] == [20, 20, 20]
    assert sorted(itertools.chain(*seen)) == sorted(each.pk for each in crowd)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_going_back_shows_the_pages_that_were_seen_going_forward(crowd: list[Tag], order: str) -> None:
    forward = list(pages(f"sort={order}&size=20"))
    first = listed(f"sort={order}&size=20").page()
    second = listed(first.next_url[1:]).page()
    third = listed(second.next_url[1:]).page()
    back = listed(third.previous_url[1:]).page()
    assert [row.tag.pk for row in back.rows] == forward[1]
    start = listed(back.previous_url[1:]).page()
    assert [row.tag.pk for row in start.rows] == forward[0]
    assert start.previous_url == ""
    assert start.next_url


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_the_export_has_the_rows_of_the_pages_in_their_order(crowd: list[Tag], order: str) -> None:
    exported = [row.tag.pk for row in listed(f"sort={order}").rows()]
    assert exported == list(itertools.chain(*pages(f"sort={order}&size=20")))


def test_a_row_that_vanishes_between_two_pages_costs_no_other_row(crowd: list[Tag]) -> None:
    first = listed("size=20").page()
    Tag.objects.filter(pk=first.rows[-1].tag.pk).delete()
    shown = {row.tag.pk for row in first.rows} | set(
        itertools.chain(*pages(first.next_url.removeprefix("?")))
    )
    assert shown == {each.pk for each in crowd}


def test_rows_whose_image_is_not_known_stand_behind_the_others_in_both_directions(crowd: list[Tag]) -> None:
    for order in ("severity", "-severity"):
        rows = [row.tag.image_id for row in listed(f"sort={order}&size=100").page().rows]
        assert rows.index(None) == 50
        assert set(rows[50:]) == {None}


def test_the_worst_come_first_when_sorted_by_risk(crowd: list[Tag]) -> None:
    rows = listed("sort=-severity").page().rows
    severities = [row.tag.image.worst_severity for row in rows if row.tag.image]
    assert severities == sorted(severities, reverse=True)


@pytest.mark.parametrize(
    "cursor",
    [
        *("nonsense", "W10", "WzBd", "WzAsMV0", "WzIsMSwxXQ", "W251bGwsbnVsbCxudWxsXQ", "%00", "-1"),
        # [0,1e400,1] and others like it, a lone surrogate, and [1,Infinity].
        *("WzAsMWU0MDAsMV0", "WzAsMSwxLDFlNDAwXQ", "WzAsIjIwMjQtMDEtMDEiLDFlNDAwXQ", "WzEsSW5maW5pdHld"),
        "WzAsIlx1ZDgwMCIsImEiLDFd",
        *("%F0%9F%99%82", "WzAsIngiLCAxXQ", "WzAsIjIwMjQtMDEtMDEiLDk5OTk5OTk5OTk5OTk5OTk5OTk5OTldx"),
        "W" * 5000,
    ],
)  # fmt: skip
def test_a_cursor_that_is_none_shows_the_first_page(crowd: list[Tag], cursor: str) -> None:
    for order in ("", "&sort=name", "&sort=size", "&sort=severity"):
        for side in ("after", "before"):
            assert names(f"{side}={cursor}{order}") == names(order)


def test_helm_charts_and_signatures_are_listed_only_when_asked_for() -> None:
    where = shelf.registry()
    shelf.tag(where, "image", content=shelf.image("a"))
    shelf.tag(where, "index", content=shelf.image("b"), kind=ArtifactKind.INDEX)
    shelf.tag(where, "chart", kind=ArtifactKind.CHART)
    shelf.tag(where, "signature", kind=ArtifactKind.SIGNATURE)
    assert set(names()) == {"image", "index"}
    assert set(names("kind=chart&kind=signature")) == {"chart", "signature"}


def test_every_filter_keeps_what_it_names() -> None:
    harbor, tcr = shelf.registry("harbor"), shelf.registry("tcr", kind=RegistryKind.TCR)
    done = {"vulnerabilities_status": CategoryStatus.SCANNED, "last_scanned_at": shelf.START}
    shelf.tag(harbor, "new", content=shelf.image("new"))
    shelf.tag(harbor, "unread")
    shelf.tag(
        harbor,
        "bad",
        content=shelf.image(
            "bad",
            is_licensed=True,
            scan_status=ScanStatus.SCANNED,
            worst_severity=5,
            vulnerability_count=3,
            critical_count=1,
            **done,
        ),
    )
    shelf.tag(tcr, "secret", content=shelf.image("secret", worst_severity=4, sensitive_count=2, **done))
    shelf.tag(tcr, "virus", content=shelf.image("virus", worst_severity=4, malware_count=1, **done))
    shelf.tag(
        tcr,
        "fine",
        content=shelf.image("fine", scan_status=ScanStatus.SCANNED, **done),
        missing_since=shelf.START,
    )
    shelf.tag(tcr, "failing", content=shelf.image("failing", scan_status=ScanStatus.EXCEPTION))
    expected = {
        "status=not_scanned&type=harbor": {"new", "unread"},
        "status=scanned": {"bad", "fine"},
        "status=scanned&status=exception": {"bad", "fine", "failing"},
        "security=at_risk": {"bad", "secret", "virus"},
        "security=vulnerable": {"bad"},
        "security=sensitive": {"secret"},
        "security=malware": {"virus"},
        "security=no_risk": {"fine"},
        "security=unassessed": {"new", "unread", "failing"},
        "severity=critical": {"bad"},
        "severity=critical&severity=high": {"bad", "secret", "virus"},
        "type=tcr": {"secret", "virus", "fine", "failing"},
        f"registry={harbor.pk}": {"new", "unread", "bad"},
        "licensing=licensed": {"bad"},
        "licensing=unlicensed&type=harbor": {"new", "unread"},
        "presence=missing": {"fine"},
        "presence=present&type=tcr": {"secret", "virus", "failing"},
        "q=fail": {"failing"},
        "q=tcr.example.org": {"secret", "virus", "fine", "failing"},
        "q=tcr.example.org/shop/api:vir": {"virus"},
        f"q={shelf.digest('image bad')[:20]}": {"bad"},
        f"q={shelf.digest('image bad')[7:19].upper()}": {"bad"},
        f"q={shelf.digest('harbor/shop/api:new')[7:25]}": {"new"},
    }
    assert {query: set(names(query)) for query in expected} == expected


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", '"; DROP TABLE x', "(((", "ﬀ", "🙂", "%%%%_____"])
def test_signs_with_a_meaning_elsewhere_are_searched_for_as_they_are(text: str) -> None:
    where = shelf.registry()
    shelf.tag(where, "plain", content=shelf.image("a"))
    query = QueryDict(mutable=True)
    query["q"] = text
    assert listed(query.urlencode()).page().total == 0


@pytest.mark.parametrize(
    "query", ["status=nonsense", "registry=999999", "q=" + "a" * 301, "q=%00", "type=HARBOR"]
)
def test_a_filter_value_that_does_not_exist_shows_nothing_and_says_so(query: str) -> None:
    shelf.tag(shelf.registry(), "one", content=shelf.image("a"))
    asked = listed(query)
    assert not asked.is_understood
    assert asked.page().rows == ()
    assert list(asked.rows()) == []


@pytest.mark.parametrize("query", ["sort=nonsense", "size=7", "size=-1", "page=1e9", "unknown=1", "sort=-pk"])
def test_an_order_or_size_that_is_not_offered_falls_back_to_the_default(query: str) -> None:
    shelf.tag(shelf.registry(), "one", content=shelf.image("a"))
    asked = listed(query)
    assert (asked.size, asked.order.parameter) == (50, "-pushed")
    assert names(query) == ["one"]


def test_a_filter_given_a_hundred_times_is_one_filter() -> None:
    shelf.tag(shelf.registry(), "one", content=shelf.image("a"))
    assert names("&".join(["status=not_scanned"] * 100)) == ["one"]


def test_beyond_the_cap_the_total_is_not_counted_and_the_pages_go_on(
    crowd: list[Tag], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = list(pages("q=shop&sort=-severity&size=20"))
    monkeypatch.setattr(listing_module, "COUNT_CAP", 10)
    capped = listed("q=shop&sort=-severity&size=20").page()
    assert capped.total is None
    assert capped.total_text == "10+"
    assert list(pages("q=shop&sort=-severity&size=20")) == exact


def test_chips_take_one_value_away_and_leave_the_others() -> None:
    shelf.registry()
    asked = listed("status=scanned&status=exception&q=api&sort=name")
    chips = {(chip.label, chip.value): chip.url for chip in asked.chips()}
    assert chips[("Status", "Scanned")] == "?q=api&sort=name&status=exception"
    assert chips[("Search", "api")] == "?sort=name&status=scanned&status=exception"


def test_a_head_turns_its_order_round() -> None:
    heads = listed("sort=-severity&status=scanned").heads()
    assert (heads["severity"].direction, heads["severity"].url) == (
        "descending",
        "?sort=severity&status=scanned",
    )
    assert (heads["name"].direction, heads["name"].url) == ("", "?sort=name&status=scanned")


@pytest.mark.parametrize("query", ["", "sort=-severity", "q=shop&status=scanned&sort=size"])
def test_a_page_costs_the_same_number_of_queries_whatever_its_size(
    crowd: list[Tag], query: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    Image.objects.update(scan_status=ScanStatus.SCANNING)
    with django_assert_max_num_queries(6):
        page = listed(f"{query}&size=100").page()
        for row in page.rows:
            assert row.tag.registry.name
            assert row.tag.manifest.kind
