"""A small registry that was good once, and a console that was updated from it then."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo.blobs import BlobStore
from demo.catalog import Account, Catalog, Grant
from demo.evil import Evil, enchanted
from demo.images import build
from demo.server import running
from images.models import Image, ScanStatus
from repositories.credentials import Secret
from repositories.models import Registry
from repositories.registries import client
from repositories.registries.client import RegistryHTTP
from tcss.lifecycle import State
from tests.evil.world import OPERATOR, PASSWORD, SHORT, Known, known, update

KEPT = {"library": {"alpine"}, "shop": {"web"}, "payments": {"core/settlement"}}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long pauses between attempts."""
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of less than a second and two attempts, for every client of a registry."""
    original = RegistryHTTP.__init__

    def hurried(self: RegistryHTTP, *arguments: object, **fields: object) -> None:
        original(self, *arguments, **fields)  # type: ignore[arg-type]
        self.limits, self.tries = SHORT, 2

    monkeypatch.setattr(RegistryHTTP, "__init__", hurried)


@pytest.fixture(scope="session")
def evil_content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Catalog]:
    """Three repositories of the demo registry, one in each of three projects."""
    directory = tmp_path_factory.mktemp("evil-registry")
    whole = build(BlobStore(directory))
    projects = tuple(
        replace(
            project,
            repositories=tuple(each for each in project.repositories if each.name in KEPT[project.name]),
        )
        for project in whole.projects
        if project.name in KEPT
    )
    account = Account(OPERATOR, PASSWORD, grants=(Grant("*", role_id=2),))
    return directory, replace(whole, projects=projects, accounts=(account,))


@pytest.fixture
def evil(evil_content: tuple[Path, Catalog]) -> Iterator[Evil]:
    """The small registry, good until a scenario is laid over it."""
    with running(*evil_content) as server, enchanted(server) as evil:
        yield evil


@pytest.fixture
def connect(db: None) -> Callable[..., Registry]:
    """Saves a registry with the right account; without more words, one that validates certificates."""

    def saved(address: str, **fields: object) -> Registry:
        words: dict[str, object] = {
            "name": f"Registry {Registry.objects.count() + 1}",
            "address": address,
            "username": OPERATOR,
            "password": Secret.of(PASSWORD),
        }
        return Registry.objects.create(**{**words, **fields})

    return saved


@pytest.fixture
def registry(evil: Evil, connect: Callable[..., Registry], short_limits: None) -> Registry:
    """The small registry, connected and updated once while it was good; its images have results.

    One image was pushed since.
    """
    registry = connect(evil.server.url)
    whole = evil.server.catalog
    newest = whole.repository("shop/web").find("latest")  # type: ignore[union-attr]
    assert newest is not None
    evil.server.catalog = whole.without_artifact("shop", "web", newest.digest)
    assert update(registry).state == State.SUCCEEDED
    # Something is pushed before the registry turns evil, so that there is content to be read.
    evil.server.catalog = whole
    Image.objects.update(critical_count=2, vulnerability_count=2, scan_status=ScanStatus.SCANNED)
    evil.server.requests.clear()
    return registry


@pytest.fixture
def before(registry: Registry) -> Known:
    """What the console knew when the registry turned evil."""
    return known()


@pytest.fixture
def older(evil_content: tuple[Path, Catalog]) -> Iterator[Evil]:
    """The small registry as a Harbor 1."""
    with running(*evil_content, face="harbor1") as server, enchanted(server) as evil:
        yield evil
