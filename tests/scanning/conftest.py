"""A demo registry with the sample images, and a folder of its own for every test's blobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from demo.blobs import BlobStore
from demo.catalog import Catalog
from demo.images import build
from demo.server import DemoServer, running
from demo.vulnerability_db import write
from scanning.engines.trivy import Trivy, find_binary
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from tests.scanning.world import World, register


@pytest.fixture(scope="session")
def sample_images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Catalog]:
    directory = tmp_path_factory.mktemp("demo")
    return directory, build(BlobStore(directory))


@pytest.fixture
def server(sample_images: tuple[Path, Catalog]) -> Iterator[DemoServer]:
    directory, catalog = sample_images
    with running(directory, catalog) as server:
        yield server


@pytest.fixture
def data_dir(tmp_path: Path, settings: Settings) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DISK_FLOOR_BYTES = 0
    return settings.DATA_DIR


@pytest.fixture
def world(transactional_db: None, server: DemoServer, data_dir: Path) -> World:
    return register(server)


@pytest.fixture(scope="session")
def installed_database(tmp_path_factory: pytest.TempPathFactory) -> VulnerabilityDatabase:
    """The demo's vulnerability database, checked and in use, in a folder of its own."""
    root = tmp_path_factory.mktemp("database")
    write(root / "bundle")
    database = VulnerabilityDatabase(root / "installed")
    database.install_bundle(root / "bundle", Trivy(find_binary(None), root / "work"), source="demo")
    return database


@pytest.fixture
def database(data_dir: Path, installed_database: VulnerabilityDatabase) -> VulnerabilityDatabase:
    """The console has a vulnerability database."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "vulnerability-db").symlink_to(installed_database.root)
    return installed_database
