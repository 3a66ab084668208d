"""What an engine's answer is worth to each category: found nothing and could not look stay apart."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scanning.engines.protocol import DatabaseVersion, EngineVersion, PackageFact, ScanReport
from scanning.examination import Examined, doubted, verdicts
from scanning.models import CATEGORIES_OF, Category, CategoryState, Part
from tcss.lifecycle import Failure

REPORT = ScanReport("debian", "12.5", True, (), (), (), ())
WHEN = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
EXAMINED = Examined(
    report=REPORT,
    engine=EngineVersion("trivy", "0.76.0"),
    database=DatabaseVersion(2, WHEN, None, None, "mirror/trivy-db:2"),
    database_failure=None,
    foreign_layers=0,
)
VULNERABILITIES, SENSITIVE = Category.VULNERABILITIES, Category.SENSITIVE
JAR = PackageFact("log4j", "2.14", "", "", "jar", "", "", "app.jar", "")


def states(examined: Examined) -> dict[Category, str]:
    ended = verdicts(examined, CATEGORIES_OF[Part.CONTENT])
    return {category: verdict.state for category, verdict in ended.items()}


def test_a_known_distribution_without_findings_is_scanned_with_its_database_named() -> None:
    verdict = verdicts(EXAMINED, [VULNERABILITIES])[VULNERABILITIES]
    assert (verdict.state, verdict.failure) == (CategoryState.SUCCEEDED, None)
    assert (verdict.database_version, verdict.database_updated_at) == (
        "mirror/trivy-db:2 2026-11-20 06:30",
        WHEN,
    )


@pytest.mark.parametrize("packages", [(), (JAR,)])
def test_an_unknown_distribution_is_never_told_as_scanned_whatever_packages_of_languages_it_holds(
    packages: tuple[PackageFact, ...],
) -> None:
    report = replace(REPORT, os_family="", os_name="", os_supported=None, packages=packages)
    assert states(replace(EXAMINED, report=report))[VULNERABILITIES] == CategoryState.UNSUPPORTED
    assert states(replace(EXAMINED, report=report))[SENSITIVE] == CategoryState.SUCCEEDED


def test_a_database_that_failed_costs_the_vulnerabilities_alone() -> None:
    failure = Failure("ENG_DB", "It is broken.", "Get another.")
    ended = verdicts(replace(EXAMINED, database_failure=failure), [VULNERABILITIES, SENSITIVE])
    assert (ended[VULNERABILITIES].state, ended[VULNERABILITIES].failure) == (CategoryState.FAILED, failure)
    assert ended[SENSITIVE].state == CategoryState.SUCCEEDED


def test_layers_kept_elsewhere_and_lists_that_were_cut_are_told_as_not_fully_scanned() -> None:
    assert states(replace(EXAMINED, foreign_layers=2))[SENSITIVE] == CategoryState.PARTIAL
    cut = replace(EXAMINED, report=replace(REPORT, truncated=("secrets",)))
    assert states(cut) == {
        VULNERABILITIES: CategoryState.SUCCEEDED,
        SENSITIVE: CategoryState.PARTIAL,
    }
    failure = verdicts(cut, [SENSITIVE])[SENSITIVE].failure
    assert failure is not None
    assert failure.code == "ENG_PARTIAL"


def test_a_distribution_without_packages_fails_the_vulnerabilities_alone() -> None:
    doubtful = doubted(replace(EXAMINED, inventory_engine="trivy 0.76.0"))
    ended = verdicts(doubtful, [VULNERABILITIES, SENSITIVE])
    failure = ended[VULNERABILITIES].failure
    assert ended[VULNERABILITIES].state == CategoryState.FAILED
    assert failure is not None
    assert failure.code == "ENG_PARTIAL"
    assert ended[SENSITIVE].state == CategoryState.SUCCEEDED
    assert doubtful.inventory_engine == ""
