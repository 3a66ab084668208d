"""Pages in a real browser: without JavaScript, by keyboard, dark and narrow, with hostile text."""

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from images.models import NEVER, CategoryStatus, Image, ScanStatus
from licensing.models import Entitlement, EntitlementKind
from repositories.models import Tag
from scanning.models import Scan, ScanStep
from tcss.lifecycle import State
from tests.browser.conftest import PASSWORD, Complaints
from tests.images import shelf

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.exe'


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, live_server: LiveServer) -> list[Tag]:
    """Three pages of image versions in every state, some with hostile names; and somebody to look at them."""
    # The browser's driver has an event loop in this thread, which Django takes for a mistake.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    User.objects.create_superuser("admin", password=PASSWORD)
    # A test like these empties every table behind it, also of what a migration put there.
    Entitlement.objects.get_or_create(kind=EntitlementKind.BUILT_IN, defaults={"quantity": 1000})
    where = shelf.registry()
    tags = []
    for number in range(45):
        status = list(ScanStatus)[number % 5]
        looked = status == ScanStatus.SCANNED
        image = shelf.image(
            str(number),
            size=number * 10**6,
            is_licensed=number % 4 > 0,
            scan_status=status,
            critical_count=number if looked else 0,
            vulnerability_count=number if looked else 0,
            worst_severity=5 if looked and number else -1,
            vulnerabilities_status=CategoryStatus.SCANNED if looked else CategoryStatus.NOT_SCANNED,
            last_scanned_at=shelf.START if looked else NEVER,
            error_code="REG_TIMEOUT" if status == ScanStatus.EXCEPTION else "",
            error_reason="It did not answer in time." if status == ScanStatus.EXCEPTION else "",
            labels={HOSTILE: HOSTILE},
            history=[{"created_by": HOSTILE}],
        )
        if status == ScanStatus.SCANNING:
            Scan.objects.create(image=image, state=State.RUNNING, step=ScanStep.PULL, progress=number * 2)
        tags.append(shelf.tag(where, f"v{number}", repository=f"shop/{number % 3}", content=image))
    return tags


@pytest.fixture(params=["light", "dark"])
def context(
    request: pytest.FixtureRequest, shop: list[Tag], browser: Browser, live_server: LiveServer
) -> Iterator[BrowserContext]:
    """A window of somebody who has logged in."""
    context = browser.new_context(
        base_url=live_server.url,
        color_scheme=request.param,
        viewport={"width": 1440, "height": 900},
        reduced_motion="reduce",
    )
    log_in(context)
    yield context
    context.close()


