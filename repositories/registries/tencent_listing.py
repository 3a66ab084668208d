"""Walks the listings of Tencent Cloud's API, whose Offset is a page's number here and an entry's there."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from images.digests import is_signature_tag
from repositories.registries.answers import MalformedError, as_list, as_mapping, moment, text
from repositories.registries.client import JSONAnswer
from repositories.registries.failures import BadAnswerError, RegistryError
from repositories.registries.manifests import INDEX_TYPES, MANIFEST_TYPES
from repositories.registries.paging import LARGEST_PAGE, PAGE_SIZES, walk
from repositories.registries.protocol import ArtifactItem, Kind

# Some times are in Go's form, 2019-01-02 15:04:05 +0800 CST; those without a zone are in China's.
_GO_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: ([+-]\d\d)(\d\d)(?: [A-Z]{1,5})?)?\Z", re.ASCII
)
_KIND = "Artifact::"
_ARTIFACTS_AT_ONCE = 100

Item = TypeVar("Item")
Parse = Callable[[Mapping[str, object]], tuple[str, Item]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page's entries as they came, and the count of all entries that the API gave with them."""

    entries: object
    total: object

    @property
    def count(self) -> int | None:
        """The total where it makes sense as one."""
        is_count = isinstance(self.total, int) and not isinstance(self.total, bool) and self.total >= 0
        return self.total if is_count else None  # type: ignore[return-value]


Ask = Callable[[int, int], Page]
"""The page for an Offset and a Limit."""


def by_entry(ask: Ask, parse: "Parse[Item]") -> Iterator[Item]:
    """Every item of a listing whose Offset counts entries from 0; complete when it ends by itself."""

    def ask_page(query: Mapping[str, object]) -> JSONAnswer:
        number, size = int(str(query["page"])), int(str(query["page_size"]))
        page = ask((number - 1) * size, size)
        return JSONAnswer(page.entries, page.count)

    yield from walk(ask_page, parse)


def by_page(ask: Ask, parse: "Parse[Item]") -> Iterator[Item]:
    """Every item of a listing whose Offset is a page's number; complete when it ends by itself.

    The documents say that pages are counted from 1, and their examples begin at 0. So 1 is asked first, and
    0 too where the total says that something is still left out.
    """
    seen: set[str] = set()
    total: int | None = None

    def ask_page(query: Mapping[str, object]) -> JSONAnswer:
        nonlocal total
        page = ask(int(str(query["page"])), int(str(query["page_size"])))
        total = page.count
        return JSONAnswer(page.entries, total)

    def parse_named(entry: Mapping[str, object]) -> tuple[str, tuple[str, Item]]:
        name, item = parse(entry)
        return name, (name, item)

    for name, item in walk(ask_page, parse_named):
        seen.add(name)
        yield item
    if total is not None and len(seen) >= total:
        return
    page = ask(0, PAGE_SIZES[0])
    try:
        for entry in as_list(page.entries, limit=LARGEST_PAGE):
            name, item = parse(as_mapping(entry))
            if name not in seen:
                seen.add(name)
                yield item
    except ValueError:
        raise BadAnswerError("REG_PROTOCOL", "An entry of a listing has no valid name or digest.") from None


def time_of(entry: Mapping[str, object], key: str) -> datetime:
    """A field's time in either edition's form, 1970 where it is absent; MalformedError when it is none."""
    match = _GO_TIME.match(text(entry, key, limit=64))
    if match:
        return moment({key: f"{match[1]}{match[2] or '+08'}:{match[3] or '00'}"}, key)
    return moment(entry, key)


def kind_of(entry: Mapping[str, object], tag: str) -> Kind:
    """What an image of a list is: its Kind names the manifest's media type, its tag tells the rest."""
    if is_signature_tag(tag):
        return Kind.SBOM if tag.endswith(".sbom") else Kind.SIGNATURE
    media_type = media_type_of(entry)
    if not media_type or media_type in MANIFEST_TYPES:
        return Kind.IMAGE
    if media_type in INDEX_TYPES:
        return Kind.INDEX
    return Kind.CHART if "helm" in media_type else Kind.OTHER


def media_type_of(entry: Mapping[str, object]) -> str:
    """The media type in an entry's Kind, empty where it has none."""
    written = text(entry, "Kind")
    return written.removeprefix(_KIND) if written.startswith(_KIND) else ""


def grouped(items: Iterator[ArtifactItem]) -> Iterator[ArtifactItem]:
    """The items of one tag each, joined by digest where they stand near each other; an error comes last."""
    waiting: dict[str, ArtifactItem] = {}
    try:
        for count, item in enumerate(items, 1):
            other = waiting.get(item.digest)
            waiting[item.digest] = _joined(other, item) if other else item
            if count % _ARTIFACTS_AT_ONCE == 0:
                yield from waiting.values()
                waiting = {}
    except RegistryError:
        yield from waiting.values()
        raise
    yield from waiting.values()


def _joined(one: ArtifactItem, other: ArtifactItem) -> ArtifactItem:
    is_attached = one.kind in {Kind.SIGNATURE, Kind.SBOM}
    return replace(
        one,
        kind=other.kind if is_attached else one.kind,
        pushed_at=max(one.pushed_at, other.pushed_at),
        tags=(*one.tags, *other.tags),
    )


def namespace_of(entry: Mapping[str, object], key: str) -> str:
    """A namespace's name; MalformedError when it is none."""
    name = text(entry, key)
    if not name or "/" in name:
        raise MalformedError("no namespace")
    return name
