"""The rows, pages and filters of what was found in an image: frozen values for pages and exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from images.models import Severity
from scanning.models import GOOD_CATEGORY_STATES, Category, ScanCategory

PAGE_SIZE = 50

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[_Row]):
    """Some rows of a list, how many there are in all, and where these begin."""

    rows: tuple[_Row, ...]
    total: int
    offset: int = 0
    limit: int = PAGE_SIZE

    def __iter__(self) -> Iterator[_Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def next_offset(self) -> int | None:
        """Where the next page begins; None on the last."""
        following = self.offset + len(self.rows)
        return following if self.rows and following < self.total else None

    @property
    def previous_offset(self) -> int | None:
        """Where the page before begins; None on the first."""
        return max(0, self.offset - self.limit) if self.offset else None


@dataclass(frozen=True, slots=True)
class Place:
    """The layer something was found in; position counts from 1, and is 0 where no layer is known."""

    diff_id: str = ""
    position: int = 0
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class VulnerabilityFilter:
    """What part of the vulnerabilities to show; `fixable` None is both."""

    severities: frozenset[int] = frozenset()
    text: str = ""
    fixable: bool | None = None


@dataclass(frozen=True, slots=True)
class SecretFilter:
    """What part of the sensitive data to show: by severity, words of its name, or its type."""

    severities: frozenset[int] = frozenset()
    name: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class MalwareFilter:
    """What part of the viruses and trojans to show: by severity, or words of the file's path."""

    severities: frozenset[int] = frozenset()
    path: str = ""


@dataclass(frozen=True, slots=True)
class VulnerabilityRow:
    """One vulnerability of one package at one place of the image."""

    key: str
    identifier: str
    severity: Severity
    package: str
    installed_version: str
    fixed_version: str
    status: str
    advice: str
    kind: str
    purl: str
    path: str
    layer: Place
    data_source: str
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
class SecretRow:
    """One piece of sensitive data; the layer is empty where it stands in the image's own configuration."""

    key: str
    name: str
    type: str
    category: str
    severity: Severity
    path: str
    start_line: int
    end_line: int
    masked_match: str
    layer: Place
    # The position of the later layer that hides the file; 0 where none is known to.
    deleted_in: int
    first_seen_at: datetime

    @property
    def in_configuration(self) -> bool:
        """Whether it is in the image's configuration, such as an ENV line, and in no file."""
        return not self.layer.diff_id


@dataclass(frozen=True, slots=True)
class MalwareRow:
    """One file that an engine for viruses and trojans recognised."""

    key: str
    signature: str
    engine: str
    kind: str
    suggestion: str
    description: str
    severity: Severity
    path: str
    size: int
    file_type: str
    md5: str
    sha256: str
    layer: Place
    # The position of the later layer that hides the file; 0 where none is known to.
    deleted_in: int
    first_seen_at: datetime
    last_seen_at: datetime

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class PackageRow:
    """One installed package, and how bad what is known of it is; -1 where nothing is."""

    key: str
    name: str
    version: str
    source_name: str
    kind: str
    purl: str
    path: str
    layer: Place
    vulnerability_count: int
    worst_severity: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One instruction of the image's build history; an empty one changed no file and has no layer."""

    number: int
    created_at: str
    created_by: str
    comment: str
    is_empty: bool
    diff_id: str
    size: int


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """One risk category of an image: the last good result, which is what is shown, and the last attempt."""

    category: Category
    good: ScanCategory | None
    last: ScanCategory | None

    @property
    def is_shown_from_before(self) -> bool:
        """Whether the last attempt failed and what is shown is an earlier result."""
        return self.good is not None and self.last is not None and self.last.state not in GOOD_CATEGORY_STATES
