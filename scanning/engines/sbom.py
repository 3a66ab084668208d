"""Writes known packages as the CycloneDX documents that Trivy matches, and reads the matches back.

The properties are those that `trivy convert --format cyclonedx` writes and `trivy sbom` reads.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from scanning.engines.protocol import EngineCrash, MatchFact, VulnerabilityFact
from scanning.engines.trivy_report import match_fact, vulnerability_fact

_PREFIX = "aquasecurity:trivy:"
_ROOT = "packages"
# Epoch, upstream version and release, as Trivy joins them.
_VERSION = re.compile(r"(?:([0-9]+):)?(.+?)(?:-([^-]*))?")


@dataclass(frozen=True, slots=True)
class KnownPackage:
    """One package as it was stored; the texts are those of a PackageFact.

    `os_release` is empty for a language's package. A package without a `purl` cannot be matched.
    """

    identity: str
    name: str
    version: str
    source_name: str
    source_version: str
    kind: str
    os_release: str
    purl: str


@dataclass(frozen=True, slots=True)
class Matched:
    """What a database says of the packages of one document.

    `os_supported` is False when the support of their distribution has ended, None for languages' packages.
    """

    matches: tuple[MatchFact, ...]
    vulnerabilities: tuple[VulnerabilityFact, ...]
    os_supported: bool | None


def documents(packages: Iterable[KnownPackage], size: int) -> Iterator[list[KnownPackage]]:
    """The packages of one OS release, or of languages, in lists of at most `size` for one document each.

    Trivy reports a flaw once for each name and version: packages that differ in something else only, such as
    their architecture, never share a list.
    """
    rounds: list[list[KnownPackage]] = []
    seen: dict[tuple[str, str, str], int] = {}
    for package in packages:
        key = (package.kind, package.name, package.version)
        number = seen[key] = seen.get(key, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(package)
    for members in rounds:
        for start in range(0, len(members), size):
            yield members[start : start + size]


def write_document(path: Path, packages: Sequence[KnownPackage]) -> None:
    """Write one document: of one OS release at most, beside packages of languages. Raises OSError."""
    members: dict[tuple[str, str], list[str]] = {}
    for package in packages:
        members.setdefault((package.kind, package.os_release), []).append(package.identity)
    groups = [_group(kind, os_release) for kind, os_release in members]
    relations = [
        {"ref": group["bom-ref"], "dependsOn": identities}
        for group, identities in zip(groups, members.values(), strict=True)
    ]
    relations.append({"ref": _ROOT, "dependsOn": [group["bom-ref"] for group in groups]})
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"bom-ref": _ROOT, "type": "application", "name": _ROOT}},
        "components": [*groups, *map(_component, packages)],
        "dependencies": relations,
    }
    with path.open("w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=True)


def _group(kind: str, os_release: str) -> dict[str, Any]:
    if not os_release:
        properties = _properties({"Class": "lang-pkgs", "Type": kind})
        return {"bom-ref": f"of {kind}", "type": "application", "name": kind, "properties": properties}
    # The release begins with the distribution's name, which is the kind of its packages too.
    version = os_release.removeprefix(kind).strip()
    return {
        "bom-ref": f"of {kind}",
        "type": "operating-system",
        "name": kind,
        "version": version,
        "properties": _properties({"Class": "os-pkgs", "Type": kind}),
    }


def _component(package: KnownPackage) -> dict[str, Any]:
    texts = {"PkgType": package.kind}
    if package.source_name:
        epoch, version, release = _parts(package.source_version)
        texts |= {"SrcName": package.source_name, "SrcVersion": version}
        texts |= {"SrcRelease": release} if release else {}
        texts |= {"SrcEpoch": epoch} if epoch else {}
    return {
        "bom-ref": package.identity,
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "properties": _properties(texts),
    }


def _parts(version: str) -> tuple[str, str, str]:
    found = _VERSION.fullmatch(version)
    return (found[1] or "", found[2], found[3] or "") if found else ("", version, "")


def _properties(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": _PREFIX + name, "value": value} for name, value in texts.items()]


def read_matches(path: Path) -> Matched:
    """What Trivy's report on a document says, read piece by piece. Raises EngineCrash."""
    matches: dict[tuple[str, str, str], MatchFact] = {}
    vulnerabilities: dict[str, VulnerabilityFact] = {}
    try:
        with path.open("rb") as file:
            systems = list(ijson.items(file, "Metadata.OS", use_float=True))
            file.seek(0)
            for found in ijson.items(file, "Results.item.Vulnerabilities.item", use_float=True):
                match = match_fact(found, found["PkgIdentifier"]["BOMRef"])
                matches[match.package_identity, match.vulnerability, match.data_source] = match
                if match.vulnerability not in vulnerabilities:
                    vulnerabilities[match.vulnerability] = vulnerability_fact(found)
        supported = not systems[0].get("EOSL", False) if systems else None
    except (ijson.JSONError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineCrash(
            f"The scan engine's answer on known packages cannot be read: {error}.",
            "Use the Trivy version this console was made for.",
        ) from error
    return Matched(tuple(matches.values()), tuple(vulnerabilities.values()), supported)
