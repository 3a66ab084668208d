"""Reads Trivy's JSON report (schema version 2) into facts, with bounds on every length and count."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scanning.engines.json_stream import ANY, VALUE, JsonStream, Shape
from scanning.engines.protocol import (
    EngineCancelled,
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
_GENERATIONS = ("V3", "V40", "V2")
_VENDORS = ("nvd", "ghsa", "redhat", "debian", "ubuntu", "alpine")

_SCHEMA_VERSION = 2
_HEAD = ("Target", "Class", "Type")
_FOUND = ("Vulnerabilities", "Secrets")
# Languages whose packages stand in files of their own: where those are not told, nothing else is.
_PLACED = ("python-pkg", "node-pkg", "jar")

_METADATA: Shape = {"OS": {"Family": VALUE, "Name": VALUE, "EOSL": VALUE}}
_PACKAGE: Shape = {
    **dict.fromkeys(("Name", "Version", "Release", "Epoch", "FilePath"), VALUE),
    **dict.fromkeys(("SrcName", "SrcVersion", "SrcRelease", "SrcEpoch"), VALUE),
    "Identifier": {"PURL": VALUE, "UID": VALUE},
    "Layer": {"DiffID": VALUE},
}
_VULNERABILITY: Shape = {
    **dict.fromkeys(("VulnerabilityID", "PkgName", "InstalledVersion", "PkgPath", "FixedVersion"), VALUE),
    **dict.fromkeys(("Status", "Severity", "Title", "Description", "PrimaryURL"), VALUE),
    **dict.fromkeys(("PublishedDate", "LastModifiedDate"), VALUE),
    "PkgIdentifier": {"UID": VALUE},
    "DataSource": {"ID": VALUE},
    "VendorSeverity": {ANY: VALUE},
    "CVSS": {
        ANY: {f"{generation}{what}": VALUE for generation in _GENERATIONS for what in ("Score", "Vector")}
    },
    "CweIDs": [VALUE],
    "References": [VALUE],
}
_SECRET: Shape = {
    **dict.fromkeys(("RuleID", "Category", "Title", "Severity", "Match", "StartLine", "EndLine"), VALUE),
    "Layer": {"DiffID": VALUE},
}

Json = Mapping[str, Any]


def read_report(
    path: Path,
    *,
    vulnerabilities_available: bool,
    secrets_available: bool,
    keep_going: Callable[[], bool] = lambda: True,
) -> ScanReport:
    """The facts of the report in that file, which may be far longer than the memory there is.

    Raises EngineCrash when it is not a report, and EngineCancelled.
    """

    def alive() -> None:
        if not keep_going():
            raise EngineCancelled("The scan was cancelled.", "Scan again when the result is wanted.")

    try:
        return _Reader(path, alive, vulnerabilities_available, secrets_available).read()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineCrash(
            f"The scan engine's answer cannot be read: {error}.",
            "Use the Trivy version this console was made for, then scan again.",
        ) from error


@dataclass
class _Reader:
    """Goes through the file twice: for the packages, then for what is found in them."""

    path: Path
    alive: Callable[[], None]
    vulnerabilities_available: bool
    secrets_available: bool
    system: Json = field(default_factory=dict)
    # Packages as they are read, with their keys; complete once the whole document is known.
    read_packages: list[tuple[PackageFact, str]] = field(default_factory=list)
    # Targets that stand in the document behind what they belong to, by the number of their result.
    late_targets: dict[int, str] = field(default_factory=dict)
    packages: dict[tuple[str, str, str], PackageFact] = field(default_factory=dict)
    # Identities, by the engine's own key and by name, version and path.
    by_uid: dict[str, str] = field(default_factory=dict)
    by_name: dict[tuple[str, str, str], str] = field(default_factory=dict)
    vulnerabilities: dict[str, VulnerabilityFact] = field(default_factory=dict)
    matches: dict[tuple[str, str, str], MatchFact] = field(default_factory=dict)
    secrets: dict[tuple[str | None, str], SecretFact] = field(default_factory=dict)
    truncated: set[str] = field(default_factory=set)
    # One object for equal texts: most of them come again and again.
    texts: dict[str, str] = field(default_factory=dict)

    def read(self) -> ScanReport:
        self._read_packages()
        family, name = _text(self.system, "Family"), _text(self.system, "Name")
        self._complete_packages(f"{family} {name}".strip())
        self._read_findings()
        supported = None
        if family and self.vulnerabilities_available:
            supported = not self.system.get("EOSL", False)
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

    def _read_packages(self) -> None:
        stream = JsonStream(self.path, self.alive)
        version = None
        for key in stream.fields():
            if key == "SchemaVersion":
                version = stream.take(VALUE)
            elif key == "Metadata":
                self.system = (stream.take(_METADATA) or {}).get("OS") or {}
            elif key == "Results":
                for number in stream.items():
                    self._packages_of_result(stream, number)
            else:
                stream.skip()
        if version != _SCHEMA_VERSION:
            raise ValueError(f"not a report of schema version {_SCHEMA_VERSION}")

    def _packages_of_result(self, stream: JsonStream, number: int) -> None:
        head: dict[str, Any] = {}
        begins = len(self.read_packages)
        for key in stream.fields():
            if key == "Packages":
                for _ in stream.items():
                    if self._room("packages", len(self.read_packages), MAX_PACKAGES):
                        self.read_packages.append(self._package(stream.take(_PACKAGE)))
                    else:
                        stream.skip()
            elif key in _HEAD:
                head[key] = stream.take(VALUE)
                if key == "Target" and head.get("has_findings"):
                    self.late_targets[number] = _text(head, key, MIDDLE)
            else:
                head["has_findings"] = head.get("has_findings") or key in _FOUND
                stream.skip()
        kind = self._once(_text(head, "Type"))
        system = head.get("Class") == "os-pkgs"
        target = "" if system or kind in _PLACED else self._once(_text(head, "Target", MIDDLE))
        for place in range(begins, len(self.read_packages)):
            fact, uid = self.read_packages[place]
            complete = replace(
                fact, kind=kind, os_release="system" if system else "", path=fact.path or target
            )
            self.read_packages[place] = complete, uid

    def _package(self, package: Json) -> tuple[PackageFact, str]:
        identifier = package.get("Identifier") or {}
        name, version = self._once(_text(package, "Name")), self._once(_version(package, ""))
        fact = PackageFact(
            name=name,
            version=version,
            source_name=self._once(_text(package, "SrcName")),
            source_version=self._once(_version(package, "Src")),
            kind="",
            purl=_text(identifier, "PURL", MIDDLE),
            os_release="",
            path=self._once(_text(package, "FilePath", MIDDLE)),
            layer_diff_id=self._once(_text(package.get("Layer") or {}, "DiffID")),
        )
        return fact, _text(identifier, "UID")

    def _complete_packages(self, os_release: str) -> None:
        self.read_packages.reverse()
        while self.read_packages:
            fact, uid = self.read_packages.pop()
            if fact.os_release:
                fact = replace(fact, os_release=os_release)
            identity = fact.identity
            self.packages[identity, fact.path, fact.layer_diff_id] = fact
            self.by_uid[uid] = identity
            self.by_name[fact.name, fact.version, fact.path] = identity

    def _read_findings(self) -> None:
        stream = JsonStream(self.path, self.alive)
        for key in stream.fields():
            if key != "Results":
                stream.skip()
                continue
            for number in stream.items():
                self._findings_of_result(stream, self.late_targets.get(number, ""))

    def _findings_of_result(self, stream: JsonStream, target: str) -> None:
        for key in stream.fields():
            if key == "Target":
                target = _text({key: stream.take(VALUE)}, key, MIDDLE)
            elif key == "Vulnerabilities":
                for _ in stream.items():
                    if self._room("matches", len(self.matches), MAX_MATCHES):
                        self._match(stream.take(_VULNERABILITY), target)
                    else:
                        stream.skip()
            elif key == "Secrets" and self.secrets_available:
                for _ in stream.items():
                    if self._room("secrets", len(self.secrets), MAX_SECRETS):
                        fact = _secret(stream.take(_SECRET), target)
                        self.secrets[fact.layer_diff_id, fact.fingerprint] = fact
                    else:
                        stream.skip()
            else:
                stream.skip()

    def _match(self, found: Json, target: str) -> None:
        package_identity = self._package_of(found, target)
        if package_identity is None:
            self.truncated.add("matches")
            return
        match = match_fact(found, package_identity)
        identifier = self._once(match.vulnerability)
        self.vulnerabilities[identifier] = vulnerability_fact(found)
        self.matches[package_identity, identifier, self._once(match.data_source)] = match

    def _package_of(self, found: Json, target: str) -> str | None:
        """Which package it is about; None when that may be one of those that were cut off."""
        uid = _text(found.get("PkgIdentifier") or {}, "UID")
        key = (_text(found, "PkgName"), _text(found, "InstalledVersion"), _text(found, "PkgPath", MIDDLE))
        identity = self.by_uid.get(uid) if uid else None
        identity = identity or self.by_name.get(key) or self.by_name.get((*key[:2], target))
        if identity is None and "packages" not in self.truncated:
            raise ValueError(f"{_text(found, 'VulnerabilityID')} names a package that is not listed")
        return identity

    def _once(self, text: str) -> str:
        return self.texts.setdefault(text, text)


def vulnerability_fact(found: Json) -> VulnerabilityFact:
    """The flaw that one entry of `Vulnerabilities` names."""
    ratings = found.get("VendorSeverity") or {}
    vendor = next((vendor for vendor in _VENDORS if vendor in ratings), None)
    severity = _vendor_severity(ratings[vendor]) if vendor else Severity.parse(_text(found, "Severity"))
    score, vector = _cvss(found.get("CVSS") or {})
    return VulnerabilityFact(
        identifier=_text(found, "VulnerabilityID"),
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


def match_fact(found: Json, package_identity: str) -> MatchFact:
    """What one entry of `Vulnerabilities` says of this package."""
    return MatchFact(
        package_identity=package_identity,
        vulnerability=_text(found, "VulnerabilityID"),
        data_source=_text(found.get("DataSource") or {}, "ID"),
        fixed_version=_text(found, "FixedVersion", MIDDLE),
        status=FixStatus.parse(_text(found, "Status")),
        severity=Severity.parse(_text(found, "Severity")),
    )


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
    for generation in _GENERATIONS:
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
