"""Keeps the vulnerability database fresh by itself where its source can be reached."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from scanning import installed
from scanning.engine_models import MatchRun
from scanning.engines.mirror_login import Login
from scanning.engines.protocol import DatabaseVersion, EngineError

log = logging.getLogger(__name__)

DEFAULT_REPOSITORY = "mirror.gcr.io/aquasec/trivy-db:2"
# A source that did not answer is asked again after this; an air-gapped installation asks in vain for ever.
RETRY_AFTER = timedelta(hours=1)
# How long a database without a date for its successor counts as fresh.
_FRESH = timedelta(days=1)
_HELD = "held-since"
# After somebody went back to the version before, the one that was left is not downloaded by itself so long.
HELD_FOR = timedelta(days=1)


def repository() -> str:
    """The OCI repository the database comes from: the installation's mirror, else Trivy's own."""
    return settings.TRIVY_DB_REPOSITORY or DEFAULT_REPOSITORY


def login() -> Login | None:
    """The account for that repository; None where anybody may read it."""
    if not settings.TRIVY_DB_USERNAME:
        return None
    return Login(settings.TRIVY_DB_USERNAME, settings.TRIVY_DB_PASSWORD)


def newest_known() -> datetime | None:
    """The date of the newest database that any host has matched the images with; None before the first.

    Hosts with data folders of their own may have different ones.
    """
    found: datetime | None = MatchRun.objects.aggregate(newest=Max("database_updated_at"))["newest"]
    return found


def roll_back(now: datetime | None = None) -> DatabaseVersion:
    """Use the version before again, and download none by itself for a day. Raises EngineError."""
    database = installed.vulnerability_database()
    version = database.roll_back(installed.trivy(installed.work_root()))
    (database.root / _HELD).write_text((now or timezone.now()).isoformat(), encoding="ascii")
    return version


def refresh(now: datetime | None = None) -> DatabaseVersion | None:
    """Download the database if a newer one is due; the new version, or None where nothing was changed.

    A failure is logged and leaves the database in use as it is: its age is shown on every page.
    """
    now = now or timezone.now()
    database = installed.vulnerability_database()
    if not settings.DATABASE_UPDATES or not _is_due(database.current(), now):
        return None
    if _is_within(database.root / _HELD, HELD_FOR, now) or not _claim_attempt(now):
        return None
    try:
        version = database.download(repository(), installed.trivy(installed.work_root()), login=login())
    except EngineError as error:
        log.warning(
            "The vulnerability database could not be downloaded",
            extra={"repository": repository(), "code": error.code, "reason": error.reason},
        )
        return None
    log.info("The vulnerability database was downloaded", extra={"repository": repository()})
    return version


def _is_due(version: DatabaseVersion | None, now: datetime) -> bool:
    if version is None:
        return True
    if version.next_update:
        return now >= version.next_update
    return version.updated_at is None or now - version.updated_at > _FRESH


def _claim_attempt(now: datetime) -> bool:
    """Whether nobody has tried within the hour; the time is kept beside the database, for all processes."""
    mark: Path = installed.vulnerability_database().root / "last-attempt"
    mark.parent.mkdir(parents=True, exist_ok=True)
    if _is_within(mark, RETRY_AFTER, now):
        return False
    mark.write_text(now.isoformat(), encoding="ascii")
    return True


def _is_within(mark: Path, period: timedelta, now: datetime) -> bool:
    """Whether the time in that file is so short ago; a clock that was set back puts nothing off for ever."""
    try:
        last = datetime.fromisoformat(mark.read_text(encoding="ascii"))
        return last <= now < last + period
    except (OSError, ValueError, TypeError):
        return False