def log_in(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/images/")
    page.close()


def violations(page: Page) -> list[tuple[str, str]]:
    return [(each["id"], each["nodes"][0]["html"]) for each in Axe().run(page).response["violations"]]


def test_no_page_has_a_violation_of_accessibility_or_policy(
    context: BrowserContext, shop: list[Tag], complaints: Complaints
) -> None:
    page = context.new_page()
    complaints.listen(page)
    details = f"/images/{shop[0].pk}/"
    tabs = [
        details + tab for tab in ("", "vulnerabilities/", "malware/", "sensitive/", "packages/", "history/")
    ]
    for address in (
        "/images/", "/images/?q=nothing", "/images/?status=nonsense", *tabs, "/registries/",
        "/registries/add/", f"/registries/{shop[0].registry_id}/webhook/", "/scans/", "/scans/new/",
        "/licenses/",
    ):  # fmt: skip
        page.goto(address)
        assert violations(page) == [], address
    page.goto("/images/")
    page.locator("[popovertarget=filter-security]").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("[data-select-all]").check()
    page.get_by_role("group", name="Selected images").get_by_role("button", name="License").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert complaints.heard == []
    page.goto("/images/999999/")
    assert violations(page) == []


def test_everything_works_without_javascript(
    shop: list[Tag], browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    log_in(context)
    page = context.new_page()
    page.goto("/images/")
    page.locator("#search").fill("shop/1")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(15)
    page.locator("[popovertarget=filter-licensing]").click()
    page.locator("#filter-licensing").get_by_label("Not licensed").check()
    page.locator("#filter-licensing").get_by_role("button", name="Apply").click()
    expect(page.locator(".chip")).to_have_count(2)
    page.get_by_role("link", name="Size").click()
    assert "sort=-size" in page.url
    expect(page.locator(".chip")).to_have_count(2)
    page.get_by_role("link", name="Clear all").click()
    page.locator("tbody tr").filter(has_text="Not licensed").first.get_by_role(
        "button", name="License"
    ).click()
    expect(page.locator("#messages")).to_contain_text("License: 1 licensed.")
    page.locator("tbody input[name=id]").nth(1).check()
    page.get_by_role("group", name="Selected images").get_by_role("button", name="License").click()
    expect(page.locator("#messages")).to_contain_text(re.compile("License: 1 (already )?licensed"))
    page.get_by_role("link", name="Details").first.click()
    expect(page.get_by_role("heading", name="Image risk")).to_be_visible()
    page.get_by_role("link", name="Build history").click()
    expect(page.locator(".detail__tab")).to_contain_text("<script>alert(1)</script>")
    context.close()


def test_a_keyboard_opens_the_drawer_moves_through_its_tabs_and_comes_back(
    shop: list[Tag], browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(base_url=live_server.url, viewport={"width": 1440, "height": 900})
    log_in(context)
    page = context.new_page()
    page.goto("/images/?status=scanned")
    opener = page.get_by_role("link", name="Details").first
    opener.focus()
    page.keyboard.press("Enter")
    drawer = page.locator("#drawer[open]")
    expect(drawer.get_by_role("heading", name="Image risk")).to_be_visible()
    drawer.get_by_role("link", name="Packages").focus()
    page.keyboard.press("Enter")
    expect(drawer.locator("[aria-current=page]")).to_have_text(re.compile("Packages"))
    page.keyboard.press("Escape")
    expect(page.locator("#drawer")).not_to_be_visible()
    expect(opener).to_be_focused()
    context.close()


def test_a_range_is_selected_with_shift_and_stays_while_rows_are_drawn_anew(
    shop: list[Tag], browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(base_url=live_server.url, viewport={"width": 1440, "height": 900})
    log_in(context)
    page = context.new_page()
    page.goto("/images/?sort=name")
    boxes = page.locator("tbody input[name=id]")
    boxes.nth(2).click()
    boxes.nth(8).click(modifiers=["Shift"])
    expect(page.locator("#selected-count")).to_have_text("7 selected")
    with page.expect_response("**/images/rows/**"):
        pass
    page.wait_for_function("document.querySelectorAll('tbody input[name=id]:checked').length === 7")
    boxes.nth(3).click()
    expect(page.locator("#selected-count")).to_have_text("6 selected")
    context.close()


def test_several_values_of_a_filter_apply_when_its_menu_closes(
    shop: list[Tag], browser: Browser, live_server: LiveServer
) -> None:
    context = browser.new_context(base_url=live_server.url, viewport={"width": 1440, "height": 900})
    log_in(context)
    page = context.new_page()
    page.goto("/images/")
    page.locator("[popovertarget=filter-status]").click()
    page.locator("#filter-status").get_by_label("Scan exception").check()
    page.locator("#filter-status").get_by_label("Cancelled").check()
    page.keyboard.press("Escape")
    expect(page).to_have_url(
        re.compile(r"\?status=exception&status=cancelled$|\?status=cancelled&status=exception$")
    )
    expect(page.locator("tbody tr")).to_have_count(18)
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(45)
    context.close()


@pytest.mark.parametrize("width", [390, 768, 1024, 1440])
def test_no_page_is_wider_than_its_window(
    shop: list[Tag], browser: Browser, live_server: LiveServer, width: int
) -> None:
    context = browser.new_context(base_url=live_server.url, viewport={"width": width, "height": 900})
    log_in(context)
    page = context.new_page()
    for address in (
        "/images/",
        f"/images/{shop[0].pk}/",
        "/registries/",
        "/registries/add/",
        "/scans/",
        "/licenses/",
    ):
        page.goto(address)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (address, wide)
    assert Image.objects.count() == 45
    context.close()
