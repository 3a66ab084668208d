"""The Repository Images page as people get it: states, rights, actions, live rows, hostile text."""

import re
from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from images.models import ArtifactKind, CategoryStatus, Image, ScanStatus
from licensing.models import Entitlement
from repositories.models import Registry, Sync, SyncTrigger, Tag
from scanning.models import Scan, ScanStep, ScanTask
from tcss.lifecycle import State
from tests.images import shelf

pytestmark = pytest.mark.django_db

PAGE = "/images/"
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/images/"}


def text(response: HttpResponse) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def said(response: HttpResponse) -> str:
    """The last message; earlier ones wait until a page shows them."""
    return [str(message) for message in get_messages(response.wsgi_request)][-1]  # type: ignore[attr-defined]


def licensed(word: str, **columns: object) -> Image:
    return shelf.image(word, is_licensed=True, **columns)


def test_without_a_registry_the_page_leads_an_operator_to_adding_one(operator: Client) -> None:
    page = text(operator.get(PAGE))
    assert "Connect your first image repository" in page
    assert "Add image repository" in page


def test_without_a_registry_a_viewer_learns_who_can_add_one(viewer: Client) -> None:
    page = text(viewer.get(PAGE))
    assert "Somebody with the operator role" in page
    assert "Add image repository" not in page


def test_before_the_first_data_update_the_page_offers_it(operator: Client) -> None:
    Registry.objects.filter(pk=shelf.registry().pk).update(last_synced_at=None)
    page = text(operator.get(PAGE))
    assert "No data update yet" in page
    assert "No images yet" in page


def test_when_nothing_matches_the_filters_can_be_cleared(viewer: Client) -> None:
    shelf.tag(shelf.registry(), "one", content=shelf.image("a"))
    page = text(viewer.get(PAGE, {"q": "nothing-like-this"}))
    assert "Nothing matches" in page
    assert "Clear all filters" in page


def test_a_row_shows_address_type_version_digest_image_id_size_and_status(viewer: Client) -> None:
    tag = shelf.tag(shelf.registry(), "1.2.3", content=shelf.image("a", size=5 * 2**20))
    page = text(viewer.get(PAGE))
    for shown in (
        "shop/api", "main.example.org", "Harbor", "1.2.3", tag.manifest_digest[7:19], "linux/amd64",
        shelf.digest("image a")[7:19], "5.0 MB", "Not licensed", "Not scanned",
    ):  # fmt: skip
        assert shown in page


def test_an_exception_shows_its_cause_and_an_image_nobody_looked_into_shows_no_zeros(viewer: Client) -> None:
    failing = shelf.image(
        "a", scan_status=ScanStatus.EXCEPTION, error_code="REG_TIMEOUT", error_reason="It did not answer."
    )
    shelf.tag(shelf.registry(), "1", content=failing)
    page = text(viewer.get(PAGE))
    assert "Scan exception" in page
    assert "It did not answer." in page
    assert 'title="Critical"' not in page


def test_no_risk_is_claimed_only_where_vulnerabilities_were_looked_for(viewer: Client) -> None:
    where = shelf.registry()
    seen = {"scan_status": ScanStatus.SCANNED, "last_scanned_at": timezone.now()}
    shelf.tag(where, "1", content=shelf.image("a", vulnerabilities_status=CategoryStatus.UNSUPPORTED, **seen))
    shelf.tag(where, "2", content=shelf.image("b", sensitive_status=CategoryStatus.SCANNED, **seen))
    page = text(viewer.get(PAGE))
    assert "Distribution unknown" in page
    assert "Vulnerabilities not scanned" in page
    assert 'badge--ok">No risk found' not in page


def test_htmx_gets_the_list_alone_and_the_address_without_empty_fields(viewer: Client) -> None:
    shelf.tag(shelf.registry(), "one", content=shelf.image("a"))
    response = viewer.get(PAGE, {"q": "", "sort": "-pushed", "status": "not_scanned"}, headers=HTMX)
    assert "<html" not in response.content.decode()
    assert 'id="images"' in response.content.decode()
    assert response["HX-Push-Url"] == "/images/?status=not_scanned"
    assert "HX-Request" in response["Vary"]


def test_a_current_page_that_is_no_address_costs_only_the_comparison_with_it(viewer: Client) -> None:
    response = viewer.get("/images/", headers={"HX-Request": "true", "HX-Current-URL": "http://["})
    assert response["HX-Push-Url"] == "/images/"


