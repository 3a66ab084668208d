"""The peers of the scan benchmark: `trivy image` and `clamscan` over the images, one after the other."""

import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from bench.registry import ACCOUNT, PASSWORD
from scanning.engines.trivy import _write_empty_java_database, find_binary


class Loop:
    """The peer: `trivy image` for each image with an empty cache, as in a pipeline's fresh container."""

    def __init__(self, url: str, names: list[str], database: Path, directory: Path) -> None:
        self._host = url.partition("://")[2]
        self._names = names
        self._database = database
        self._directory = directory
        self._binary = str(find_binary(None))

    def trivy(self) -> float:
        """Seconds for all images, vulnerabilities and secrets."""
        began = time.perf_counter()
        for name in self._names:
            cache = self._directory / "cache"
            _write_empty_java_database(cache / "java-db")
            (cache / "db").symlink_to(self._database)
            options = [
                "--cache-dir",
                str(cache),
                "--image-src",
                "remote",
                "--scanners",
                "vuln,secret",
                "--quiet",
            ]
            offline = ["--skip-db-update", "--skip-java-db-update", "--offline-scan", "--disable-telemetry"]
            subprocess.run(
                [
                    self._binary,
                    "image",
                    *options,
                    *offline,
                    "--skip-version-check",
                    "--quiet",
                    "--format",
                    "json",
                    name,
                ],
                env={"PATH": os.defpath, "HOME": str(cache), **self._login()},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            shutil.rmtree(cache)
        return time.perf_counter() - began

    def clamscan(self, signatures: Path, layers: list[list[Path]]) -> float:
        """Seconds to unpack every image's layers and let clamscan look at all files."""
        began = time.perf_counter()
        for archives in layers:
            target = self._directory / "unpacked"
            target.mkdir()
            for archive in archives:
                # The benchmark made these archives itself.
                with tarfile.open(archive) as tar:
                    tar.extractall(target, filter="tar")
            subprocess.run(
                [
                    "clamscan",
                    "--recursive",
                    "--infected",
                    "--no-summary",
                    f"--database={signatures}",
                    str(target),
                ],
                stdout=subprocess.DEVNULL,
                check=False,  # 1 says that something was found
            )
            shutil.rmtree(target)
        return time.perf_counter() - began

    def _login(self) -> dict[str, str]:
        return {"TRIVY_USERNAME": ACCOUNT, "TRIVY_PASSWORD": PASSWORD}
