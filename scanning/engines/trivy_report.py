"""Reads Trivy's JSON report (schema version 2) into facts, with bounds on every length and count."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scanning.engines.protocol import (
    EngineCrash,
    FixStatus,
    MatchFact,
    PackageFact,
    ScanReport,
    SecretFact,
    Severity,
    VulnerabilityFact,
)

MAX_PACKAGES = 200_000
MAX_MATCHES = 500_000
MAX_SECRETS = 20_000
MAX_REFERENCES = 60
SHORT, MIDDLE, LONG = 255, 2_048, 16_000
MASK = "********"
_FIRST_YEAR, _LAST_YEAR = 1900, 9000

# Trivy stars only what its rule matched. What stands before may be a name, what stands after is the rest.
_NAMED = re.compile(r"[\"']?[\w.-]{1,64}[\"']?\s{0,4}[:=]\s{0,4}[\"']?$")
_ENVIRONMENT = re.compile(r"(?:\"|\bENV |\bstep |\s)([A-Za-z_][A-Za-z0-9_.-]{0,63})=")
_VENDORS = ("nvd", "ghsa", "redhat", "debian", "ubuntu", "alpine")

Json = Mapping[str, Any]


def read_report(path: Path, *, vulnerabilities_available: bool, secrets_available: bool) -> ScanReport:
    """The facts of the report in that file. Raises EngineCrash when it is not a report."""
    try:
        with path.open("rb") as file:
            report = json.load(file)
        if not isinstance(report, dict) or report.get("SchemaVersion") != 2:
            raise ValueError("not a report of schema version 2")
        return _Reader(report, vulnerabilities_available, secrets_available).read()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineCrash(
            f"The scan engine's answer cannot be read: {error}.",
            "Use the Trivy version this console was made for, then scan again.",
        ) from error


@dataclass
class _Reader:
    report: Json
    vulnerabilities_available: bool
    secrets_available: bool
    packages: dict[tuple[str, str, str], PackageFact] = field(default_factory=dict)
    by_uid: dict[str, PackageFact] = field(default_factory=dict)
    by_name: dict[tuple[str, str, str], PackageFact] = field(default_factory=dict)
    vulnerabilities: dict[str, VulnerabilityFact] = field(default_factory=dict)
    matches: dict[tuple[str, str, str], MatchFact] = field(default_factory=dict)
    secrets: dict[tuple[str | None, str], SecretFact] = field(default_factory=dict)
    truncated: set[str] = field(default_factory=set)

    def read(self) -> ScanReport:
        system = (self.report.get("Metadata") or {}).get("OS") or {}
        family, name = _text(system, "Family"), _text(system, "Name")
        results = self.report.get("Results") or []
        for result in results:
            self._packages(result, f"{family} {name}".strip())
        for result in results:
            self._matches(result)
            self._secrets(result)
        supported = None if not (family and self.vulnerabilities_available) else not system.get("EOSL", False)
        return ScanReport(
            os_family=family,
            os_name=name,
            os_supported=supported,
            packages=tuple(self.packages.values()),
            vulnerabilities=tuple(self.vulnerabilities.values()),
            matches=tuple(self.matches.values()),
            secrets=tuple(self.secrets.values()),
            vulnerabilities_available=self.vulnerabilities_available,
            secrets_available=self.secrets_available,
            truncated=tuple(sorted(self.truncated)),
        )

    def _room(self, what: str, used: int, limit: int) -> bool:
        if used < limit:
            return True
        self.truncated.add(what)
        return False

    def _packages(self, result: Json, os_release: str) -> None:
        system = result.get("Class") == "os-pkgs"
        for package in result.get("Packages") or []:
            if not self._room("packages", len(self.packages), MAX_PACKAGES):
                return
            identifier = package.get("Identifier") or {}
            path = _text(package, "FilePath", MIDDLE)
            if not path and not system and result.get("Type") not in ("python-pkg", "node-pkg", "jar"):
                path = _text(result, "Target", MIDDLE)
            fact = PackageFact(
                name=_text(package, "Name"),
                version=_version(package, ""),
                source_name=_text(package, "SrcName"),
                source_version=_version(package, "Src"),
                kind=_text(result, "Type"),
                purl=_text(identifier, "PURL", MIDDLE),
                os_release=os_release if system else "",
                path=path,
                layer_diff_id=_text(package.get("Layer") or {}, "DiffID"),
            )
            self.packages[fact.identity, fact.path, fact.layer_diff_id] = fact
            self.by_uid[_text(identifier, "UID")] = fact
            self.by_name[fact.name, fact.version, path] = fact

    def _matches(self, result: Json) -> None:
        for found in result.get("Vulnerabilities") or []:
            if not self._room("matches", len(self.matches), MAX_MATCHES):
                return
            identifier = _text(found, "VulnerabilityID")
            fact = self._vulnerability(identifier, found)
            package = self._package_of(found, result)
            match = MatchFact(
                package_identity=package.identity,
                vulnerability=identifier,
                data_source=_text(found.get("DataSource") or {}, "ID"),
                fixed_version=_text(found, "FixedVersion", MIDDLE),
                status=FixStatus.parse(_text(found, "Status")),
                severity=Severity.parse(_text(found, "Severity")),
            )
            self.vulnerabilities[identifier] = fact
            self.matches[match.package_identity, identifier, match.data_source] = match

    def _package_of(self, found: Json, result: Json) -> PackageFact:
        uid = _text(found.get("PkgIdentifier") or {}, "UID")
        path = _text(found, "PkgPath", MIDDLE)
        key = (_text(found, "PkgName"), _text(found, "InstalledVersion"), path)
        package = self.by_uid.get(uid) if uid else None
        package = (
            package or self.by_name.get(key) or self.by_name.get((*key[:2], _text(result, "Target", MIDDLE)))
        )
        if package is None:
            raise ValueError(f"{_text(found, 'VulnerabilityID')} names a package that is not listed")
        return package

    def _vulnerability(self, identifier: str, found: Json) -> VulnerabilityFact:
        ratings = found.get("VendorSeverity") or {}
        vendor = next((vendor for vendor in _VENDORS if vendor in ratings), None)
        severity = _vendor_severity(ratings[vendor]) if vendor else Severity.parse(_text(found, "Severity"))
        score, vector = _cvss(found.get("CVSS") or {})
        return VulnerabilityFact(
            identifier=identifier,
            severity=severity,
            title=_text(found, "Title", MIDDLE),
            description=_text(found, "Description", LONG),
            cvss_score=score,
            cvss_vector=vector,
            cwe_ids=tuple(_texts(found.get("CweIDs"), SHORT)),
            references=tuple(_texts(found.get("References"), MIDDLE)),
            primary_url=_text(found, "PrimaryURL", MIDDLE),
            published_at=moment(found.get("PublishedDate")),
            modified_at=moment(found.get("LastModifiedDate")),
        )

    def _secrets(self, result: Json) -> None:
        for found in result.get("Secrets") or [] if self.secrets_available else []:
            if not self._room("secrets", len(self.secrets), MAX_SECRETS):
                return
            fact = _secret(found, _text(result, "Target", MIDDLE))
            self.secrets[fact.layer_diff_id, fact.fingerprint] = fact


def _secret(found: Json, target: str) -> SecretFact:
    diff_id = _text(found.get("Layer") or {}, "DiffID") or None
    match = _text(found, "Match", LONG)
    place, masked = target, mask(match)
    start, end = _number(found.get("StartLine")), _number(found.get("EndLine"))
    if diff_id is None:
        # In the image's configuration the target is our own folder, and the lines are nobody's.
        variable = _ENVIRONMENT.search(match)
        place = f"ENV {variable[1]}" if variable else "image configuration"
        masked = f"{variable[1]}={MASK}" if variable else MASK
        start = end = 0
    return SecretFact(
        layer_diff_id=diff_id,
        path=place,
        rule_id=_text(found, "RuleID"),
        category=_text(found, "Category"),
        title=_text(found, "Title"),
        severity=Severity.parse(_text(found, "Severity")),
        start_line=start,
        end_line=end,
        masked_match=masked,
    )


def mask(match: str) -> str:
    """The name a secret is assigned to, if there is one, and stars: no length, no tail, no neighbour."""
    named = _NAMED.search(match.partition("*")[0]) if "*" in match else None
    return (named[0] if named else "") + MASK


def _version(package: Json, prefix: str) -> str:
    version, release = _text(package, f"{prefix}Version"), _text(package, f"{prefix}Release")
    epoch = _number(package.get(f"{prefix}Epoch"))
    return (f"{epoch}:" if epoch else "") + version + (f"-{release}" if release else "")


def _vendor_severity(number: object) -> Severity:
    # Trivy counts unknown, low, medium, high, critical.
    order = (Severity.UNKNOWN, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
    return order[number] if isinstance(number, int) and 0 <= number < len(order) else Severity.UNKNOWN


def _cvss(ratings: Mapping[str, Json]) -> tuple[float | None, str]:
    vendors = [vendor for vendor in _VENDORS if vendor in ratings] + sorted(set(ratings) - set(_VENDORS))
    for generation in ("V3", "V40", "V2"):
        for vendor in vendors:
            score = ratings[vendor].get(f"{generation}Score")
            if isinstance(score, int | float):
                return float(score), _text(ratings[vendor], f"{generation}Vector")
    return None, ""


def _text(source: Json, key: str, limit: int = SHORT) -> str:
    value = source.get(key)
    return value[:limit] if isinstance(value, str) else ""


def _texts(values: object, limit: int) -> Iterator[str]:
    for value in values[:MAX_REFERENCES] if isinstance(values, list) else []:
        if isinstance(value, str):
            yield value[:limit]


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def moment(value: object) -> datetime | None:
    """An aware time of a report or of a database; None for anything else, and for the year 1 of "never".

    Near both ends of the calendar not every time zone can show a time, so those are none either.
    """
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    if not _FIRST_YEAR <= parsed.year < _LAST_YEAR:
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
