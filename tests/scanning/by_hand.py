"""What `trivy image` says of an image when somebody runs it by hand, and the slow count of what we say."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from demo.images import ROBOT
from demo.server import DemoServer
from images.models import Image
from scanning.engines.trivy import _write_empty_java_database, find_binary
from scanning.findings import vulnerabilities_of
from scanning.rows import VulnerabilityRow

MANY = 500


def trivy_image(server: DemoServer, name: str, database: Path, scratch: Path) -> dict[str, Any]:
    """The JSON report of `trivy image` over the registry's own protocol."""
    cache = scratch / "cache"
    if not cache.exists():
        _write_empty_java_database(cache / "java-db")
        (cache / "db").symlink_to(database)
    account = server.catalog.account(ROBOT)
    assert account is not None
    done = subprocess.run(
        [
            str(find_binary(None)),
            *("image", "--image-src", "remote", "--platform", "linux/amd64", "--cache-dir", str(cache)),
            *("--cache-backend", "memory", "--scanners", "vuln", "--format", "json", "--quiet"),
            *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
            *("--disable-telemetry", "--skip-version-check"),
            f"{server.url.partition('://')[2]}/{name}",
        ],
        env={
            "PATH": os.defpath,
            "HOME": str(scratch),
            "TRIVY_USERNAME": account.name,
            "TRIVY_PASSWORD": account.password,
        },
        capture_output=True,
        check=True,
        timeout=120,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def reported(report: dict[str, Any]) -> Counter[tuple[str, ...]]:
    """Every vulnerability of a report: identifier, package, version, fix, severity, status, layer, path."""
    return Counter(
        (
            item["VulnerabilityID"],
            item["PkgName"],
            item["InstalledVersion"],
            item.get("FixedVersion", ""),
            item["Severity"].lower(),
            item.get("Status", "unknown"),
            item["Layer"]["DiffID"],
            item.get("PkgPath", "") or _path(result),
        )
        for result in report.get("Results") or []
        for item in result.get("Vulnerabilities") or []
    )


def _path(result: dict[str, Any]) -> str:
    """A Go binary's packages have no path of their own: the binary is the result's target."""
    return str(result["Target"]) if result["Type"] in {"gobinary", "rustbinary"} else ""


def every_vulnerability(image: Image) -> list[VulnerabilityRow]:
    """All pages of what the console shows."""
    rows: list[VulnerabilityRow] = []
    offset: int | None = 0
    while offset is not None:
        page = vulnerabilities_of(image, offset=offset, limit=MANY)
        rows += page.rows
        offset = page.next_offset
    return rows


def shown(image: Image) -> Counter[tuple[str, ...]]:
    """Every vulnerability the console shows, in the words of `reported`."""
    return Counter(
        (
            row.identifier,
            row.package,
            row.installed_version,
            row.fixed_version,
            row.severity.label.lower(),
            row.status,
            row.layer.diff_id,
            row.path,
        )
        for row in every_vulnerability(image)
    )
