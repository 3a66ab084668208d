"""What is old or stuck in this installation, told as plain figures and as problems with a remedy."""

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, Min, Q
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from repositories.models import Sync
from scanning.database_updates import newest_known
from scanning.installed import clamd_version, vulnerability_database
from scanning.models import Scan
from tcss.lifecycle import Failure, LifecycleQuerySet, State

# The scheduler ticks every 30 seconds.
TICK_LATE_SECONDS = 120
# A job that nobody has taken for so long waits for a worker that is not there, or for a very long queue.
QUEUE_LATE_SECONDS = 15 * 60
_TICK_KEY = "tcss:last-tick"
_BROKER_TIMEOUT_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs of one kind; ``overdue`` run under a lease that has run out: their worker is gone.

    ``queued`` ones wait for a worker; ``waiting`` ones for a time, such as a registry's hourly limit.
    """

    queued: int
    waiting: int
    running: int
    overdue: int
    oldest_queued_seconds: int | None


@dataclass(frozen=True, slots=True)
class Broker:
    """The bell: whether it answers, and how long ago the scheduler's tick came through to a worker."""

    reachable: bool
    last_tick_seconds_ago: int | None


@dataclass(frozen=True, slots=True)
class Database:
    """The vulnerability database in use; the rest is empty where there is none."""

    present: bool
    source: str
    updated_at: str
    age_days: float | None
    # Another host with a data folder of its own has used a newer one.
    newer_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Signatures:
    """What clamd recognises malware by; empty where none is named, or where it does not answer."""

    clamd_named: bool
    clamd_answers: bool
    engine: str
    signatures: str
    updated_at: str
    age_days: float | None


@dataclass(frozen=True, slots=True)
class Disk:
    """Room in the data folder, in bytes; scans wait while there is less than the floor."""

    free_bytes: int
    floor_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything of the above."""

    problems: tuple[Failure, ...]
    scans: Queue
    syncs: Queue
    broker: Broker
    vulnerability_database: Database
    malware_signatures: Signatures
    disk: Disk


def status() -> Status:
    """Look at everything once; the database must answer, all else may be away."""
    scans, syncs = _queue(Scan.objects.all()), _queue(Sync.objects.all())
    broker, database, signatures, disk = _broker(), _database(), _signatures(), _disk()
    problems = [
        *_problems_of_queue("scan", scans),
        *_problems_of_queue("data update", syncs),
        *_problems_of_broker(broker),
        *_problems_of_database(database),
        *_problems_of_signatures(signatures),
        *_problems_of_disk(disk),
    ]
    return Status(tuple(problems), scans, syncs, broker, database, signatures, disk)


def record_tick() -> None:
    """Remember that a tick of the scheduler has reached a worker; the broker's clock says when."""
    with _client() as client:
        client.set(_TICK_KEY, client.time()[0])


def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=_BROKER_TIMEOUT_SECONDS,
        socket_timeout=_BROKER_TIMEOUT_SECONDS,
    )


def _queue(jobs: LifecycleQuerySet[Any]) -> Queue:
    later = Q(state=State.QUEUED, available_at__gt=Now())
    queued, running = Q(state=State.QUEUED) & ~later, Q(state=State.RUNNING)
    counted = jobs.active().aggregate(
        queued=Count("pk", filter=queued),
        waiting=Count("pk", filter=later),
        running=Count("pk", filter=running),
        overdue=Count("pk", filter=running & Q(lease_until__lt=Now())),
        oldest=ExpressionWrapper(
            Now() - Min(Greatest("queued_at", "available_at"), filter=queued), output_field=DurationField()
        ),
    )
    oldest: timedelta | None = counted.pop("oldest")
    return Queue(**counted, oldest_queued_seconds=None if oldest is None else int(oldest.total_seconds()))


def _broker() -> Broker:
    try:
        with _client() as client:
            tick, now = client.get(_TICK_KEY), client.time()[0]
    except redis.RedisError:
        return Broker(reachable=False, last_tick_seconds_ago=None)
    return Broker(reachable=True, last_tick_seconds_ago=None if tick is None else now - int(tick))


