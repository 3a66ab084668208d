"""What the page of scan tasks tells of the matching of all known packages."""

import pytest
from django.test import Client
from django.utils import timezone

from scanning.engine_models import MatchNews, MatchRun
from scanning.models import Vulnerability
from tcss.lifecycle import State

pytestmark = pytest.mark.django_db


def test_the_page_of_scan_tasks_tells_how_far_a_matching_is_and_asks_again(admin_client: Client) -> None:
    run = MatchRun.objects.create(
        database_version="demo 2026-11-24 00:00", packages_total=1200, packages_done=40
    )
    page = admin_client.get("/scans/").content.decode()
    assert "Matching with the database of demo 2026-11-24 00:00: 40 of 1,200 packages" in page
    assert "hx-trigger" in page
    MatchRun.objects.filter(pk=run.pk).update(
        state=State.FAILED, error_code="ENG_DB", error_reason="It is damaged.", error_remedy="Get another."
    )
    page = admin_client.get("/scans/").content.decode()
    assert "It is damaged. Get another." in page
    assert "hx-trigger" not in page


def test_the_page_of_scan_tasks_tells_what_a_matching_found_new(admin_client: Client) -> None:
    run = MatchRun.objects.create(
        database_version="demo 2026-11-24 00:00",
        state=State.SUCCEEDED,
        packages_total=3,
        finished_at=timezone.now(),
    )
    page = " ".join(admin_client.get("/scans/").content.decode().split())
    assert "No image got anything new." in page
    for number in range(7):
        flaw = Vulnerability.objects.create(identifier=f"CVE-2026-100{number}")
        MatchNews.objects.create(run=run, vulnerability=flaw, severity=number % 6, image_count=14)
    page = " ".join(admin_client.get("/scans/").content.decode().split())
    assert "14 images got <bdi>CVE-2026-1005</bdi> (critical)" in page
    assert "and 2 more." in page
    assert "hx-trigger" not in page
