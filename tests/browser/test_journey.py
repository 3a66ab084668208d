"""The main job in a real browser: from the login to an exported list, against real processes."""

import csv
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from demo.faults import Fault
from demo.images import ROBOT
from demo.server import DemoServer
from tests.browser.conftest import PASSWORD, Complaints
from tests.embedded.running_console import Console

pytestmark = pytest.mark.browser

SECONDS = 1000
ORDERS = "shop/backend/orders"


def row(page: Page, repository: str, tag: str) -> Locator:
    """The row of one image version."""
    named = page.locator("tbody tr").filter(
        has=page.locator(".list__name", has_text=re.compile(rf"^\s*{repository}\b"))
    )
    return named.filter(has=page.locator(".list__version", has_text=re.compile(rf"^\s*{re.escape(tag)}\b")))


def agree(page: Page) -> None:
    """OK to the question that was asked."""
    page.locator("#modal[open]").wait_for()
    page.locator("#modal-ok").click()


def nothing_wrong_for_a_screen_reader(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert found == [], [(each["id"], each["nodes"][0]["html"]) for each in found]


def log_in(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def add_the_registry(page: Page, registry: DemoServer, secret: str) -> None:
    page.get_by_role("link", name="Add image repository").click()
    page.get_by_label("Instance name").fill("Demo registry")
    page.get_by_label("Address").fill(registry.url)
    page.get_by_label("Username").fill(ROBOT)
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("#registry-form .notice--fail").first).to_be_visible(timeout=30 * SECONDS)
    page.get_by_label("Password").fill(secret)
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("row").filter(has_text="Demo registry")).to_be_visible(timeout=30 * SECONDS)


def update_the_data(page: Page, registry: DemoServer) -> None:
    # Slow for as long as somebody looks: several listings go on at once.
    registry.faults.add(Fault(match=r"/artifacts", times=None, delay=4.0))
    page.get_by_role("link", name="Repository images").click()
    page.get_by_role("button", name="Data update").first.click()
    page.get_by_role("link", name="Repository images").click()
    expect(page.locator("#scan-panel")).to_contain_text("Data update of Demo registry")
    registry.faults.clear()
    expect(page.locator("#scan-panel")).to_contain_text(
        re.compile(r"Last data update (just now|1 minute)"), timeout=90 * SECONDS
    )
    page.reload()
    expect(row(page, ORDERS, "4.0.2")).to_be_visible()


def test_from_the_login_to_an_exported_list(
    console: Console,
    registry: DemoServer,
    robot_secret: str,
    browser: Browser,
    complaints: Complaints,
    place: Path,
) -> None:
    context = browser.new_context(
        base_url=f"http://127.0.0.1:{console.port}",
        viewport={"width": 1440, "height": 900},
        reduced_motion="reduce",
    )
    page = context.new_page()
    complaints.listen(page)

    log_in(page)
    expect(page.get_by_text("Connect your first image repository")).to_be_visible()
    nothing_wrong_for_a_screen_reader(page)
    add_the_registry(page, registry, robot_secret)
    update_the_data(page, registry)
    # Charts and signatures are not images.
    assert page.locator("tbody tr").filter(has_text="chart").count() == 0

    # Search, filter, sort; each is in the address and survives a reload.
    page.locator("#search").fill("backend")
    expect(page.locator(".list__count")).not_to_contain_text(re.compile(r"^\d\d"))
    expect(page).to_have_url(re.compile(r"\?q=backend$"))
    page.locator("[popovertarget=filter-status]").click()
    page.locator("#filter-status").get_by_label("Not scanned").check()
    page.locator("#filter-status").get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(r"q=backend&status=not_scanned"))
    page.get_by_role("link", name="Image repository address").click()
    expect(page).to_have_url(re.compile(r"sort=name"))
    page.reload()
    expect(page.locator(".chip")).to_have_count(2)
    nothing_wrong_for_a_screen_reader(page)
    page.get_by_role("link", name="Clear all").click()
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#search")).to_have_value("")

    # License, then a scan that is slow enough to be watched and cancelled.
    mine = row(page, ORDERS, "4.0.2")
    mine.get_by_role("button", name="License").click()
    agree(page)
    expect(page.locator("#messages")).to_contain_text("License: 1 licensed.")
    expect(mine).to_contain_text("Licensed")
    slow = Fault(match=r"^GET /v2/.*/blobs/", times=None, delay=2.0)
    registry.faults.add(slow)
    mine.get_by_role("button", name="Scan now").click()
    agree(page)
    expect(mine.locator("progress")).to_be_visible()
    expect(mine).to_contain_text("Pulling layers", timeout=30 * SECONDS)
    # The row is drawn anew while the question stands; OK still means it.
    button = mine.get_by_role("button", name="Cancel scanning")
    asked = button.element_handle()
    button.click()
    page.wait_for_function("button => !button.isConnected", arg=asked)
    agree(page)
    expect(mine.locator(".list__status")).to_contain_text("Cancelled", timeout=60 * SECONDS)

    # Again, at full speed, until its own row says so without a reload.
    registry.faults.clear()
    mine.get_by_role("button", name="Scan again").click()
    agree(page)
    stop = mine.get_by_role("button", name="Cancel scanning")
    stop.click()
    expect(mine.locator(".list__status")).to_contain_text("Scanned", timeout=120 * SECONDS)
    # The scan ended before the answer came: that is told.
    agree(page)
    expect(page.locator("#toasts")).to_contain_text("This has changed meanwhile")
    expect(mine.locator(".counts, .badge--ok").first).to_be_visible()
    # The last poll asked for no other.
    assert page.locator("#live").get_attribute("hx-trigger") is None

    # The drawer, tab by tab.
    mine.get_by_role("link", name="Details").click()
    drawer = page.locator("#drawer[open]")
    expect(drawer).to_contain_text("Image risk")
    expect(drawer).not_to_contain_text("No malware engine has looked at this image yet")
    nothing_wrong_for_a_screen_reader(page)
    drawer.get_by_role("link", name="Vulnerabilities").click()
    finding = drawer.locator("details.finding").first
    expect(finding).to_be_visible()
    finding.locator("summary").click()
    expect(finding).to_contain_text("Fix suggestion")
    nothing_wrong_for_a_screen_reader(page)
    for tab, shown in (
        ("Viruses and trojans", "Looked"),
        ("Sensitive data", re.compile("Where|Nothing found|View details")),
        ("Packages", "Version"),
        ("Build history", "Instruction"),
    ):
        drawer.get_by_role("link", name=tab).click()
        expect(drawer.locator(".detail__tab")).to_contain_text(shown)
    page.keyboard.press("Escape")
    expect(page.locator("#drawer")).not_to_be_visible()
    assert "/images/" in page.url
    assert re.search(r"/images/\d", page.url) is None

    # The filtered list as a file.
    page.locator("#search").fill("backend")
    expect(page).to_have_url(re.compile(r"\?q=backend$"))
    versions = [text.strip() for text in page.locator("tbody .list__version .truncate").all_inner_texts()]
    with page.expect_download() as download:
        page.locator("#export").click()
    file = place / "list.csv"
    download.value.save_as(file)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        exported = list(csv.DictReader(stream))
    assert [each["Image version"] for each in exported] == versions
    assert {each["Status"] for each in exported if each["Image version"] == "4.0.2"} == {"Scanned"}

    assert complaints.heard == []