def test_the_back_button_gets_the_whole_page(viewer: Client) -> None:
    shelf.registry()
    response = viewer.get(PAGE, headers={**HTMX, "HX-History-Restore-Request": "true"})
    assert "<html" in response.content.decode()


def test_the_panel_counts_every_image_id_once_and_charts_never(viewer: Client) -> None:
    where = shelf.registry()
    both = shelf.image(
        "a", worst_severity=5, critical_count=2, vulnerability_count=2,
        vulnerabilities_status=CategoryStatus.SCANNED, last_scanned_at=shelf.START,
    )  # fmt: skip
    shelf.tag(where, "1", content=both)
    shelf.tag(where, "2", content=both)
    shelf.tag(where, "3", content=shelf.image("b", vulnerabilities_status=CategoryStatus.FAILED))
    shelf.tag(where, "chart", kind=ArtifactKind.CHART)
    shelf.image("gone", worst_severity=5, critical_count=7)
    panel = viewer.get(PAGE).context["panel"].totals
    assert (panel.images, panel.at_risk, panel.vulnerabilities, panel.scanned) == (2, 1, 2, 1)
    assert [each.count for each in panel.by_severity] == [2, 0, 0, 0, 0, 0]


def test_the_panel_tells_a_running_and_a_failed_data_update_and_polls_while_one_runs(viewer: Client) -> None:
    good, bad = shelf.registry("good"), shelf.registry("bad")
    sync = Sync.objects.create(registry=good, trigger=SyncTrigger.MANUAL, state=State.RUNNING, tags_seen=1234)
    Sync.objects.create(
        registry=bad, trigger=SyncTrigger.MANUAL, state=State.FAILED, error_code="REG_AUTH",
        error_reason="The password was refused.",
    )  # fmt: skip
    page = text(viewer.get("/images/panel/"))
    assert "1,234 image versions so far" in page
    assert "The password was refused." in page
    assert 'hx-trigger="every' in page
    Sync.objects.filter(pk=sync.pk).update(state=State.SUCCEEDED)
    assert 'hx-trigger="every' not in text(viewer.get("/images/panel/"))


def test_rows_poll_only_while_something_is_scanning(viewer: Client) -> None:
    where = shelf.registry()
    busy = shelf.image("a", scan_status=ScanStatus.SCANNING)
    scan = Scan.objects.create(image=busy, state=State.RUNNING, step=ScanStep.PULL, progress=42)
    tag = shelf.tag(where, "1", content=busy)
    page = text(viewer.get(PAGE))
    assert f"/images/rows/?id={tag.pk}" in page
    assert "42%" in page
    assert "Pulling layers" in page
    Scan.objects.filter(pk=scan.pk).update(state=State.SUCCEEDED)
    Image.objects.filter(pk=busy.pk).update(scan_status=ScanStatus.SCANNED)
    row = text(viewer.get("/images/rows/", {"id": tag.pk}, headers=HTMX))
    assert f'<template> <tr id="row-{tag.pk}" hx-swap-oob="true">' in row
    assert "every 2s" not in row


def test_one_row_is_scanned_by_its_own_button_whatever_is_marked(operator: Client) -> None:
    where = shelf.registry()
    one = shelf.tag(where, "1", content=licensed("a"))
    other = shelf.tag(where, "2", content=licensed("b"))
    response = operator.post("/images/scan/", {"id": [other.pk], "only": one.pk, "back": "/images/?q=shop"})
    assert (response.status_code, response["Location"]) == (303, "/images/?q=shop")
    assert said(response) == "Scan: 1 started."
    assert [scan.image_id for scan in Scan.objects.all()] == [one.image_id]


def test_a_batch_tells_what_became_of_each(operator: Client) -> None:
    where = shelf.registry()
    shared = licensed("a")
    busy = licensed("b", scan_status=ScanStatus.SCANNING)
    Scan.objects.create(image=busy)
    tags = [
        shelf.tag(where, "1", content=shared),
        shelf.tag(where, "2", content=shared),
        shelf.tag(where, "3", content=busy),
        shelf.tag(where, "4", content=shelf.image("c")),
        shelf.tag(where, "5"),
    ]
    ids = [str(each.pk) for each in tags]
    response = operator.post("/images/scan/", {"id": [*ids, ids[0], "0", "-1", "1 OR 1", "1.5", str(2**63)]})
    assert said(response) == (
        "Scan: 1 started, 1 already scanning, 1 not licensed, 1 not read yet, 5 no longer there."
    )


def test_nothing_selected_is_said_and_does_nothing(operator: Client) -> None:
    for action, word in (("scan", "Scan"), ("cancel", "Cancel scanning"), ("license", "License")):
        assert said(operator.post(f"/images/{action}/")) == f"{word}: nothing was selected."
    assert not ScanTask.objects.exists()


