"""A plant of real processes, and the demo registry's images known to it."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker, Settings

from demo.vulnerability_db import write
from scanning.engines.trivy import Trivy, find_binary
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from tests.faults.plant import Plant, running_plant
from tests.scanning.conftest import sample_images, server  # noqa: F401 - fixtures
from tests.scanning.world import World, register


@pytest.fixture
def plant(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker, settings: Settings
) -> Iterator[Plant]:
    """Servers and tables; the test starts the workers."""
    directory = tmp_path_factory.mktemp("plant")
    # Root's PostgreSQL runs as another user, who must get through.
    for each in (directory, *directory.parents[:2]):
        each.chmod(0o755)
    with django_db_blocker.unblock(), running_plant(directory) as running:
        settings.DATA_DIR = running.data_dir
        write(directory / "bundle")
        database = VulnerabilityDatabase(running.data_dir / "vulnerability-db")
        database.install_bundle(
            directory / "bundle", Trivy(find_binary(None), directory / "work"), source="demo"
        )
        yield running


@pytest.fixture
def known(plant: Plant, server: object) -> World:  # noqa: F811
    """What the plant's console knows of the demo registry."""
    return register(server)  # type: ignore[arg-type]
