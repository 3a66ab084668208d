"""What scanning a registry costs beside `trivy image` and `clamscan` in a loop: `make bench-scan`.

24 images on six bases with real root file systems are made from Debian and PyPI packages, once. The console's
own workers scan them; the peer is a loop over the same images as somebody would write it, one after the other
with an empty cache each. Registry, PostgreSQL and workers are processes of their own on this machine.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.loops import Loop
from bench.root_files import APPLICATIONS, BASES, build
from bench.sync import MIB, ROOT, database
from bench.workers import Workers
from demo.vulnerability_db import write_bundle
from scanning.engines.clamav_configuration import configuration
from scanning.engines.trivy import Trivy, find_binary
from scanning.engines.vulnerability_db import VulnerabilityDatabase

# Made once: the folder of an installation in this checkout, which git does not see.
KEPT = ROOT / ".data" / "bench-scan"
CONTENT = ["vulnerabilities", "sensitive"]
# What every signature file has to have at least, so that clamd starts: the harmless test file's.
SIGNATURES = "Bench-Eicar:0:*:58354f2150254041505b345c505a58353428505e2937434329377d24454943\n"


class Figures:
    """Prints figures and remembers whether all goals were met."""

    def __init__(self) -> None:
        self.short = 0

    def say(self, name: str, value: float, goal: str, unit: str, *, passed: bool) -> None:
        """One figure with its goal."""
        self.short += not passed
        print(f"{name}: {value:.2f}{unit} ({goal}) {'PASS' if passed else 'SHORT'}")
        sys.stdout.flush()

    def faster(self, name: str, value: float, goal: float) -> None:
        """A ratio that has to be at least ``goal``."""
        self.say(name, value, f"goal: at least {goal:g} x", " x", passed=value >= goal)

    def note(self, name: str, value: float, unit: str) -> None:
        """One figure without a goal."""
        print(f"{name}: {value:.2f}{unit}")
        sys.stdout.flush()


class Served:
    """A running benchmark registry: its address, and the bytes of layers it gave out."""

    def __init__(self, process: "subprocess.Popen[bytes]", file: Path) -> None:
        self._process = process
        self._file = file
        self.url = file.read_text()

    def counted(self) -> tuple[int, int]:
        """Bytes of layers served so far, and bytes of all distinct layers."""
        answer = self._file.with_suffix(".bytes")
        answer.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        while not answer.exists():
            time.sleep(0.02)
        found = json.loads(answer.read_text())
        return found["served"], found["distinct"]


@contextlib.contextmanager
def registry(content: Path, applications: int, directory: Path) -> Iterator[Served]:
    """The registry with the images, which are made first where they are not there yet."""
    file = directory / "registry.url"
    command = [sys.executable, "-m", "bench.image_registry", str(content), "--announce", str(file)]
    process = subprocess.Popen([*command, "--applications", str(applications)], cwd=ROOT)
    try:
        while not file.exists():
            if process.poll() is not None:
                raise RuntimeError("the benchmark's registry did not start")
            time.sleep(0.1)
        yield Served(process, file)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def clamd(directory: Path) -> Iterator[Path | None]:
    """A clamd with signatures of its own; None where the package is not installed."""
    program = shutil.which("clamd")
    if program is None:
        yield None
        return
    signatures = directory / "signatures"
    signatures.mkdir()
    (signatures / "bench.ndb").write_text(SIGNATURES)
    socket = directory / "clamd.sock"
    config = directory / "clamd.conf"
    temporary = directory / "clamd-temporary"
    temporary.mkdir()
    config.write_text(configuration(socket, database=signatures, temporary=temporary, threads=2))
    process = subprocess.Popen(
        [program, "--config-file", str(directory / "clamd.conf")], stdout=subprocess.DEVNULL
    )
    try:
        while not socket.exists():
            if process.poll() is not None:
                raise RuntimeError("clamd did not start")
            time.sleep(0.05)
        os.environ["TCSS_CLAMD_ADDRESS"] = str(socket)
        yield signatures
    finally:
        process.terminate()
        process.wait()


def console(*words: str) -> dict[str, Any]:
    """Ask the console for something; what it took."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench.scans", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    wrong = [end for end in found.get("ends", []) if end[1] not in ("succeeded", "unsupported")]
    if wrong:
        raise RuntimeError(f"scans ended as {wrong}")
    return found


