"""What every test has: a PostgreSQL and a Valkey of its own run, never a developer's."""

import base64
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import django
import pytest

from tcss.embedded.services import Services, start_throwaway_services

_ON_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_DIRECTORY = "TCSS_TEST_DIRECTORY"


def _worker_number() -> int:
    """0 for a run without workers, else the number of this worker from 1."""
    return int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) + 1 if _ON_WORKER else 0


def _prepare_environment() -> Services | None:
    """Starts the servers, sets what Django's settings read, and loads them.

    The controlling process starts the servers; its workers inherit the addresses and take a Valkey
    database each.
    """
    services = None
    if not _ON_WORKER:
        for name in [name for name in os.environ if name.startswith("TCSS_") or name.endswith("_URL_FILE")]:
            del os.environ[name]
        directory = Path(tempfile.mkdtemp(prefix="tcss-test-"))
        # Root's PostgreSQL runs as another user, who must get through.
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        services = start_throwaway_services(directory / "services")
        os.environ[_DIRECTORY] = str(directory)
        os.environ["DATABASE_URL"] = services.database_url
        os.environ["REDIS_URL"] = services.redis_url
        os.environ["TCSS_SECRET_KEY"] = secrets.token_urlsafe(48)
        os.environ["TCSS_FIELD_KEYS"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        os.environ["TCSS_DATABASE_UPDATES"] = "0"
        # The demo registry and the fakes listen here.
        os.environ["TCSS_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    number = _worker_number()
    os.environ["REDIS_URL"] = os.environ["REDIS_URL"].replace("?db=0", f"?db={number}")
    os.environ["TCSS_DATA_DIR"] = f"{os.environ[_DIRECTORY]}/data-{number}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "tcss.settings"
    django.setup()
    if not _ON_WORKER:
        # A worker that found this would load the settings before it has set its own environment.
        del os.environ["DJANGO_SETTINGS_MODULE"]
    return services


_services = _prepare_environment()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the servers with the run."""
    global _services
    if _services is not None:
        _services.stop_now()
        _services = None
        shutil.rmtree(os.environ[_DIRECTORY], ignore_errors=True)
