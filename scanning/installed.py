"""The scan engines, vulnerability database and blob store of this installation, by its settings."""

import logging
import time
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from django.conf import settings

from scanning.engines.clamav import Clamd, Limits as ClamdLimits
from scanning.engines.clamav_connection import TcpAddress, UnixAddress
from scanning.engines.clamav_signatures import ClamavSignatures
from scanning.engines.judges import Judge, YaraJudge, reach
from scanning.engines.malware import SignatureVersion
from scanning.engines.protocol import EngineError, EngineVersion
from scanning.engines.trivy import Trivy, analysis_key, find_binary
from scanning.engines.trivy_matching import Matcher
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from scanning.engines.yara import SUFFIXES, Yara
from scanning.store import BlobStore, Limits
from tcss.lifecycle import Failure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MalwareEngines:
    """The engines for viruses and trojans that can be asked, and why others cannot or not fully."""

    judges: tuple[Judge, ...]
    failures: tuple[Failure, ...]


def trivy(work: Path) -> Trivy:
    """The engine, keeping its files in the folder `work`; raises EngineCrash when there is none to run."""
    return Trivy(_binary(settings.TRIVY_BINARY), work)


def matcher(work: Path) -> Matcher:
    """The engine for packages that are known already; raises EngineCrash when there is none to run."""
    return Matcher(_binary(settings.TRIVY_BINARY), work)


def engine_version() -> EngineVersion:
    """What the engine calls itself; it is asked once in a process. Raises EngineError."""
    return _engine_version(_binary(settings.TRIVY_BINARY), work_root())


def content_engine_key() -> str:
    """What the engine reads in a layer depends on; asked without running it. Raises EngineCrash."""
    return _analysis_key(_binary(settings.TRIVY_BINARY))


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


def malware_engines() -> MalwareEngines:
    """YARA always, and clamd where the settings name one; asks them what they are."""
    judges: list[Judge] = []
    failures = []
    try:
        yara = _yara(settings.YARA_RULES, _rule_files(settings.YARA_RULES))
    except EngineError as error:
        failures.append(_failure(error))
        yara = _yara(None, ())
    judges.append(YaraJudge(yara))
    failures += [
        Failure(bad.code, f"Your YARA rules in {bad.name} are not used. {bad.reason}", bad.remedy)
        for bad in yara.bad_files
    ]
    configured = clamd()
    if configured is not None:
        try:
            reached = reach(configured)
        except EngineError as error:
            log.warning(
                "clamd cannot be used", extra={"clamd": str(configured.address), "cause": error.reason}
            )
            failures.append(_failure(error))
        else:
            judges.append(reached)
            if shortcoming := reached.shortcoming:
                failures.append(Failure("ENG_PARTIAL", shortcoming.reason, shortcoming.remedy))
    return MalwareEngines(tuple(judges), tuple(failures))


def clamd() -> Clamd | None:
    """The clamd that the settings name, whether it runs or not."""
    address = settings.CLAMD_ADDRESS
    if address is None:
        return None
    return Clamd(UnixAddress(address) if isinstance(address, Path) else TcpAddress(*address))


def clamav_signatures() -> ClamavSignatures:
    """The signatures of a clamd of our own, whether there are some yet or not."""
    return ClamavSignatures(settings.DATA_DIR / "clamav")


def own_clamd() -> Clamd | None:
    """The clamd that was started with this installation, for commands whose settings do not name it."""
    socket = clamav_signatures().socket()
    return None if socket is None else Clamd(UnixAddress(socket))


def clamd_version() -> SignatureVersion | None:
    """What the clamd of the settings says of itself; None when none is named or it does not answer.

    Pages show it: it is asked once a minute in a process, and waited for a second at most.
    """
    address = settings.CLAMD_ADDRESS
    return None if address is None else _clamd_version(address, int(time.monotonic() // 60))


@lru_cache(maxsize=2)
def _clamd_version(_address: Path | tuple[str, int], _minute: int) -> SignatureVersion | None:
    named = clamd()
    if named is None:
        return None
    try:
        limits = ClamdLimits(connect_seconds=0.5, question_seconds=1)
        return replace(named, limits=limits).version().of_signatures
    except EngineError:
        return None


@lru_cache(maxsize=2)
def _yara(folder: Path | None, _files: tuple[tuple[str, int, int], ...]) -> Yara:
    """The compiled rules, which stay as long as the files of the folder do."""
    return Yara.load(folder)


def _rule_files(folder: Path | None) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file of rules; none where the folder cannot be read."""
    if folder is None:
        return ()
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
        states = [(str(path), path.stat()) for path in paths]
    except OSError:
        return ()
    return tuple((path, state.st_size, state.st_mtime_ns) for path, state in states)


def _failure(error: EngineError) -> Failure:
    return Failure(error.code, error.reason, error.remedy)


@cache
def _binary(configured: str) -> Path:
    return find_binary(configured or None)


@cache
def _engine_version(binary: Path, work: Path) -> EngineVersion:
    return Trivy(binary, work).version()


@cache
def _analysis_key(binary: Path) -> str:
    return analysis_key(binary)
