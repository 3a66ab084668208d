"""The scan engine, vulnerability database and blob store of this installation, by its settings."""

from functools import cache
from pathlib import Path

from django.conf import settings

from scanning.engines.protocol import EngineVersion
from scanning.engines.trivy import Trivy, find_binary
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from scanning.store import BlobStore, Limits


def trivy(work: Path) -> Trivy:
    """The engine, keeping its files in the folder `work`; raises EngineCrash when there is none to run."""
    return Trivy(_binary(settings.TRIVY_BINARY), work)


def engine_version() -> EngineVersion:
    """What the engine calls itself; it is asked once in a process. Raises EngineError."""
    return _engine_version(_binary(settings.TRIVY_BINARY), work_root())


def vulnerability_database() -> VulnerabilityDatabase:
    """The database, whether there is one yet or not."""
    return VulnerabilityDatabase(settings.DATA_DIR / "vulnerability-db")


def blob_store() -> BlobStore:
    """The host's store of raw layers."""
    limits = Limits(store_bytes=settings.BLOB_STORE_BYTES, floor_bytes=settings.DISK_FLOOR_BYTES)
    return BlobStore(settings.DATA_DIR / "blobs", limits)


def work_root() -> Path:
    """Where every attempt has a folder while it lasts; on the store's file system, for hard links."""
    return Path(settings.DATA_DIR) / "work"


@cache
def _binary(configured: str) -> Path:
    return find_binary(configured or None)


@cache
def _engine_version(binary: Path, work: Path) -> EngineVersion:
    return Trivy(binary, work).version()
