"""A data directory another user may pass through: as root, PostgreSQL runs as somebody else."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder with a short path, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tcss-console-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
