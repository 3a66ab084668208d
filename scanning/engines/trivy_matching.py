"""Trivy asked about packages that are known already: no image, no network, one process for many packages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanning.engines import process
from scanning.engines.protocol import EngineCrash
from scanning.engines.sbom import KnownPackage, Matched, read_matches, write_document
from scanning.engines.trivy import GIBIBYTE, MAX_ANSWER_BYTES, SCRATCH_BYTES, Trivy
from scanning.engines.trivy_errors import scan_failure

_OPTIONS = (
    *("--scanners", "vuln", "--list-all-pkgs=false", "--format", "json", "--quiet"),
    *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--disable-telemetry"),
    *("--skip-version-check", "--cache-backend", "memory"),
)
_MOST_STRANGE = 10


@dataclass(frozen=True, slots=True)
class Matcher(Trivy):
    """A Trivy program that matches packages with a vulnerability database."""

    def match_packages(
        self,
        packages: Sequence[KnownPackage],
        *,
        database: Path,
        timeout_seconds: float = 900,
        memory_bytes: int = 4 * GIBIBYTE,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> Matched:
        """Ask the database directory about the packages of one document, as `sbom.documents` gives them.

        Raises EngineTimeout, EngineCancelled, EngineDatabaseError, EngineDiskFull and EngineCrash.
        """
        with self._run_directory() as directory:
            document, output = directory / "packages.json", directory / "matches.json"
            cache = directory / "cache"
            cache.mkdir()
            (cache / "db").symlink_to(database.resolve(), target_is_directory=True)
            write_document(document, packages)
            arguments = (
                *("sbom", "--cache-dir", str(cache), *_OPTIONS),
                *("--timeout", f"{int(timeout_seconds) + 60}s", str(document)),
            )
            limits = process.Limits(timeout_seconds, memory_bytes, MAX_ANSWER_BYTES, SCRATCH_BYTES)
            ended = self._run(arguments, directory, output, limits, keep_going)
            if ended.exit_code != 0:
                raise scan_failure(ended)
            return read_matches(output)

    def match_what_can_be(
        self, packages: Sequence[KnownPackage], *, database: Path, keep_going: Callable[[], bool]
    ) -> tuple[list[Matched], list[KnownPackage]]:
        """The answers on the packages of one document, and those packages the engine fails over.

        A document that it cannot read, or has too much to say of, is halved: one strange package must not
        keep the rest of the fleet from being matched. Raises EngineError, and EngineCrash when it fails over
        many.
        """
        try:
            return [self.match_packages(packages, database=database, keep_going=keep_going)], []
        except EngineCrash:
            if len(packages) == 1:
                return [], list(packages)
        middle = len(packages) // 2
        answers: list[Matched] = []
        strange: list[KnownPackage] = []
        for half in (packages[:middle], packages[middle:]):
            some, failed = self.match_what_can_be(half, database=database, keep_going=keep_going)
            answers += some
            strange += failed
            if len(strange) > _MOST_STRANGE:
                raise EngineCrash(
                    "The scan engine fails over every package it is asked about.",
                    "Use the Trivy version this console was made for, and look at the worker's log.",
                )
        return answers, strange
