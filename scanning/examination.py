"""Lets the engine look at what is new of an image, and judges what its answer is worth to each category."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from images.models import Image, Layer
from scanning import analyses, installed, whiteouts
from scanning.engine_models import MatchRun
from scanning.engines.layout import write_layout
from scanning.engines.protocol import (
    DatabaseVersion,
    EngineBomb,
    EngineCrash,
    EngineDatabaseError,
    EngineError,
    EngineVersion,
    ImageMalformed,
    ScanReport,
)
from scanning.engines.trivy import Trivy
from scanning.engines.trivy_cache import Analysis
from scanning.matching import is_current
from scanning.models import CATEGORIES_OF, Category, CategoryState, Part, ScanCategory
from scanning.pulling import Pulled
from scanning.pulse import Heartbeat
from tcss.lifecycle import Failure

log = logging.getLogger(__name__)

_NO_DATABASE = Failure(
    "ENG_DB",
    "There is no vulnerability database, so nothing is known of the packages' flaws.",
    "Download it with `manage.py vulnerability_db download`, or import a bundle, then scan again.",
)
_NO_PACKAGES = Failure(
    "ENG_PARTIAL",
    "The engine listed not one package of the image's distribution, so nothing is known of their flaws.",
    "Scan again. If that does not help, the list of installed packages was deleted from the image or cannot "
    "be read: build the image with it.",
)


@dataclass(frozen=True, slots=True)
class Examined:
    """What the engine said, with what, and what it could not look at."""

    report: ScanReport
    engine: EngineVersion
    database: DatabaseVersion | None
    database_failure: Failure | None
    foreign_layers: int
    inventory_engine: str = ""
    lacks_packages: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one category ended."""

    state: CategoryState
    engine: EngineVersion
    failure: Failure | None = None
    database_version: str = ""
    database_updated_at: datetime | None = None


def unchanged(image: Image) -> dict[Category, Verdict] | None:
    """How the categories of content ended last, if they would end so again; None if it takes a look.

    That is when a whole list of packages and sensitive data was saved, the engine is still the same one, and
    what is known of the packages' flaws is what the present database says.
    """
    database = installed.vulnerability_database().current()
    if (
        database is None
        or database.updated_at is None
        or image.inventory_engine != installed.content_engine_key()
    ):
        return None
    engine = installed.engine_version()
    rows = ScanCategory.objects.filter(
        scan__image=image,
        state__in=(CategoryState.SUCCEEDED, CategoryState.UNSUPPORTED),
        engine=engine.name,
        engine_version=engine.version,
    )
    kept = {}
    for category in CATEGORIES_OF[Part.CONTENT]:
        last = rows.filter(category=category).order_by("-finished_at").first()
        if last is None:
            return None
        if category == Category.VULNERABILITIES and not _is_matched(last, database):
            return None
        kept[category] = Verdict(CategoryState(last.state), engine)
    kept[Category.VULNERABILITIES] = replace(
        kept[Category.VULNERABILITIES],
        database_version=database.label,
        database_updated_at=database.updated_at,
    )
    return kept


def _is_matched(last: ScanCategory, database: DatabaseVersion) -> bool:
    """Whether the matches of an image last scanned so are those of this database."""
    run = MatchRun.objects.exclude(started_at=None).order_by("-pk").first()
    if run is None:
        return last.database_version == database.label
    if not is_current(database) or run.started_at is None or last.finished_at is None:
        return False
    # What was saved while the packages were matched may have come too late for that.
    return last.database_version == database.label or last.finished_at < run.started_at


def stored_analyses(image: Image) -> dict[str, Analysis]:
    """Diff ID -> what the engine has read in the image's layers before."""
    diff_ids = image.image_layers.values_list("layer__diff_id", flat=True)
    return analyses.load(installed.content_engine_key(), set(diff_ids))


def examine(pulled: Pulled, stored: Mapping[str, Analysis], work: Path, heartbeat: Heartbeat) -> Examined:
    """Run the engine over the image, always with the same options, whatever was asked for.

    Layers of which an analysis is `stored` are not looked at; what is read in the others is stored, so that
    no layer is looked at twice by whatever worker. A database that is missing or refused costs only the
    vulnerabilities. Raises EngineError.
    """
    _note_layers(pulled, heartbeat)
    databases = installed.vulnerability_database()
    directory = databases.directory()
    database = databases.current() if directory else None
    failure = None if directory else _NO_DATABASE
    key = installed.content_engine_key()
    new = [diff_id for diff_id in pulled.diff_ids if diff_id not in stored]
    with analyses.alone(key, new, heartbeat):
        known = {**stored, **analyses.load(key, new)}
        run = _Run(installed.trivy(work), key, work, heartbeat, dict(pulled.layers), known)
        log.info(
            "The engine looks at an image",
            extra={"layers": len(pulled.diff_ids), "known": len(known.keys() & set(pulled.diff_ids))},
        )
        try:
            report = run.look(pulled, directory)
        except EngineDatabaseError as error:
            failure = Failure(error.code, error.reason, error.remedy)
            report = run.look(pulled, None)
    analyses.note_use(key, pulled.diff_ids)
    return Examined(
        report=report,
        engine=installed.engine_version(),
        database=database,
        database_failure=failure,
        foreign_layers=pulled.foreign,
        inventory_engine="" if pulled.foreign or report.truncated else key,
    )


