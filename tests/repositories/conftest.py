"""The demo registry, and a console that is connected to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from demo import tencent, tencent_samples
from demo.blobs import BlobStore
from demo.catalog import Catalog
from demo.images import OPERATOR, build
from demo.server import DemoServer, running
from demo.tencent import DemoCloud
from demo.tencent_model import CloudContent
from repositories.credentials import Secret
from repositories.models import CloudAccount, Registry
from repositories.registries import tencent_api


@pytest.fixture(scope="session")
def demo_content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Catalog]:
    """The demo registry's blobs and what it holds, built once."""
    directory = tmp_path_factory.mktemp("demo-registry")
    return directory, build(BlobStore(directory))


@pytest.fixture
def demo(demo_content: tuple[Path, Catalog]) -> Iterator[DemoServer]:
    """A demo registry of the test's own, over the shared blobs."""
    directory, catalog = demo_content
    with running(directory, catalog) as server:
        yield server


@pytest.fixture
def password(demo_content: tuple[Path, Catalog]) -> str:
    """The password of the demo registry's operator."""
    account = demo_content[1].account(OPERATOR)
    assert account is not None
    return account.password


@pytest.fixture
def make_registry(db: None, password: str) -> Callable[..., Registry]:
    """Saves a registry; without more words, one that leads to the demo registry with the right password."""

    def make(address: str, **fields: object) -> Registry:
        words: dict[str, object] = {
            "name": f"Registry {Registry.objects.count() + 1}",
            "address": address,
            "username": OPERATOR,
            "password": Secret.of(password),
        }
        return Registry.objects.create(**{**words, **fields})

    return make


@pytest.fixture
def registry(demo: DemoServer, make_registry: Callable[..., Registry]) -> Registry:
    """The demo registry, connected."""
    return make_registry(demo.url, name="Demo")


@pytest.fixture(scope="session")
def cloud_content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CloudContent]:
    """The demo cloud's blobs and what its account holds, built once."""
    directory = tmp_path_factory.mktemp("demo-cloud")
    return directory, tencent_samples.build(BlobStore(directory))


@pytest.fixture
def cloud(cloud_content: tuple[Path, CloudContent]) -> Iterator[DemoCloud]:
    """A demo cloud of the test's own, over the shared blobs; a wrong request fails the test."""
    directory, content = cloud_content
    with tencent.running(directory, content) as server:
        yield server
        assert server.unexpected == []


@pytest.fixture
def cloud_account(
    db: None, cloud: DemoCloud, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> CloudAccount:
    """The demo cloud's account, entered with all it has, and the console pointed at that cloud."""
    settings.TENCENT_ENDPOINT = cloud.api_url
    # Every test's cloud is another; the account is the same.
    monkeypatch.setattr(tencent_api, "_rates", {})
    known = cloud.account
    return CloudAccount.objects.create(
        secret_id=known.secret_id,
        secret_key=Secret.of(known.secret_key),
        personal_username=known.uin,
        personal_password=Secret.of(known.personal_password),
        regions=["ap-guangzhou", "ap-singapore"],
    )
