"""Rows C-P: lists that lie, repeat, shrink and never end lose nothing, and prove nothing gone."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from demo.evil import Evil, Scenario
from demo.evil_scenarios import LISTINGS, named
from repositories import sync as data_update
from repositories.models import Registry, Sync, SyncTrigger, Tag
from tcss.lifecycle import State
from tests.evil.world import Known, kept, lister, marked, update
from tests.fakes.hostile_server import hostile_server

GOOD = (State.SUCCEEDED, "", "", False)
NO_END = (State.INCOMPLETE, "REG_PROTOCOL", "more than 4 pages", False)
# State, code and words of a data update, and whether image versions are marked as not in it.
EXPECTED = {
    "C-P1-link-to-itself": GOOD,
    "C-P1-same-page-for-ever": GOOD,
    "C-P2-endless-pages": NO_END,
    "C-P3-link-elsewhere": GOOD,
    "C-P4-every-entry-twice": GOOD,
    "C-P6-total-too-high": GOOD,
    "C-P6-total-negative": GOOD,
    "C-P6-total-no-number": GOOD,
    "C-P6-total-zero": GOOD,
    "C-P7-small-pages-only": GOOD,
    "C-P9-no-digest": (State.INCOMPLETE, "REG_PROTOCOL", "no valid name or digest", False),
    "C-P9-tags-null": (State.SUCCEEDED, "", "", True),
    "C-P9-5000-tags": (State.SUCCEEDED, "", "", None),
    "C-P10-page-7-fails": (State.INCOMPLETE, "REG_5XX", "reports a fault of its own", False),
    "C-P11-no-projects": (State.INCOMPLETE, "REG_PROTOCOL", "answered with an empty list", False),
    "C-P13-null-list": (State.SUCCEEDED, "", "", True),
    "C-P13-no-catalog": GOOD,
}


@pytest.fixture(autouse=True)
def few_pages(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A listing is cut sooner where it is to be cut."""
    if "C-P2" in request.node.name:
        monkeypatch.setattr("repositories.registries.paging.PAGES", 4)


@pytest.mark.parametrize("scenario", LISTINGS, ids=lambda scenario: scenario.title)
def test_an_odd_list_loses_nothing(evil: Evil, registry: Registry, before: Known, scenario: Scenario) -> None:
    state, code, words, marks = EXPECTED[scenario.title]
    with hostile_server() as elsewhere:
        evil.lay(scenario, elsewhere=elsewhere.url)
        sync = update(registry)
        assert elsewhere.connections == 0
    assert (sync.state, sync.error_code) == (state, code)
    assert words in sync.error_reason
    assert kept(before)
    assert marks is None or bool(marked()) == marks
    assert all(name.startswith("shop/web:") for name in marked())


def test_every_listing_scenario_has_its_expectation() -> None:
    assert set(EXPECTED) == {scenario.title for scenario in LISTINGS}


def test_c_p4_an_image_listed_twice_is_one_row(evil: Evil, registry: Registry) -> None:
    evil.lay(named("C-P4")[0])
    update(registry)
    names = list(Tag.objects.filter(repository_name="shop/web").values_list("name", flat=True))
    assert len(names) == len(set(names)) == 4


def test_c_p5_what_an_offset_shift_hid_is_marked_and_comes_back(
    evil: Evil, registry: Registry, before: Known
) -> None:
    whole = evil.server.catalog
    evil.server.catalog = whole.without_repository("library", "alpine")
    update(registry)
    assert kept(before)
    assert marked()
    evil.server.catalog = whole
    assert update(registry).state == State.SUCCEEDED
    assert kept(before)
    assert marked() == set()


def test_c_p7_pages_of_ten_list_everything(evil: Evil, connect: Callable[..., Registry]) -> None:
    evil.lay(named("C-P7")[0])
    update(connect(evil.server.url))
    listed = set(Tag.objects.values_list("repository_name", "name"))
    expected = {
        (f"{project.name}/{repository.name}", tag.name)
        for project in evil.server.catalog.projects
        for repository in project.repositories
        for artifact in repository.artifacts
        for tag in artifact.tags
    }
    assert expected <= listed


def test_c_p9_five_thousand_tags_of_one_image_are_five_thousand_rows_of_it(
    evil: Evil, registry: Registry
) -> None:
    evil.lay(named("C-P9-5000-tags")[0])
    update(registry)
    rows = Tag.objects.filter(repository_name="shop/web", name__regex=r"^t\d+$")
    assert rows.count() == 5000
    assert rows.values("image").distinct().count() == 1


def test_c_p10_what_came_before_the_failing_page_is_kept_as_news(
    evil: Evil, registry: Registry, before: Known
) -> None:
    evil.lay(named("C-P10")[0])
    update(registry)
    names = set(Tag.objects.filter(repository_name="shop/web").values_list("name", flat=True))
    assert {f"page-{number}" for number in range(60)} <= names
    assert kept(before)
    assert marked() == set()


def test_c_p15_the_end_of_the_night_costs_nothing_and_is_said(registry: Registry, before: Known) -> None:
    now = timezone.now()
    sync = Sync.objects.create(
        registry=registry, trigger=SyncTrigger.NIGHTLY, night=now.date(), stop_at=now - timedelta(seconds=1)
    )
    data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.is_complete) == (State.INCOMPLETE, False)
    assert "night" in sync.error_reason
    assert kept(before)
    assert marked() == set()
    assert update(registry).state == State.SUCCEEDED


def test_c_p3_names_are_asked_for_at_the_registry_alone(evil: Evil) -> None:
    with hostile_server() as elsewhere:
        evil.lay(named("C-P3")[0], elsewhere=elsewhere.url)
        assert len(list(lister(evil.server.url).list_projects())) == 3
        assert elsewhere.connections == 0