def _database(directory: Path, data: Path) -> Path:
    bundle = directory / "database.tar.gz"
    write_bundle(bundle)
    database = VulnerabilityDatabase(data / "vulnerability-db")
    database.install_bundle(bundle, Trivy(find_binary(None), directory / "trivy"), source="the demo's bundle")
    found = database.directory()
    if found is None:
        raise RuntimeError("the vulnerability database was not installed")
    return found


def compare(content: Path, applications: int, figures: Figures) -> None:
    """All figures."""
    names = [f"{base}-{number}" for base in BASES for number in range(applications)]
    with tempfile.TemporaryDirectory(prefix="tcss-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        # Root's PostgreSQL runs as another user, who must get through.
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        served = stack.enter_context(registry(content, applications, directory))
        stack.enter_context(database(directory))
        path = _database(directory, directory / "data")
        signatures = stack.enter_context(clamd(directory))
        images = [f"{served.url.partition('://')[2]}/bench/{each}:1.0" for each in names]
        loop = Loop(served.url, images, path, directory)
        trivy = loop.trivy()
        figures.note("images", len(names), "")
        figures.note("trivy image in a loop", trivy, " s")
        console("prepare", served.url)
        before, distinct = served.counted()
        workers = Workers()
        workers.start(directory / "workers.log")
        stack.callback(workers.stop)
        cold = console("scan", *CONTENT)
        pulled = served.counted()[0] - before
        figures.note("layers, compressed", distinct / MIB, " MiB")
        figures.note("console, nothing known", cold["seconds"], " s")
        figures.faster("vulnerabilities and sensitive data, beside the loop", trivy / cold["seconds"], 4.5)
        figures.say(
            "bytes pulled beside distinct bytes",
            pulled / distinct,
            "goal: exactly 1",
            " x",
            passed=pulled == distinct,
        )
        before = served.counted()[0]
        known = console("scan", *CONTENT)
        again = served.counted()[0] - before
        figures.note("console, everything known", known["seconds"], " s")
        figures.faster("again with everything known, beside the loop", trivy / known["seconds"], 15)
        figures.say("bytes pulled again", again, "goal: 0", "", passed=again == 0)
        if signatures is None:
            print("clamd is not installed: viruses and trojans were not measured")
            figures.short += 1
        else:
            scanned = loop.clamscan(signatures, _layers(content, names))
            malware = console("scan", "malware")
            figures.note("clamscan in a loop", scanned, " s")
            figures.note("console, viruses and trojans", malware["seconds"], " s")
            ratio = (trivy + scanned) / (cold["seconds"] + malware["seconds"])
            figures.faster("all three categories, beside both loops", ratio, 6)
        figures.say(
            "peak memory of a worker",
            workers.peak / MIB,
            "goal: under 600 MiB",
            " MiB",
            passed=workers.peak < 600 * MIB,
        )


def _layers(content: Path, names: list[str]) -> list[list[Path]]:
    """The blobs of each image, base first."""

    store, catalog = build(content)
    found = []
    for name in names:
        repository = catalog.repository(f"bench/{name}")
        if repository is None:
            raise RuntimeError(f"{name} is not in the registry")
        layers = json.loads(store.read(repository.artifacts[0].digest))["layers"]
        found.append([store.path(layer["digest"]) for layer in layers])
    return found


def main() -> int:
    """Measure; 1 where a goal was not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.scan", description=__doc__)
    parser.add_argument(
        "--content", type=Path, default=ROOT / ".data-bench" / "scan", help="where images are kept"
    )
    parser.add_argument(
        "--applications", type=int, default=len(APPLICATIONS), help="on each of the six bases"
    )
    chosen = parser.parse_args()
    figures = Figures()
    compare(chosen.content, chosen.applications, figures)
    return 1 if figures.short else 0


if __name__ == "__main__":
    sys.exit(main())
