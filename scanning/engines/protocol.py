"""What every scan engine answers: frozen facts, the order of severities, and the error tree."""

import enum
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime


class Severity(enum.IntEnum):
    """How bad a flaw is, ordered so that `max()` gives the worst; the number is what a column stores."""

    UNKNOWN = 0
    NEGLIGIBLE = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def word(self) -> str:
        """The glossary's lower-case word, as shown and as used in a query string."""
        return self.name.lower()

    @classmethod
    def parse(cls, word: str) -> "Severity":
        """The severity a word stands for in any case; an unrecognised word is UNKNOWN, never dropped."""
        return cls.__members__.get(word.strip().upper(), cls.UNKNOWN)


class FixStatus(enum.StrEnum):
    """What the package's publisher says about a flaw in the installed version."""

    UNKNOWN = "unknown"
    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    FIXED = "fixed"
    UNDER_INVESTIGATION = "under_investigation"
    WILL_NOT_FIX = "will_not_fix"
    FIX_DEFERRED = "fix_deferred"
    END_OF_LIFE = "end_of_life"

    @classmethod
    def parse(cls, word: str) -> "FixStatus":
        """The status a word stands for; an unrecognised word is UNKNOWN."""
        try:
            return cls(word.strip().lower())
        except ValueError:
            return cls.UNKNOWN


def _fingerprint(*parts: object) -> str:
    text = json.dumps([str(part) for part in parts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """Which engine gave an answer, such as name "trivy" and version "0.76.0"."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class DatabaseVersion:
    """Which vulnerability database gave an answer; all times are aware and UTC.

    `source` says in words where it came from: an OCI repository, a bundle file's name, "demo".
    """

    schema: int
    updated_at: datetime | None
    next_update: datetime | None
    downloaded_at: datetime | None
    source: str

    @property
    def label(self) -> str:
        """Its name in words, as it is stored beside what it said: at most 128 characters."""
        if self.updated_at is None:
            return "no date"
        return f"{self.source[:100]} {self.updated_at:%Y-%m-%d %H:%M}"

    def age_days(self, now: datetime) -> float | None:
        """Days between the database's own date and `now`; None when it carries no date."""
        if self.updated_at is None:
            return None
        return max(0.0, (now - self.updated_at).total_seconds() / 86_400)


@dataclass(frozen=True, slots=True)
class PackageFact:
    """One installed package at one place of one layer.

    `kind` is the engine's word for the package type ("debian", "alpine", "python-pkg", "node-pkg",
    "gobinary", "jar"); `os_release` is "debian 12.5" for an operating system's package and empty for a
    language's; `path` is where the package is recorded, empty when the operating system's own database
    holds it; `layer_diff_id` is empty when the engine did not say.
    """

    name: str
    version: str
    source_name: str
    source_version: str
    kind: str
    purl: str
    os_release: str
    path: str
    layer_diff_id: str

    @property
    def identity(self) -> str:
        """64 hex digits, equal for packages no database can tell apart, wherever they are installed."""
        return _fingerprint(
            self.kind,
            self.name,
            self.version,
            self.source_name,
            self.source_version,
            self.purl,
            self.os_release,
        )


@dataclass(frozen=True, slots=True)
class VulnerabilityFact:
    """A published flaw as the database describes it, apart from any package.

    `severity` is the general rating; the rating for one package is in its MatchFact.
    """

    identifier: str
    severity: Severity
    title: str
    description: str
    cvss_score: float | None
    cvss_vector: str
    cwe_ids: tuple[str, ...]
    references: tuple[str, ...]
    primary_url: str
    published_at: datetime | None
    modified_at: datetime | None


@dataclass(frozen=True, slots=True)
class MatchFact:
    """That a package is hit by a vulnerability, says one data source.

    `fixed_version` is empty when no fix is published; `severity` is as rated for this package.
    """

    package_identity: str
    vulnerability: str
    data_source: str
    fixed_version: str
    status: FixStatus
    severity: Severity


@dataclass(frozen=True, slots=True)
class SecretFact:
    """Sensitive data at one place; the match is masked and the clear text is nowhere in the value.

    `layer_diff_id` is None when it stands in the image's configuration (an `ENV` line).
    """

    layer_diff_id: str | None
    path: str
    rule_id: str
    category: str
    title: str
    severity: Severity
    start_line: int
    end_line: int
    masked_match: str

    @property
    def fingerprint(self) -> str:
        """64 hex digits that tell this finding from the others of its layer."""
        return _fingerprint(self.path, self.rule_id, self.start_line, self.end_line, self.masked_match)


@dataclass(frozen=True, slots=True)
class ScanReport:
    """All an engine said about one image.

    `os_family` and `os_name` are empty when no distribution was recognised. `os_supported` is False
    when the distribution's support has ended, None when unknown. `vulnerabilities_available` is False
    when no database was there to ask, `secrets_available` when sensitive data was not looked for: an
    empty list then means nothing. `truncated` names the lists that were cut at a limit.
    """

    os_family: str
    os_name: str
    os_supported: bool | None
    packages: tuple[PackageFact, ...]
    vulnerabilities: tuple[VulnerabilityFact, ...]
    matches: tuple[MatchFact, ...]
    secrets: tuple[SecretFact, ...]
    vulnerabilities_available: bool = True
    secrets_available: bool = True
    truncated: tuple[str, ...] = ()


class EngineError(Exception):
    """A scan engine could not answer: a code of the console's list, the reason, and what to do.

    `detail` holds the engine's last words, for the log only.
    """

    code = "ENG_CRASH"

    def __init__(self, reason: str, remedy: str, *, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.detail = detail


class EngineTimeout(EngineError):  # noqa: N818
    """The engine was still at work when its time was up, and was ended."""

    code = "ENG_TIMEOUT"


class EngineCrash(EngineError):  # noqa: N818
    """The engine ended without an answer, or could not be started."""

    code = "ENG_CRASH"


class EngineDatabaseError(EngineError):
    """The engine refused its database."""

    code = "ENG_DB"


class ImageMalformed(EngineError):  # noqa: N818
    """The image's own content cannot be read."""

    code = "IMG_MALFORMED"


class EngineBomb(EngineError):  # noqa: N818
    """The image's content grows beyond all measure when it is looked at."""

    code = "IMG_BOMB"


class EngineDiskFull(EngineError):  # noqa: N818
    """The engine ran out of space for its temporary files."""

    code = "DISK_FULL"


class EngineCancelled(EngineError):  # noqa: N818
    """The caller asked to stop before the engine was done."""

    code = "CANCELLED"
