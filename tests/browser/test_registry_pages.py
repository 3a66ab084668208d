"""Connecting an image repository in a real browser: mistakes told in place, and what the test found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from demo.images import ROBOT
from demo.server import DemoServer, running
from repositories.models import Registry, Sync, SyncTrigger
from tcss.lifecycle import State
from tests.browser.conftest import PASSWORD, Complaints
from tests.fakes.certificates import Authority, make_authority
from tests.images import shelf

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def authority() -> Authority:
    return make_authority()


@pytest.fixture
def secure(place: Path, authority: Authority) -> Iterator[DemoServer]:
    """A Harbor 2 behind a certificate of an authority that nobody knows."""
    certificate, key = authority.issue(place)
    with running(place / "secure", certificate=(Path(certificate), Path(key))) as server:
        yield server


@pytest.fixture
def page(
    monkeypatch: pytest.MonkeyPatch,
    browser: Browser,
    live_server: LiveServer,
    complaints: Complaints,
) -> Iterator[Page]:
    """The list of image repositories, in the window of somebody who has logged in."""
    # The browser's driver has an event loop in this thread, which Django takes for a mistake.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    User.objects.create_superuser("admin", password=PASSWORD)
    context = browser.new_context(
        base_url=live_server.url,
        viewport={"width": 1440, "height": 900},
        reduced_motion="reduce",
    )
    page = context.new_page()
    complaints.listen(page)
    page.goto("/login/?next=/registries/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    yield page
    context.close()


def violations(page: Page) -> list[tuple[str, str]]:
    return [(each["id"], each["nodes"][0]["html"]) for each in Axe().run(page).response["violations"]]


def step(page: Page, name: str) -> str:
    """What the connection test says about one of its steps."""
    row = page.get_by_role("region", name="Connection test").get_by_role("row").filter(has_text=name)
    return row.first.inner_text()


def test_every_mistake_is_told_at_its_step_and_the_last_try_connects(
    page: Page, secure: DemoServer, authority: Authority, complaints: Complaints
) -> None:
    account = secure.catalog.account(ROBOT)
    assert account is not None
    shelf.registry(name="Taken")
    page.get_by_role("link", name="Add image repository").first.click()
    page.get_by_label("Instance name").fill("taken")
    page.get_by_label("Version").select_option("V1")
    page.get_by_label("Address").fill(f"{secure.url}/harbor/projects")
    page.get_by_label("Username").fill(ROBOT)
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("This instance name is taken.")).to_be_visible()
    assert violations(page) == []
    # What was typed is still there; the password too, though no page ever holds it.
    expect(page.get_by_label("Password")).to_have_value("not this one")

    page.get_by_label("Instance name").fill("Shop")
    page.get_by_label("Address").fill(secure.url)
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("alert").first).to_contain_text("REG_TLS_UNTRUSTED")
    assert "Failed" in step(page, "Certificate")
    expect(page.get_by_text("The certificate it showed")).to_be_visible()
    expect(page.locator(".certificate")).to_contain_text("authority")
    assert violations(page) == []

    page.get_by_label("Custom CA").fill(authority.pem)
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("alert").first).to_contain_text("This is Harbor 2.x")

    page.get_by_label("Version").select_option("V2")
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("alert").first).to_contain_text("REG_AUTH")
    assert "Failed" in step(page, "Login")

    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("The connection works.")).to_be_visible()
    assert "Passed" in step(page, "Right to pull")
    assert violations(page) == []
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("row").filter(has_text="Shop")).to_contain_text("Connected")
    assert Sync.objects.get().trigger == SyncTrigger.MANUAL
    assert complaints.heard == []


def test_a_changed_address_asks_for_the_password_again_and_an_unchanged_one_keeps_it(
    page: Page, registry: DemoServer, robot_secret: str, complaints: Complaints
) -> None:
    page.get_by_role("link", name="Add image repository").first.click()
    page.get_by_label("Instance name").fill("Shop")
    page.get_by_label("Address").fill(registry.url)
    page.get_by_label("Username").fill(ROBOT)
    page.get_by_label("Password").fill(robot_secret)
    page.get_by_role("button", name="OK").click()
    page.get_by_role("link", name="Edit Shop").click()
    expect(page.get_by_label("Password")).to_have_value("")
    page.get_by_label("Limit").select_option("20")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("row").filter(has_text="Shop")).to_contain_text("20")
    page.get_by_role("link", name="Edit Shop").click()
    page.get_by_label("Address").fill("https://elsewhere.example")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_text("Enter the password again for the new address or username.")).to_be_visible()
    assert Registry.objects.get().address == registry.url
    assert complaints.heard == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_a_registry_in_trouble_says_so_on_every_width(
    page: Page, width: int, scheme: Literal["dark", "light"], complaints: Complaints
) -> None:
    where = shelf.registry(name="In trouble")
    now = timezone.now()
    Registry.objects.filter(pk=where.pk).update(
        address="http://harbor.example:8080",
        health="failing",
        health_code="REG_AUTH",
        health_reason="The registry refuses this username and password.",
        health_remedy="Enter username and password again.",
        health_checked_at=now,
        hourly_pull_limit=5,
        removal_held_since=now,
        removal_held_count=1234,
        last_synced_at=now,
    )
    Sync.objects.create(
        registry=where,
        trigger=SyncTrigger.NIGHTLY,
        state=State.RUNNING,
        stage="Listing images of a/very/long/name/that/goes/on/and/on/in/one/word/until/it/ends",
        projects_seen=12,
        repositories_total=2000,
        repositories_seen=700,
        tags_seen=35000,
        started_at=now,
        lease_until=now + timezone.timedelta(minutes=5),
    )
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for address in ("/registries/", f"/registries/{where.pk}/", f"/registries/{where.pk}/edit/"):
        page.goto(address)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (address, wide)
        assert violations(page) == [], address
    page.goto("/registries/")
    row = page.locator(f"#registry-{where.pk}")
    expect(row).to_contain_text("Unencrypted")
    expect(row).to_contain_text("refuses this username")
    expect(row).to_contain_text("700 of 2,000 repositories")
    page.goto(f"/registries/{where.pk}/")
    expect(
        page.get_by_text("1,234 images are gone from the registry at once; nothing was removed")
    ).to_be_visible()
    assert complaints.heard == []