def _database() -> Database:
    version = vulnerability_database().current()
    if version is None:
        return Database(present=False, source="", updated_at="", age_days=None, newer_elsewhere=False)
    age, newest = version.age_days(timezone.now()), newest_known()
    return Database(
        present=True,
        source=version.source,
        updated_at=version.updated_at.isoformat() if version.updated_at else "",
        age_days=None if age is None else round(age, 1),
        newer_elsewhere=bool(newest and version.updated_at and newest > version.updated_at),
    )


def _signatures() -> Signatures:
    named, version = settings.CLAMD_ADDRESS is not None, clamd_version()
    if version is None:
        return Signatures(named, clamd_answers=False, engine="", signatures="", updated_at="", age_days=None)
    age = version.age_days(timezone.now())
    return Signatures(
        clamd_named=named,
        clamd_answers=True,
        engine=f"{version.engine.name} {version.engine.version}",
        signatures=version.signatures,
        updated_at=version.updated_at.isoformat() if version.updated_at else "",
        age_days=None if age is None else round(age, 1),
    )


def _disk() -> Disk:
    folder = Path(settings.DATA_DIR)
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    return Disk(free_bytes=shutil.disk_usage(folder).free, floor_bytes=settings.DISK_FLOOR_BYTES)


def _problems_of_queue(kind: str, queue: Queue) -> list[Failure]:
    problems = []
    if queue.overdue:
        problems.append(
            Failure(
                "WORKER_LOST",
                f"The worker of {queue.overdue} running {kind}(s) has stopped answering.",
                "They are taken up again within two minutes; if not, see whether workers and scheduler run.",
            )
        )
    if queue.oldest_queued_seconds is not None and queue.oldest_queued_seconds > QUEUE_LATE_SECONDS:
        problems.append(
            Failure(
                "QUEUE_LATE",
                f"A {kind} has waited {queue.oldest_queued_seconds // 60} minutes for a worker.",
                "See whether the workers run; if they do, more are needed.",
            )
        )
    return problems


def _problems_of_broker(broker: Broker) -> list[Failure]:
    if not broker.reachable:
        return [
            Failure(
                "BROKER_AWAY",
                "The broker does not answer, so nothing new is begun.",
                "Start Redis or Valkey at REDIS_URL; what waits is begun by itself.",
            )
        ]
    if broker.last_tick_seconds_ago is None or broker.last_tick_seconds_ago > TICK_LATE_SECONDS:
        return [
            Failure(
                "TICK_LATE",
                "No tick of the scheduler has come through lately.",
                "See whether beat and the control worker run.",
            )
        ]
    return []


def _problems_of_database(database: Database) -> list[Failure]:
    if not database.present:
        return [
            Failure(
                "ENG_DB",
                "There is no vulnerability database.",
                "Run manage.py vulnerability_db to download or import one.",
            )
        ]
    if database.age_days is not None and database.age_days >= settings.DATABASE_STALE_DAYS:
        return [
            Failure(
                "ENG_DB_OLD",
                f"The vulnerability database is {database.age_days:.0f} days old.",
                "Run manage.py vulnerability_db to renew it.",
            )
        ]
    if database.newer_elsewhere:
        return [
            Failure(
                "ENG_DB_OLD",
                "Another host has scanned with a newer vulnerability database than this host has.",
                "Run manage.py vulnerability_db on this host to renew it.",
            )
        ]
    return []


def _problems_of_signatures(signatures: Signatures) -> list[Failure]:
    if signatures.clamd_named and not signatures.clamd_answers:
        return [
            Failure(
                "CLAMD_AWAY",
                "The virus engine clamd does not answer.",
                "Start clamd, or correct TCSS_CLAMD_ADDRESS; vulnerabilities are scanned without it.",
            )
        ]
    if signatures.age_days is not None and signatures.age_days >= settings.DATABASE_STALE_DAYS:
        return [
            Failure(
                "ENG_DB_OLD",
                f"ClamAV's signatures are {signatures.age_days:.0f} days old.",
                "Run manage.py malware_db to renew them, or see to the freshclam beside that clamd.",
            )
        ]
    return []


def _problems_of_disk(disk: Disk) -> list[Failure]:
    if disk.free_bytes >= disk.floor_bytes:
        return []
    return [
        Failure(
            "DISK_FULL",
            f"The data folder has {disk.free_bytes // 2**20} MiB left; scans wait below "
            f"{disk.floor_bytes // 2**20} MiB.",
            "Free some room, or lower TCSS_DISK_FLOOR_MB.",
        )
    ]
