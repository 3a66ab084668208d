"""The Repository Images list: one query object behind the page, its fragment and its export."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from images.filters import ImageFilter
from images.models import ScanStatus
from images.ordering import DEFAULT_ORDER, ORDERS, InvalidCursorError, Order
from repositories.models import Registry, Tag
from scanning.models import Scan

PAGE_SIZES = (20, 50, 100)
DEFAULT_SIZE = 50
# Beyond this many hits the exact number is not worth its price.
COUNT_CAP = 10_000
_EXPORT_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the list: an image version, and the scan its image waits for or is in, if any."""

    tag: Tag
    scan: Scan | None = None

    @property
    def scan_status(self) -> ScanStatus:
        """One of the five words of the product."""
        return ScanStatus(self.tag.image.scan_status) if self.tag.image else ScanStatus.NOT_SCANNED

    @property
    def is_scanning(self) -> bool:
        """Whether the row changes by itself."""
        return self.scan_status == ScanStatus.SCANNING

    @property
    def can_be_licensed(self) -> bool:
        """Whether a license may be taken for it."""
        return self.tag.image is not None and not self.tag.image.is_licensed

    @property
    def can_be_scanned(self) -> bool:
        """Whether a scan may be asked for now."""
        image = self.tag.image
        return image is not None and image.is_licensed and not self.is_scanning