def test_licenses_go_to_image_ids_and_run_out(operator: Client) -> None:
    Entitlement.objects.update(quantity=1, used=0)
    where = shelf.registry()
    first = shelf.image("a")
    tags = [shelf.tag(where, "1", content=first), shelf.tag(where, "2", content=first)]
    ids = [each.pk for each in tags]
    assert said(operator.post("/images/license/", {"id": ids})) == "License: 1 licensed."
    assert said(operator.post("/images/license/", {"id": ids})) == "License: 1 already licensed."
    more = shelf.tag(where, "3", content=shelf.image("b"))
    response = operator.post("/images/license/", {"only": more.pk})
    assert said(response) == "License: 1 refused: no license is left."


def test_cancelling_stops_what_is_scanning(operator: Client) -> None:
    where = shelf.registry()
    busy = licensed("a", scan_status=ScanStatus.SCANNING)
    scan = Scan.objects.create(image=busy)
    tags = [shelf.tag(where, "1", content=busy), shelf.tag(where, "2", content=licensed("b"))]
    response = operator.post("/images/cancel/", {"id": [each.pk for each in tags]})
    assert said(response) == "Cancel scanning: 1 stopped, 1 not scanning."
    scan.refresh_from_db()
    assert scan.state == State.CANCELLED


@pytest.mark.parametrize(
    "back",
    [
        *("https://evil.example", "//evil.example/images/", "/admin/", "", "/images/\\@x"),
        *("/images/?q=a\r\nX-Canary: 1", "/images/?q=\n", "/images/\0"),
    ],
)
def test_an_action_leads_back_to_the_list_and_nowhere_else(operator: Client, back: str) -> None:
    location = operator.post("/images/scan/", {"back": back})["Location"]
    assert location.startswith("/images/")


def test_a_viewer_sees_no_buttons_and_is_refused(viewer: Client) -> None:
    tag = shelf.tag(shelf.registry(), "1", content=licensed("a"))
    assert 'formaction="/images/scan/"' not in viewer.get(PAGE).content.decode()
    for action in ("scan", "cancel", "license"):
        assert viewer.post(f"/images/{action}/", {"id": tag.pk}).status_code == 403
    assert not Scan.objects.exists()


@pytest.mark.parametrize("count", [3, 90])
def test_the_page_costs_at_most_twelve_queries_whatever_it_shows(
    operator: Client, count: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    where = shelf.registry()
    for number in range(count):
        content = licensed(str(number), scan_status=ScanStatus.SCANNING) if number % 3 else None
        shelf.tag(where, f"v{number}", content=content, pushed_at=shelf.START + timedelta(hours=number))
    Scan.objects.bulk_create([Scan(image=each) for each in Image.objects.all()])
    with django_assert_max_num_queries(12):
        operator.get(
            PAGE, {"size": 100, "sort": "-severity", "q": "shop", "status": ["scanning", "not_scanned"]}
        )


def test_hostile_names_are_inert(viewer: Client) -> None:
    where = shelf.registry()
    Registry.objects.update(name="<script>alert(1)</script>", address="https://<img src=x>")
    hostile = shelf.image("a", os="\u202egnp.exe", architecture='"><svg onload=alert(2)>')
    shelf.tag(where, '"><script>alert(3)</script>', repository="a'onmouseover=alert(4)", content=hostile)
    page = viewer.get(PAGE).content.decode()
    for active in ("<script>alert", "<img src=x>", "<svg onload", "\u202e", "'onmouseover=alert(4)\""):
        assert active not in page
    assert "\\u202egnp.exe" in page


def test_no_page_has_a_style_or_a_script_of_its_own(viewer: Client) -> None:
    tag = shelf.tag(shelf.registry(), "1", content=shelf.image("a", history=[{"created_by": "RUN x"}]))
    tabs = ["", "vulnerabilities/", "malware/", "sensitive/", "packages/", "history/"]
    for page in [PAGE, *(f"{PAGE}{tag.pk}/{tab}" for tab in tabs)]:
        body = viewer.get(page).content.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)", body), page


def test_rows_of_a_deleted_image_version_are_left_out_of_a_poll(viewer: Client) -> None:
    tag = shelf.tag(shelf.registry(), "1", content=shelf.image("a"))
    Tag.objects.all().delete()
    assert "<tr" not in viewer.get("/images/rows/", {"id": [tag.pk, "x", "-3"]}).content.decode()