def doubted(examined: Examined) -> Examined:
    """The same without its packages: what was listed cannot be all there is."""
    return replace(examined, lacks_packages=True, inventory_engine="")


def note_inventory(image_pk: int, examined: Examined) -> None:
    """Write which engine made the image's list of packages, now that it is saved."""
    image = Image.objects.filter(pk=image_pk).exclude(inventory_engine=examined.inventory_engine)
    image.update(inventory_engine=examined.inventory_engine)


def _note_layers(pulled: Pulled, heartbeat: Heartbeat) -> None:
    """Before there is an analysis: with it, the layer may never be pulled again."""
    archives = dict(pulled.layers)
    for diff_id, pk in Layer.objects.filter(diff_id__in=archives).values_list("diff_id", "pk"):
        whiteouts.record(pk, archives[diff_id], heartbeat.check)
    sizes = pulled.layer_sizes
    for layer in Layer.objects.filter(diff_id__in=sizes, size=0):
        layer.size = sizes[layer.diff_id]
        layer.save(update_fields=["size"])


@dataclass
class _Run:
    """The engine at work on one image; what it reads in layers is `known` from then on, here and to all."""

    trivy: Trivy
    key: str
    work: Path
    heartbeat: Heartbeat
    archives: Mapping[str, Path]
    known: dict[str, Analysis]
    count: int = field(default=0, init=False)

    def look(self, pulled: Pulled, database: Path | None) -> ScanReport:
        """The report on the whole image. Raises EngineError, which names the layer that is to blame."""
        try:
            return self._scan(pulled.config, pulled.diff_ids, database)
        except (EngineCrash, ImageMalformed, EngineBomb) as error:
            self._find_blame(error, pulled.diff_ids)
        # Each layer by itself was none too much, and is known now.
        return self._scan(pulled.config, pulled.diff_ids, database)

    def _find_blame(self, error: EngineError, diff_ids: tuple[str, ...]) -> None:
        """Look at the new layers one by one."""
        new = [diff_id for diff_id in dict.fromkeys(diff_ids) if diff_id not in self.known]
        if not new or not self._works():
            raise error
        for diff_id in new:
            try:
                if len(new) == 1:
                    raise error
                self._scan(b"{}", (diff_id,), None)
            except (EngineCrash, ImageMalformed, EngineBomb) as bad:
                raise type(bad)(
                    f"Layer {diff_ids.index(diff_id) + 1}, {diff_id}: {bad.reason}",
                    bad.remedy,
                    detail=bad.detail,
                ) from error

    def _works(self) -> bool:
        """Whether the engine can look at anything at all."""
        try:
            self._scan(b"{}", (), None)
        except EngineError:
            self.heartbeat.check()
            return False
        return True

    def _scan(self, config: bytes, diff_ids: tuple[str, ...], database: Path | None) -> ScanReport:
        self.count += 1
        layout = self.work / f"layout-{self.count}"
        layers = [(each, None if each in self.known else self.archives[each]) for each in diff_ids]
        write_layout(layout, config, layers)
        return self.trivy.scan_layout(
            layout,
            database=database,
            known=[self.known[each] for each in dict.fromkeys(diff_ids) if each in self.known],
            learn=self._learn,
            timeout_seconds=self.heartbeat.seconds_left(),
            keep_going=self.heartbeat.keep_going,
        )

    def _learn(self, analysis: Analysis) -> None:
        # Layers that were not pulled and verified here are none of this run's business.
        if analysis.diff_id in self.archives:
            analyses.save(self.key, analysis)
            self.known[analysis.diff_id] = analysis


def verdicts(examined: Examined, categories: Collection[Category]) -> dict[Category, Verdict]:
    """How each of these categories of the content part ended."""
    judges = {
        Category.VULNERABILITIES: _judge_vulnerabilities,
        Category.SENSITIVE: _judge_secrets,
    }
    return {category: judges[category](examined) for category in categories}


def _judge_vulnerabilities(examined: Examined) -> Verdict:
    report = examined.report
    if examined.database_failure or not report.vulnerabilities_available:
        return Verdict(CategoryState.FAILED, examined.engine, examined.database_failure or _NO_DATABASE)
    if examined.lacks_packages:
        return Verdict(CategoryState.FAILED, examined.engine, _NO_PACKAGES)
    state, failure = _completeness(examined, "packages", "matches")
    # What packages of languages there are is looked at all the same, but nothing is known of the rest.
    if state == CategoryState.SUCCEEDED and not report.os_family:
        state = CategoryState.UNSUPPORTED
    database = examined.database
    return Verdict(
        state,
        examined.engine,
        failure,
        database_version=database.label if database else "no date",
        database_updated_at=database.updated_at if database else None,
    )


def _judge_secrets(examined: Examined) -> Verdict:
    state, failure = _completeness(examined, "secrets")
    return Verdict(state, examined.engine, failure)


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
