"""Keeps the vulnerability database fresh by itself where its source can be reached."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from scanning import installed
from scanning.engines.protocol import DatabaseVersion, EngineError

log = logging.getLogger(__name__)

DEFAULT_REPOSITORY = "mirror.gcr.io/aquasec/trivy-db:2"
# A source that did not answer is asked again after this; an air-gapped installation asks in vain for ever.
RETRY_AFTER = timedelta(hours=1)
# How long a database without a date for its successor counts as fresh.
_FRESH = timedelta(days=1)


def repository() -> str:
    """The OCI repository the database comes from: the installation's mirror, else Trivy's own."""
    return settings.TRIVY_DB_REPOSITORY or DEFAULT_REPOSITORY


def refresh(now: datetime | None = None) -> DatabaseVersion | None:
    """Download the database if a newer one is due; the new version, or None where nothing was changed.

    A failure is logged and leaves the database in use as it is: its age is shown on every page.
    """
    now = now or timezone.now()
    database = installed.vulnerability_database()
    if not settings.DATABASE_UPDATES or not _is_due(database.current(), now) or not _claim_attempt(now):
        return None
    try:
        version = database.download(repository(), installed.trivy(installed.work_root()))
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
    try:
        last = datetime.fromisoformat(mark.read_text(encoding="ascii"))
    except (OSError, ValueError):
        last = None
    # A clock that was set back must not put the next attempt off for ever.
    if last is not None and last <= now < last + RETRY_AFTER:
        return False
    mark.write_text(now.isoformat(), encoding="ascii")
    return True
