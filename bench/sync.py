"""What a data update costs beside a bare client of the same concurrency: `make bench-sync`.

The registry, PostgreSQL, the data update and the bare client run in processes of their own on this machine.
One line is printed a figure, and the exit code is 1 where a goal was not met.
"""

import argparse
import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tcss.embedded.services import start_throwaway_services

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = ("repositories_repository", "repositories_tag", "images_%")
MIB = 2**20
# The shortest runs last a second, and one alone says little: the middle one of so many pairs counts.
PAIRS = 7
SHORT_SECONDS = 60
# Of the adaptive concurrency: the bare client always asks as much as the data update may at most.
CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Size:
    """How large the registry is."""

    projects: int
    repositories: int = 10
    artifacts: int = 20
    tags: int = 50

    def arguments(self) -> list[str]:
        """For the registry's command line."""
        named = {
            "projects": self.projects,
            "repositories": self.repositories,
            "artifacts": self.artifacts,
            "tags": self.tags,
        }
        return [word for name, value in named.items() for word in (f"--{name}", str(value))]

    @property
    def all_tags(self) -> int:
        """Images in the whole registry."""
        return self.projects * self.repositories * self.tags


FULL = {"harbor2": Size(200), "harbor1": Size(40), "tcr": Size(40)}


class Figures:
    """Prints figures and remembers whether all goals were met."""

    def __init__(self) -> None:
        self.short = 0

    def say(self, name: str, value: float, goal: float, unit: str) -> None:
        """One figure that has to be at most ``goal``."""
        passed = value <= goal
        self.short += not passed
        print(f"{name}: {value:.2f}{unit} (goal: at most {goal:g}{unit}) {'PASS' if passed else 'SHORT'}")
        sys.stdout.flush()

    def note(self, name: str, value: float, unit: str) -> None:
        """One figure without a goal."""
        print(f"{name}: {value:.2f}{unit}")
        sys.stdout.flush()


@contextlib.contextmanager
def registry(face: str, size: Size, directory: Path) -> Iterator[str]:
    """The address of a running benchmark registry."""
    file = directory / f"{face}.url"
    command = [
        sys.executable,
        "-m",
        "bench.registry",
        "--face",
        face,
        "--announce",
        str(file),
        *size.arguments(),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not file.exists():
            if process.poll() is not None:
                raise RuntimeError("the benchmark's registry did not start")
            time.sleep(0.1)
        yield file.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def database(directory: Path) -> Iterator[str]:
    """The address of a new PostgreSQL with the console's tables, which the environment knows too."""
    services = start_throwaway_services(directory / "services")
    try:
        os.environ |= {
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
            "TCSS_DATA_DIR": str(directory / "data"),
            "TCSS_SECRET_KEY": secrets.token_urlsafe(48),
            "TCSS_FIELD_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "TCSS_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, check=True)
        yield services.database_url
    finally:
        services.stop_now()


def rows_written(url: str) -> int:
    """Rows of the inventory inserted, changed and deleted so far."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables "
            "WHERE relname LIKE ANY (%s)",
            [list(INVENTORY)],
        )
        [(rows,)] = cursor.fetchall()
        return int(rows)


def update(face: str, url: str) -> dict[str, Any]:
    """Run one data update; what it took."""
    command = [*os.environ.get("BENCH_WRAP", "").split(), sys.executable, "-m", "bench.update", face, url]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))
    if found["state"] != "succeeded":
        raise RuntimeError(f"the data update ended as {found['state']}: {found['reason']}")
    return found


def bare(face: str, url: str, *, contents: bool) -> float:
    """Seconds the bare client takes."""
    what = "contents" if contents else "listing"
    command = [sys.executable, "-m", "bench.bare", face, url, str(CONCURRENCY), what]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(ran.stdout.split()[0])


def compare(face: str, size: Size, figures: Figures) -> None:
    """All figures of one kind of registry."""
    with tempfile.TemporaryDirectory(prefix="tcss-bench-") as name:
        directory = Path(name)
        # Root's PostgreSQL runs as another user, who must get through.
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        with database(directory) as database_url, registry(face, size, directory) as url:
            whole = bare(face, url, contents=True)
            first = update(face, url)
            if first["tags"] != size.all_tags:
                raise RuntimeError(f"{first['tags']} of {size.all_tags} images were listed")
            written = rows_written(database_url)
            pairs = [
                (bare(face, url, contents=False), update(face, url))
                for _ in range(PAIRS if whole < SHORT_SECONDS else 1)
            ]
            listing, second = sorted(pairs, key=lambda pair: pair[1]["seconds"] / pair[0])[len(pairs) // 2]
            changed = rows_written(database_url) - written
    figures.note(f"{face} images", size.all_tags, "")
    figures.note(f"{face} bare client", whole, " s")
    figures.note(f"{face} first update", first["seconds"], " s")
    figures.note(f"{face} first update processor", first["processor_seconds"], " s")
    figures.say(f"{face} first update beside the bare client", first["seconds"] / whole, 1.5, " x")
    figures.say(f"{face} memory of the first update", first["memory"] / MIB, 300, " MiB")
    figures.note(f"{face} bare listing", listing, " s")
    figures.note(f"{face} unchanged update", second["seconds"], " s")
    figures.note(f"{face} unchanged update processor", second["processor_seconds"], " s")
    figures.say(f"{face} unchanged update beside the bare listing", second["seconds"] / listing, 1.2, " x")
    figures.say(f"{face} memory of the unchanged update", second["memory"] / MIB, 300, " MiB")
    figures.say(f"{face} rows written by the unchanged update", changed, 0, "")


def main() -> int:
    """Measure what was chosen; 1 where a goal was not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.sync", description=__doc__)
    parser.add_argument("--only", choices=[*FULL], help="one kind of registry instead of all")
    parser.add_argument("--projects", type=int, help="a smaller registry: so many projects of 500 images")
    chosen = parser.parse_args()
    figures = Figures()
    for face, size in FULL.items():
        if chosen.only in (None, face):
            compare(face, Size(chosen.projects) if chosen.projects else size, figures)
    return 1 if figures.short else 0


if __name__ == "__main__":
    sys.exit(main())
