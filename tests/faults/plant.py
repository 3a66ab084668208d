"""A console's workers with servers of their own, to be killed: each process by its number."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery
from django.db import connection

from tcss import environment
from tcss.embedded.host import children_of
from tcss.embedded.services import Services, start_throwaway_services

ROOT = Path(__file__).resolve().parents[2]
# What a scan may take to end by itself after any process died.
ENDS_WITHIN = 120.0


def within(seconds: float, condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds, or fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


@dataclass
class Plant:
    """PostgreSQL, Valkey, a scan worker, a control worker and beat, as an installation runs them."""

    directory: Path
    services: Services
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        """The installation's data."""
        return self.directory / "data"

    def environment(self, failpoints: str = "") -> dict[str, str]:
        """What every process of the installation reads."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TCSS_", "PYTEST"))
        }
        return inherited | {
            "DATABASE_URL": self.services.database_url,
            "REDIS_URL": self.services.redis_url,
            "DJANGO_SETTINGS_MODULE": "tcss.settings",
            "TCSS_SECRET_KEY": os.environ["TCSS_SECRET_KEY"],
            "TCSS_FIELD_KEYS": os.environ["TCSS_FIELD_KEYS"],
            "TCSS_DATA_DIR": str(self.data_dir),
            "TCSS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "TCSS_DISK_FLOOR_MB": "16",
            "TCSS_DATABASE_UPDATES": "0",
            "TCSS_FAILPOINTS": failpoints,
        }

    def migrate(self) -> None:
        """Make the tables."""
        (self.data_dir / "beat").mkdir(parents=True)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
            cwd=ROOT,
            env=self.environment(),
            check=True,
            timeout=120,
        )

    def start(self, *, failpoints: str = "", concurrency: int = 2) -> None:
        """Start workers and beat."""
        self.start_worker(failpoints=failpoints, concurrency=concurrency)
        self._launch(
            "control", "worker", "--queues", "control", "--pool", "solo", *_QUIET, "-n", "control@%h"
        )
        self._launch("beat", "beat", "--schedule", str(self.data_dir / "beat" / "schedule"))

    def start_worker(self, *, failpoints: str = "", concurrency: int = 2) -> None:
        """Start the worker that scans."""
        worker = ("worker", "--queues", "scan", "--concurrency", str(concurrency), *_QUIET, "-n", "scan@%h")
        self._launch("scan", *worker, failpoints=failpoints)

    def start_malware_worker(self, *, failpoints: str = "") -> None:
        """Start the worker that looks for viruses and trojans."""
        worker = ("worker", "--queues", "malware", "--concurrency", "1", *_QUIET, "-n", "malware@%h")
        self._launch("malware", *worker, failpoints=failpoints)

    def start_sync_worker(self) -> None:
        """Start the worker that updates data."""
        worker = ("worker", "--queues", "sync", "--concurrency", "1", *_QUIET, "-n", "sync@%h")
        self._launch("sync", *worker)

    def kill_with_children(self, name: str) -> None:
        """SIGKILL one of our processes and all below it, as the end of a container does."""
        process = self.processes.pop(name)
        for pid in (process.pid, *children_of(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def kill_server(self, name: str) -> None:
        """SIGKILL PostgreSQL's postmaster or Valkey; their children follow by themselves."""
        child = next(each for each in self.services.children if each.launch.name == name)
        os.kill(child.pid, signal.SIGKILL)
        self.services.children.remove(child)
        within(30, lambda: child.exit_code() is not None, f"{name} is dead")

    def restart_server(self, name: str) -> None:
        """Start a killed server again in the folder it had; Valkey keeps nothing and comes back empty."""
        again = Services(
            self.services._directory,
            {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "TMPDIR"}},
            durable=False,
            with_postgres=name == "postgres",
            with_valkey=name == "valkey",
        )
        again.start(time.sleep)
        self.services.children += again.children

    def ring(self, scan_pk: int) -> None:
        """Ring a bell as a request does after its commit."""
        with Celery(broker=environment_broker(self.services.redis_url)) as app:
            app.send_task("scanning.run_scan", [scan_pk], queue="scan")

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End everything of ours."""
        for name in list(self.processes):
            self.kill_with_children(name)
        self.services.stop_now()

    def _launch(self, name: str, *arguments: str, failpoints: str = "") -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tcss", *arguments, "--loglevel", "INFO"],
                cwd=ROOT,
                env=self.environment(failpoints),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


_QUIET = ("--without-gossip", "--without-mingle")


def environment_broker(redis_url: str) -> str:
    """Celery's spelling of the address."""
    os.environ["TCSS_TEST_BROKER"] = redis_url
    try:
        return environment.celery_broker("TCSS_TEST_BROKER")
    finally:
        del os.environ["TCSS_TEST_BROKER"]


@contextlib.contextmanager
def running_plant(directory: Path) -> Iterator[Plant]:
    """A plant with its tables; this process's Django looks at its database meanwhile."""
    plant = Plant(directory, start_throwaway_services(directory / "services"))
    try:
        plant.migrate()
        with _looking_at(plant.services.database_url):
            yield plant
    finally:
        plant.stop()


@contextlib.contextmanager
def _looking_at(database_url: str) -> Iterator[None]:
    os.environ["TCSS_TEST_DATABASE"] = database_url
    settings = environment.database("TCSS_TEST_DATABASE")
    del os.environ["TCSS_TEST_DATABASE"]
    connection.close()
    before = {name: connection.settings_dict[name] for name in settings}
    connection.settings_dict.update(settings)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)
