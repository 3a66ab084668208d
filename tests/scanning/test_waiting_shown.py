"""How waiting for a registry is shown: calmly, with a time in the server's zone, never as an error."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from images.models import Image
from repositories.models import Pull, Registry
from scanning.models import Part, Scan, ScanTask
from tcss.lifecycle import State
from tcss.templatetags.console import until
from tests.scanning.test_pages import make_task, operator, viewer  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db

LATER = timedelta(minutes=50)


def put_off(*, by_the_registry: bool = False, count: int = 1) -> tuple[ScanTask, datetime]:
    """A task of three scans of which some wait; until when."""
    task = make_task(3)
    registry = Registry.objects.get()
    registry.name = "<b>harbor</b>"
    registry.save()
    at = timezone.now() + LATER
    pks = Scan.objects.order_by("pk").values_list("pk", flat=True)[:count]
    failure = {"error_code": "REG_RATE", "error_reason": "The registry asks for fewer requests."}
    Scan.objects.filter(pk__in=list(pks)).update(
        waits_for=registry, available_at=at, started_at=timezone.now(), **(failure if by_the_registry else {})
    )
    return task, at


def text(page: bytes) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page.decode()).split())


def clock(at: datetime) -> str:
    return text(until(at).encode())


@pytest.mark.parametrize("by_the_registry", [False, True])
def test_list_drawer_and_task_say_what_a_scan_waits_for_and_until_when(
    viewer: Client,  # noqa: F811
    by_the_registry: bool,
) -> None:
    task, at = put_off(by_the_registry=by_the_registry)
    name = "&lt;b&gt;harbor&lt;/b&gt;"
    what = f"Waiting for the registry {name}" if by_the_registry else f"Waiting for {name}&#x27;s limit"
    words = f"{what} until {clock(at)}".replace("&#x27;", "'")
    tag_pk = Image.objects.get(pk=Scan.objects.order_by("pk")[0].image_id).tags.get().pk
    pages = {
        address: viewer.get(address).content
        for address in ("/images/", f"/images/{tag_pk}/", f"/images/{tag_pk}/status/", f"/scans/{task.pk}/")
    }
    for address, page in pages.items():
        assert words in text(page).replace("&#x27;", "'"), address
        assert "badge--fail" not in page.decode()
        assert "notice--fail" not in page.decode()
        assert "<b>harbor" not in page.decode()
    shown = text(pages[f"/images/{tag_pk}/"])
    assert "the scan goes on by itself" in shown
    assert "Attempt 0" not in shown
    # The filter's word stays that of the product.
    for status, is_there in (("scanning", True), ("exception", False)):
        found = text(viewer.get(f"/images/?status={status}").content).replace("&#x27;", "'")
        assert (words in found) == is_there


def test_a_task_tells_how_many_of_it_wait_and_when_the_next_goes_on(viewer: Client) -> None:  # noqa: F811
    task, at = put_off(count=2)
    shown = text(viewer.get(f"/scans/{task.pk}/").content)
    assert "2 of the waiting ones wait for the limit of" in shown
    assert f"the next goes on at {clock(at)}" in shown
    Scan.objects.update(state=State.CANCELLED)
    assert "wait for the limit" not in text(viewer.get(f"/scans/{task.pk}/").content)


def test_a_scan_whose_time_has_come_waits_for_a_worker(viewer: Client) -> None:  # noqa: F811
    task, _ = put_off(count=3)
    Scan.objects.update(available_at=timezone.now())
    shown = text(viewer.get(f"/scans/{task.pk}/").content)
    assert shown.count("Waiting for a worker") == 3
    assert "limit" not in shown


def test_a_scan_between_its_parts_says_what_it_still_waits_for(viewer: Client) -> None:  # noqa: F811
    task = make_task(2)
    Scan.objects.update(part=Part.MALWARE, progress=70)
    shown = text(viewer.get(f"/scans/{task.pk}/").content)
    assert shown.count("Waiting to be looked at for viruses and trojans") == 2
    assert "70%" in shown
    assert shown.count("Waiting to be looked at") == text(viewer.get("/images/").content).count(
        "Waiting to be looked at"
    )


def test_a_time_is_told_in_the_servers_zone_never_too_early_and_with_its_day_if_it_is_another(
    settings: Settings,
) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    with timezone.override("Asia/Shanghai"):
        noon = timezone.localtime().replace(hour=12, minute=0, second=0, microsecond=0)
        assert clock(noon.astimezone(UTC)) == "12:00"
        assert clock(noon.astimezone(UTC) + timedelta(seconds=1)) == "12:01"
        tomorrow = noon + timedelta(days=1)
        assert clock(tomorrow.astimezone(UTC)) == f"{tomorrow:%Y-%m-%d} 12:00"


def test_an_image_repository_says_what_is_left_of_its_limit(viewer: Client) -> None:  # noqa: F811
    make_task(6)
    registry = Registry.objects.get()
    images = list(Image.objects.all())
    addresses = ("/registries/", f"/registries/{registry.pk}/")
    assert all("Unlimited" in text(viewer.get(address).content) for address in addresses)
    Registry.objects.update(hourly_pull_limit=5)
    for image in images[:3]:
        Pull.objects.create(registry=registry, image=image)
    for address in addresses:
        assert "3 of 5 in this hour" in text(viewer.get(address).content)
    for image in images[3:5]:
        Pull.objects.create(registry=registry, image=image)
    oldest = Pull.objects.order_by("granted_at")[0].granted_at
    for address in addresses:
        assert f"Next pull possible at {clock(oldest + timedelta(hours=1))}" in text(
            viewer.get(address).content
        )
