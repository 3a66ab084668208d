"""What a new vulnerability database costs a fleet, beside `trivy sbom` in a loop: `make bench-rematch`.

The images are made up (bench/fleet.py), the advisories are the demo's: first half of them, then all. The loop
is timed on a sample and counted up to the whole fleet. One line is printed a figure, and the exit code is 1
where a goal was not met.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import django
import psycopg2

from bench.sync import database as started_database
from demo.vulnerability_db import Collection, read, write

MIB = 2**20
FACTS = ("scanning_match", "scanning_pastmatch", "scanning_vulnerability", "scanning_matchnews", "images_%")
OPTIONS = (
    *(
        "--cache-backend",
        "memory",
        "--scanners",
        "vuln",
        "--list-all-pkgs=false",
        "--format",
        "json",
        "--quiet",
    ),
    *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
    *("--disable-telemetry", "--skip-version-check"),
)


@dataclass(frozen=True, slots=True)
class Loop:
    """What `trivy sbom` took for one image, and of how many images it says something else than we."""

    seconds_each: float
    differing: int


class Figures:
    """Prints figures and remembers whether all goals were met."""

    def __init__(self) -> None:
        self.short = 0

    def say(self, name: str, value: float, goal: str, *, met: bool) -> None:
        """One figure with a goal."""
        self.short += not met
        print(f"{name}: {value:g} ({goal}) {'PASS' if met else 'SHORT'}", flush=True)

    def note(self, name: str, value: float) -> None:
        """One figure without a goal."""
        print(f"{name}: {value:g}", flush=True)


def rows_written(url: str) -> int:
    """Rows of facts and summaries that were inserted, changed and deleted so far."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables "
            "WHERE relname LIKE ANY (%s)",
            [list(FACTS)],
        )
        [(rows,)] = cursor.fetchall()
        return int(rows)


def measure(url: str, directory: Path, images: int, layers: int, sample: int, figures: Figures) -> None:
    """All figures."""
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - Django has to be set up first
    from django.db import connection  # noqa: PLC0415 - Django is set up by now

    from bench import fleet  # noqa: PLC0415 - Django has to be set up first
    from scanning import installed, matching, rematching  # noqa: PLC0415 - Django is set up by now
    from scanning.models import Match, Package  # noqa: PLC0415 - Django is set up by now

    def matched() -> tuple[float, matching.MatchRun]:
        began = time.monotonic()
        run = rematching.begin()
        if run is None:
            raise RuntimeError("there is no database to match with")
        matching.match_run(run.pk)
        run.refresh_from_db()
        if run.state != "succeeded":
            raise RuntimeError(f"the matching ended as {run.state}: {run.error_reason}")
        seconds = time.monotonic() - began
        # The server counts what a connection wrote when it is closed.
        connection.close()
        return seconds, run

    advisories = read()
    half = Collection(advisories.compiled.replace(year=2025), advisories.advisories[::2])
    databases = installed.vulnerability_database()
    for name, collection in (("before", half), ("after", advisories)):
        write(directory / name, replace(collection))
    trivy = installed.trivy(installed.work_root())
    fleet.make(advisories.advisories, images=images, layers=layers)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    databases.install_bundle(directory / "before", trivy, source="bench")
    first, _ = matched()
    databases.install_bundle(directory / "after", trivy, source="bench")
    seconds, run = matched()
    written = rows_written(url)
    unchanged, _ = matched()
    time.sleep(1)
    changed = rows_written(url) - written
    found = databases.directory()
    if found is None:
        raise RuntimeError("the database is gone")
    loop = in_a_loop(directory, found, images, sample)
    blobs = Path(settings.DATA_DIR) / "blobs"
    pulled = sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file())
    ratio = loop.seconds_each * images / seconds
    figures.note("images", images)
    figures.note("distinct layers", layers)
    figures.note("distinct packages", Package.objects.count())
    figures.note("matches", Match.objects.count())
    figures.note("new matches", run.matches_new)
    figures.note("images that changed", run.images_changed)
    figures.note("seconds of the first matching", round(first, 2))
    figures.note("seconds of the matching after the change", round(seconds, 2))
    figures.note("seconds of the matching without a change", round(unchanged, 2))
    figures.note("seconds of trivy sbom for one image", round(loop.seconds_each, 3))
    figures.note("seconds of trivy sbom for all, counted up", round(loop.seconds_each * images, 1))
    figures.note("memory in MiB", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB))
    figures.say("times as fast as the loop", round(ratio, 1), "goal: at least 100", met=ratio >= 100)
    figures.say(f"images of {sample} with other results", loop.differing, "goal: 0", met=loop.differing == 0)
    figures.say("bytes pulled", pulled, "goal: 0", met=pulled == 0)
    figures.say("rows written without a change", changed, "goal: 0", met=changed == 0)


def in_a_loop(directory: Path, database: Path, images: int, sample: int) -> Loop:
    """Ask `trivy sbom` about one image after the other, and compare with what is stored."""
    from images.models import Image  # noqa: PLC0415 - Django has to be set up first
    from scanning.engines.sbom import KnownPackage, read_matches, write_document  # noqa: PLC0415 - Django is set up by now
    from scanning.engines.trivy import find_binary  # noqa: PLC0415 - Django is set up by now
    from scanning.models import Match, Package  # noqa: PLC0415 - Django is set up by now

    cache = directory / "cache"
    cache.mkdir()
    (cache / "db").symlink_to(database)
    chosen = random.Random(11).sample(list(Image.objects.values_list("pk", flat=True)), min(sample, images))
    fields = ("identity", "name", "version", "source_name", "source_version", "kind", "os_release", "purl")
    seconds, differing = 0.0, 0
    for image in chosen:
        packages = Package.objects.filter(inventories__images=image).distinct()
        document, answer = directory / "image.json", directory / "answer.json"
        write_document(document, [KnownPackage(*texts) for texts in packages.values_list(*fields)])
        command = [str(find_binary(None)), "sbom", "--cache-dir", str(cache), *OPTIONS, str(document)]
        began = time.monotonic()
        with answer.open("wb") as output:
            subprocess.run(
                command, check=True, stdout=output, env={"HOME": str(directory), "PATH": os.defpath}
            )
        seconds += time.monotonic() - began
        said = {
            (
                each.package_identity,
                each.vulnerability,
                each.data_source,
                each.fixed_version,
                str(each.status),
                int(each.severity),
            )
            for each in read_matches(answer).matches
        }
        stored = Match.objects.filter(package__in=packages).values_list(
            "package__identity",
            "vulnerability__identifier",
            "data_source",
            "fixed_version",
            "status",
            "severity",
        )
        differing += said != set(stored)
    return Loop(seconds / len(chosen), differing)


def main() -> int:
    """Measure; 1 where a goal was not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.rematch", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=1_500)
    parser.add_argument("--sample", type=int, default=200)
    chosen = parser.parse_args()
    figures = Figures()
    directory = Path(tempfile.mkdtemp(prefix="tcss-bench-"))
    try:
        # Root's PostgreSQL runs as another user, who must get through.
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        with started_database(directory) as url:
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tcss.settings")
            measure(url, directory, chosen.images, chosen.layers, chosen.sample, figures)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if figures.short else 0


if __name__ == "__main__":
    sys.exit(main())
