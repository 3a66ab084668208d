"""Trivy's report read from a stream: memory that does not grow with it, any order, honest cuts."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scanning.engines import trivy_report
from scanning.engines.protocol import EngineCancelled, EngineCrash, ScanReport

ROOT = Path(__file__).parents[2]
MIB = 2**20
LAYER = {"DiffID": "sha256:" + "a" * 64}
MEASURE = """
import resource, sys
from pathlib import Path
from scanning.engines.protocol import EngineCrash
from scanning.engines.trivy_report import read_report
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_report(Path(sys.argv[1]), vulnerabilities_available=True, secrets_available=True)
except EngineCrash:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def package(name: str) -> dict:
    return {"Name": name, "Version": "1", "Identifier": {"UID": name, "PURL": f"pkg:{name}"}, "Layer": LAYER}


def flaw(name: str, identifier: str = "CVE-1") -> dict:
    return {
        "VulnerabilityID": identifier,
        "PkgName": name,
        "PkgIdentifier": {"UID": name},
        "InstalledVersion": "1",
        "Severity": "HIGH",
        "References": ["https://example.com/a"],
        "CVSS": {"nvd": {"V3Score": 7.5, "V3Vector": "CVSS:3.1/AV:N"}},
    }


def secret(rule: str) -> dict:
    return {"RuleID": rule, "Title": rule, "Severity": "HIGH", "Match": "key=****", "Layer": LAYER}


SYSTEM = {
    "Target": "image",
    "Class": "os-pkgs",
    "Type": "debian",
    "Packages": [package("a"), package("b")],
    "Vulnerabilities": [flaw("a"), flaw("c", "CVE-2")],
    "Secrets": None,
}
LANGUAGE = {
    "Target": "app/go.bin",
    "Class": "lang-pkgs",
    "Type": "gobinary",
    "Packages": [package("c")],
    "Vulnerabilities": [flaw("c")],
}
FILES = {"Target": "etc/key", "Class": "secret", "Secrets": [secret("one")]}
REPORT = {
    "SchemaVersion": 2,
    "Metadata": {"OS": {"Family": "debian", "Name": "12.5"}},
    "Results": [SYSTEM, LANGUAGE, FILES],
}


@pytest.fixture
def read(tmp_path: Path):
    def run(document: object) -> ScanReport:
        path = tmp_path / "report.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return trivy_report.read_report(path, vulnerabilities_available=True, secrets_available=True)

    return run


def as_sets(report: ScanReport) -> tuple:
    facts = (report.packages, report.vulnerabilities, report.matches, report.secrets)
    return report.os_family, report.os_name, *(set(map(repr, each)) for each in facts)


def test_a_report_says_the_same_in_whatever_order_it_is_written(read) -> None:
    expected = as_sets(read(REPORT))
    assert [len(each) for each in expected[2:]] == [3, 2, 3, 1]
    for results in itertools.permutations(REPORT["Results"]):
        turned = [dict(reversed(result.items())) for result in results]
        assert as_sets(read({**REPORT, "Results": list(results)})) == expected
        assert as_sets(read(dict(reversed({**REPORT, "Results": turned}.items())))) == expected


def test_the_release_stands_with_the_systems_packages_alone_and_the_target_with_the_others(read) -> None:
    packages = {fact.name: fact for fact in read(REPORT).packages}
    assert (packages["a"].os_release, packages["a"].path) == ("debian 12.5", "")
    assert (packages["c"].os_release, packages["c"].path) == ("", "app/go.bin")


def test_lists_beyond_their_limits_are_cut_and_named(read, monkeypatch) -> None:
    for name in ("MAX_PACKAGES", "MAX_MATCHES", "MAX_SECRETS"):
        monkeypatch.setattr(trivy_report, name, 2)
    many = [secret(str(number)) for number in range(3)]
    report = read({**REPORT, "Results": [SYSTEM, LANGUAGE, {**FILES, "Secrets": many}]})
    assert report.truncated == ("matches", "packages", "secrets")
    assert [len(each) for each in (report.packages, report.matches, report.secrets)] == [2, 1, 2]


def test_a_match_of_a_package_that_is_nowhere_is_no_report(read) -> None:
    with pytest.raises(EngineCrash, match="CVE-9 names a package that is not listed"):
        read({**REPORT, "Results": [{**SYSTEM, "Vulnerabilities": [flaw("z", "CVE-9")]}]})


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        '{"SchemaVersion": 2, "Results": {}}',
        '{"SchemaVersion": 2, "Results": [{"Packages": [[]]}]}',
        '{"SchemaVersion": 2, "Results": [{"Packages": [{"Identifier": "x"}]}]}',
        '{"SchemaVersion": 2, "Results": []} hunter2',
        '{"SchemaVersion": 2, "hunter2": hunter2}',
        '{"SchemaVersion": 2, "deep": ' + "[" * 100 + "]" * 100 + "}",
    ],
)
def test_what_is_no_report_is_refused_in_words_that_quote_nothing_of_it(read, answer) -> None:
    with pytest.raises(EngineCrash, match="cannot be read") as error:
        read(answer)
    assert "hunter2" not in error.value.reason


def test_reading_stops_when_the_scan_is_cancelled(tmp_path: Path) -> None:
    (tmp_path / "report").write_text(json.dumps(REPORT))
    with pytest.raises(EngineCancelled):
        trivy_report.read_report(
            tmp_path / "report",
            vulnerabilities_available=True,
            secrets_available=True,
            keep_going=lambda: False,
        )


def grown(path: Path) -> int:
    """MiB by which a process grows that reads the report."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return int(done.stdout)


BEGINS = '{"SchemaVersion": 2, "Results": ['


@pytest.mark.parametrize(
    "crafted",
    [
        BEGINS + "[" * (8 * MIB),
        BEGINS
        + '{"Packages": ['
        + '{"Name": "a", "Arch": "amd64", "Maintainer": "a"},' * (MIB // 6)
        + "{}]}]}",
        BEGINS + '{"Packages": [{"Name": "' + "x" * (8 * MIB) + '"}]}]}',
        BEGINS + '{"Packages": [{"Epoch": ' + "1" * (8 * MIB) + "}]}]}",
        BEGINS + '{"Packages": [{' + ",".join(f'"{number}":0' for number in range(MIB // 2)) + "}]}]}",
        BEGINS + '{"Vulnerabilities": [{"References": [' + '"https://a.example",' * (MIB // 2) + "1]}]}]}",
    ],
    ids=["lists in lists", "equal packages", "a long text", "a long number", "many keys", "a long list"],
)
def test_eight_crafted_megabytes_take_little_memory(tmp_path: Path, crafted: str) -> None:
    (tmp_path / "report").write_text(crafted)
    assert grown(tmp_path / "report") < 100


def test_a_report_of_96_mib_takes_the_memory_of_what_it_says_and_not_of_its_length(tmp_path: Path) -> None:
    names = [f"lib{number}" for number in range(100)]
    found = json.dumps([{**flaw(name), "Description": "d" * 12_000} for name in names])
    result = {**SYSTEM, "Packages": [package(name) for name in names], "Vulnerabilities": "HERE"}
    before, after = json.dumps({**REPORT, "Results": [result]}).split('"HERE"')
    with (tmp_path / "report").open("w") as file:
        file.write(before + "[" + found[1:-1])
        while file.tell() < 96 * MIB:
            file.write("," + found[1:-1])
        file.write("]" + after)
    assert grown(tmp_path / "report") < 100