@dataclass(frozen=True, slots=True)
class Chip:
    """One active filter value, and the address of the list without it."""

    label: str
    value: str
    url: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One value a filter offers."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Head:
    """A column head that sorts: where it leads, and its order now: "ascending", "descending" or ""."""

    label: str
    url: str
    direction: str


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page and the addresses of its neighbours; total None is more than COUNT_CAP."""

    rows: tuple[Row, ...]
    total: int | None
    previous_url: str
    next_url: str

    @property
    def total_text(self) -> str:
        """The number of hits as shown."""
        return f"{COUNT_CAP:,}+" if self.total is None else f"{self.total:,}"

    @property
    def scanning_ids(self) -> list[int]:
        """The rows that change by themselves."""
        return [row.tag.pk for row in self.rows if row.is_scanning]


class Listing:
    """What one query string asks of the list: filters, order, page size and place."""

    def __init__(self, query: QueryDict, *, registries: Sequence[Registry]) -> None:
        self.query = query
        self._filter = ImageFilter(query, Tag.objects.visible(), registries=registries)
        self.form = self._filter.form
        self.order: Order = ORDERS.get(query.get("sort", ""), DEFAULT_ORDER)
        size = query.get("size", "")
        self.size = int(size) if size in {str(each) for each in PAGE_SIZES} else DEFAULT_SIZE

    @property
    def is_understood(self) -> bool:
        """Whether every filter of the query string exists and has a value it can have."""
        return bool(self._filter.is_valid())

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        """Filter -> its values as the query string has them; only what is understood and not empty."""
        cleaned = self.form.cleaned_data if self.is_understood else {}
        values = {}
        for name, value in cleaned.items():
            given = [str(each) for each in value] if isinstance(value, list) else [str(value or "")]
            if kept := [each for each in given if each]:
                values[name] = kept
        return values

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self._values) or not self.is_understood

    @property
    def search(self) -> str:
        """The words searched for."""
        return (self._values.get("q") or [""])[0]

    @cached_property
    def found(self) -> QuerySet[Tag]:
        """The rows that pass the filters, in no order; none when the query string is not understood."""
        return self._filter.qs if self.is_understood else Tag.objects.none()

    def page(self) -> Page:
        """The page the query string asks for; at most six queries whatever its size."""
        rows, total = self._narrowed()
        tags, has_previous, has_next = self._window(rows)
        scans = active_scans(tags)
        return Page(
            rows=tuple(Row(tag, scans.get(tag.image_id or 0)) for tag in tags),
            total=total,
            previous_url=self.url(before=self.order.cursor(tags[0])) if has_previous and tags else "",
            next_url=self.url(after=self.order.cursor(tags[-1])) if has_next and tags else "",
        )

    def rows(self) -> Iterator[Row]:
        """Every row in order, read in batches: what an export writes."""
        for segment in range(self.order.segments):
            for tag in shown(self.order.rows(self.found, segment, backwards=False)).iterator(
                chunk_size=_EXPORT_BATCH
            ):
                yield Row(tag)

    def heads(self) -> Mapping[str, Head]:
        """Key of an order -> its column head; pressing the head again turns the order round."""
        heads = {}
        for order in ORDERS.values():
            if order.key in heads:
                continue
            mine = self.order.key == order.key
            descending = not self.order.descending if mine else order.key != "name"
            direction = ("descending" if self.order.descending else "ascending") if mine else ""
            sort = f"-{order.key}" if descending else order.key
            heads[order.key] = Head(order.label, self.url(sort=sort), direction)
        return heads

    def choices(self) -> dict[str, list[Choice]]:
        """Filter -> what it offers."""
        offered = {}
        for name, field in self.form.fields.items():
            chosen = self._values.get(name, [])
            offered[name] = [
                Choice(str(value), str(label), str(value) in chosen)
                for value, label in getattr(field, "choices", [])
                if value
            ]
        return offered

    def chips(self) -> list[Chip]:
        """The active filters one by one."""
        labels = {
            (name, choice.value): choice.label
            for name, choices in self.choices().items()
            for choice in choices
        }
        return [
            Chip(
                label=str(self.form.fields[name].label),
                value=labels.get((name, value), value),
                url=self.url(**{name: [each for each in values if each != value]}),
            )
            for name, values in self._values.items()
            for value in values
        ]

    def url(self, **changes: str | list[str]) -> str:
        """The query string of this list with some parts changed; always from its first page unless told.

        Only what is understood and differs from the default is in it, so equal lists have equal addresses.
        """
        parts: dict[str, list[str]] = dict(self._values)
        if self.order != DEFAULT_ORDER:
            parts["sort"] = [self.order.parameter]
        if self.size != DEFAULT_SIZE:
            parts["size"] = [str(self.size)]
        for name, value in changes.items():
            parts[name] = [value] if isinstance(value, str) else value
        if parts.get("sort") == [DEFAULT_ORDER.parameter]:
            del parts["sort"]
        query = QueryDict(mutable=True)
        for name in sorted(parts):
            if parts[name]:
                query.setlist(name, parts[name])
        return f"?{query.urlencode()}"

    def _narrowed(self) -> tuple[QuerySet[Tag], int | None]:
        """The rows to page through, and how many there are unless they are too many to count."""
        if not self.is_filtered:
            count = self.found.order_by()[: COUNT_CAP + 1].count()
            return self.found, count if count <= COUNT_CAP else None
        ids = list(self.found.order_by().values_list("pk", flat=True)[: COUNT_CAP + 1])
        if len(ids) > COUNT_CAP:
            return self.found, None
        # Few rows are sorted; walking a whole order in search of them could take seconds.
        return Tag.objects.filter(pk__in=ids), len(ids)

    def _window(self, rows: QuerySet[Tag]) -> tuple[list[Tag], bool, bool]:
        """The tags of the page, and whether there are others before and behind it."""
        backwards = "after" not in self.query and "before" in self.query
        text = self.query.get("before" if backwards else "after", "")
        try:
            cursor = self.order.parse(text) if text else None
        except InvalidCursorError:
            cursor = None
        if cursor is None:
            backwards = False
        order = range(self.order.segments)
        tags: list[Tag] = []
        for segment in reversed(order) if backwards else order:
            if cursor and (segment > cursor.segment if backwards else segment < cursor.segment):
                continue
            found = self.order.rows(rows, segment, backwards=backwards)
            if cursor and segment == cursor.segment:
                found = self.order.beyond(found, cursor, backwards=backwards)
            tags.extend(shown(found)[: self.size + 1 - len(tags)])
            if len(tags) > self.size:
                break
        has_more = len(tags) > self.size
        tags = tags[: self.size]
        if backwards:
            return tags[::-1], has_more, True
        return tags, cursor is not None, has_more


def shown(tags: QuerySet[Tag], *, with_content: bool = False) -> QuerySet[Tag]:
    """What a row shows, in one query; ``with_content`` adds the image's build history and labels."""
    unseen = ["search", "registry__password", "registry__custom_ca"]
    if not with_content:
        unseen += ["image__history", "image__labels"]
    return tags.select_related("registry", "manifest", "image").defer(*unseen)


def active_scans(tags: Sequence[Tag]) -> dict[int, Scan]:
    """Image -> the scan it waits for or is in; one query, and none where nothing is scanned."""
    scanning = {tag.image_id for tag in tags if tag.image and tag.image.scan_status == ScanStatus.SCANNING}
    if not scanning:
        return {}
    scans = Scan.objects.active().filter(image__in=scanning).select_related("waits_for")
    return {scan.image_id: scan for scan in scans.defer("waits_for__password", "waits_for__custom_ca")}


def registries_in_use() -> list[Registry]:
    """Every registry with what the page shows of it; one query."""
    return list(Registry.objects.defer("password", "custom_ca").order_by("name"))


def rows_of(ids: Sequence[Any]) -> list[Row]:
    """These rows as they are now; two queries."""
    tags = list(shown(Tag.objects.visible().filter(pk__in=ids)))
    scans = active_scans(tags)
    return [Row(tag, scans.get(tag.image_id or 0)) for tag in tags]
