"""A console of its own run, the demo registry beside it, and a browser that hears every complaint."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from demo.blobs import BlobStore
from demo.images import ROBOT, build
from demo.server import DemoServer, running
from demo.vulnerability_db import write_bundle
from scanning.engines.trivy import Trivy, find_binary
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from tests.embedded.running_console import Console, started

PASSWORD = "a password for the browser"
# The page that tells of a policy violation is told of in the console, where the test looks.
_TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@dataclass
class Complaints:
    """Everything a page's console said that a clean page does not say."""

    heard: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Hear what this page says from now on."""
        page.add_init_script(_TELL_VIOLATIONS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.heard.append(f"{page.url}: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.heard.append(f"{message.location.get('url')}: {message.text}")


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder with a short path that PostgreSQL's own user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tcss-browser-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def registry(place: Path) -> Iterator[DemoServer]:
    """The demo registry."""
    store = place / "registry"
    with running(store, build(BlobStore(store))) as server:
        yield server


@pytest.fixture
def robot_secret(registry: DemoServer) -> str:
    """The password of the account the console connects with."""
    account = registry.catalog.account(ROBOT)
    assert account is not None
    return account.password


@pytest.fixture
def console(place: Path) -> Iterator[Console]:
    """An empty console with the demo's vulnerability database."""
    data = place / "data"
    bundle = place / "database.tar.gz"
    write_bundle(bundle)
    database = VulnerabilityDatabase(data / "vulnerability-db")
    database.install_bundle(bundle, Trivy(find_binary(None), place / "trivy"), source="the demo's bundle")
    settings = {"TCSS_ADMIN_PASSWORD": PASSWORD, "TCSS_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with started(data, place / "output", **settings) as console:
        yield console


@pytest.fixture
def browser() -> Iterator[Browser]:
    """The machine's Chromium, else the one Playwright brought."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Complaints:
    """What the pages complained of; a test ends by looking."""
    return Complaints()
