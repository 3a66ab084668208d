"""Lets the engine look at a pulled image, and judges what its answer is worth to each category."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from scanning import installed
from scanning.engines.layout import write_layout
from scanning.engines.protocol import (
    DatabaseVersion,
    EngineDatabaseError,
    EngineVersion,
    ScanReport,
)
from scanning.engines.trivy import Trivy
from scanning.models import Category, CategoryState
from scanning.pulling import Pulled
from scanning.pulse import Heartbeat
from tcss.lifecycle import Failure

_NO_DATABASE = Failure(
    "ENG_DB",
    "There is no vulnerability database, so nothing is known of the packages' flaws.",
    "Download it with `manage.py vulnerability_db download`, or import a bundle, then scan again.",
)
_NO_MALWARE_ENGINE = Failure(
    "ENG_PARTIAL",
    "No engine for viruses and trojans is installed.",
    "Scan for vulnerabilities and sensitive data.",
)


@dataclass(frozen=True, slots=True)
class Examined:
    """What the engine said, with what, and what it could not look at."""

    report: ScanReport
    engine: EngineVersion
    database: DatabaseVersion | None
    database_failure: Failure | None
    foreign_layers: int
    layer_sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one category ended."""

    state: CategoryState
    engine: EngineVersion
    failure: Failure | None = None
    database_version: str = ""
    database_updated_at: datetime | None = None


def examine(pulled: Pulled, work: Path, heartbeat: Heartbeat) -> Examined:
    """Run the engine over the image, always with the same options, whatever was asked for.

    A database that is missing or refused costs only the vulnerabilities. Raises EngineError.
    """
    layout = work / "layout"
    write_layout(layout, pulled.config, pulled.layers)
    trivy = installed.trivy(work)
    databases = installed.vulnerability_database()
    directory = databases.directory()
    database = databases.current() if directory else None
    failure = None if directory else _NO_DATABASE
    try:
        report = _scan(trivy, layout, directory, heartbeat)
    except EngineDatabaseError as error:
        failure = Failure(error.code, error.reason, error.remedy)
        report = _scan(trivy, layout, None, heartbeat)
    return Examined(
        report=report,
        engine=installed.engine_version(),
        database=database,
        database_failure=failure,
        foreign_layers=pulled.foreign,
        layer_sizes=pulled.layer_sizes,
    )


def _scan(trivy: Trivy, layout: Path, database: Path | None, heartbeat: Heartbeat) -> ScanReport:
    return trivy.scan_layout(
        layout,
        database=database,
        timeout_seconds=heartbeat.seconds_left(),
        keep_going=heartbeat.keep_going,
    )


def verdicts(examined: Examined, categories: Collection[Category]) -> dict[Category, Verdict]:
    """How each of these categories ended."""
    judges = {
        Category.VULNERABILITIES: _judge_vulnerabilities,
        Category.SENSITIVE: _judge_secrets,
        Category.MALWARE: _judge_malware,
    }
    return {category: judges[category](examined) for category in categories}


def _judge_vulnerabilities(examined: Examined) -> Verdict:
    report = examined.report
    if examined.database_failure or not report.vulnerabilities_available:
        return Verdict(CategoryState.FAILED, examined.engine, examined.database_failure or _NO_DATABASE)
    state, failure = _completeness(examined, "packages", "matches")
    # What packages of languages there are is looked at all the same, but nothing is known of the rest.
    if state == CategoryState.SUCCEEDED and not report.os_family:
        state = CategoryState.UNSUPPORTED
    database = examined.database
    updated_at = database.updated_at if database else None
    return Verdict(
        state,
        examined.engine,
        failure,
        database_version=(
            f"{database.source} {updated_at:%Y-%m-%d %H:%M}" if database and updated_at else "no date"
        )[:128],
        database_updated_at=updated_at,
    )


def _judge_secrets(examined: Examined) -> Verdict:
    state, failure = _completeness(examined, "secrets")
    return Verdict(state, examined.engine, failure)


def _judge_malware(examined: Examined) -> Verdict:
    return Verdict(CategoryState.FAILED, examined.engine, _NO_MALWARE_ENGINE)


def _completeness(examined: Examined, *lists: str) -> tuple[CategoryState, Failure | None]:
    if examined.foreign_layers:
        return CategoryState.PARTIAL, Failure(
            "ENG_PARTIAL",
            f"{examined.foreign_layers} layers are kept outside the registry and were not looked at.",
            "Push the image with all of its layers to have them scanned.",
        )
    if set(lists) & set(examined.report.truncated):
        return CategoryState.PARTIAL, Failure(
            "ENG_PARTIAL",
            "The image holds more than is read of one image; what lies beyond is not shown.",
            "Split the image, or look at the rest with the engine by hand.",
        )
    return CategoryState.SUCCEEDED, None
