"""What was found in one image, as rows to show: a bounded page of each kind and a known number of queries."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Count, F, Max, Q, QuerySet, Value

from images.models import CategoryStatus, Image, ImageLayer, Severity
from scanning.advice import fix_advice
from scanning.engines.malware import MalwareKind
from scanning.models import (
    GOOD_CATEGORY_STATES,
    Category,
    InventoryPackage,
    MalwareFinding,
    Match,
    ScanCategory,
    SecretFinding,
)
from scanning.rows import (
    PAGE_SIZE,
    CategoryResult,
    HistoryRow,
    MalwareFilter,
    MalwareRow,
    PackageRow,
    Page,
    Place,
    SecretFilter,
    SecretRow,
    VulnerabilityFilter,
    VulnerabilityRow,
)
from scanning.whiteouts import deleted_in
from tcss.text import clean_text

MAX_PAGE_SIZE = 500
_LONGEST_SEARCH = 255

_Row = TypeVar("_Row")
_EVERY_VULNERABILITY = VulnerabilityFilter()
_EVERY_SECRET = SecretFilter()
_EVERY_MALWARE = MalwareFilter()


def has_result(image: Image, category: Category) -> bool:
    """Whether there is any good result of the category to show; asks the database only after a failure."""
    status = {
        Category.VULNERABILITIES: image.vulnerabilities_status,
        Category.MALWARE: image.malware_status,
        Category.SENSITIVE: image.sensitive_status,
    }[category]
    if status == CategoryStatus.FAILED:
        good = ScanCategory.objects.filter(
            scan__image=image, category=category, state__in=GOOD_CATEGORY_STATES
        )
        return good.exists()
    return status != CategoryStatus.NOT_SCANNED


def vulnerabilities_of(
    image: Image,
    filters: VulnerabilityFilter = _EVERY_VULNERABILITY,
    *,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> Page[VulnerabilityRow]:
    """A page of the image's vulnerabilities, the worst first; at most six queries."""
    if not has_result(image, Category.VULNERABILITIES):
        return Page((), 0)
    # One filter call for the joined entries: a second one would join them again.
    found = Match.objects.filter(package__entries__inventory__images=image)
    if filters.severities:
        found = found.filter(severity__in=filters.severities)
    if filters.fixable is not None:
        found = found.exclude(fixed_version="") if filters.fixable else found.filter(fixed_version="")
    if text := _words(filters.text):
        found = found.filter(
            Q(vulnerability__identifier__icontains=text)
            | Q(vulnerability__title__icontains=text)
            | Q(package__name__icontains=text)
        )
    found = (
        found.select_related("package", "vulnerability")
        .annotate(
            entry=F("package__entries__pk"),
            path=F("package__entries__path"),
            layer=F("package__entries__inventory__layer"),
        )
        .order_by("-severity", "package__name", "vulnerability__identifier", "entry", "pk")
    )
    layers = _layers(image)
    return _page(found, offset, limit, lambda match: _vulnerability_row(match, layers[match.layer]))


def secrets_of(
    image: Image,
    filters: SecretFilter = _EVERY_SECRET,
    *,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> Page[SecretRow]:
    """A page of the image's sensitive data, the worst first; at most six queries."""
    if not has_result(image, Category.SENSITIVE):
        return Page((), 0)
    found = _secrets(image)
    if filters.severities:
        found = found.filter(severity__in=filters.severities)
    if name := _words(filters.name):
        found = found.filter(title__icontains=name)
    if filters.type:
        found = found.filter(rule_id=_words(filters.type))
    found = found.order_by("-severity", "title", "path", "start_line", "pk")
    return _page_of_files(image, found, offset, limit, _secret_row)


def secret_types_of(image: Image) -> tuple[str, ...]:
    """The types of sensitive data there are in the image, for its filter; one query."""
    types = _secrets(image).order_by("rule_id").values_list("rule_id", flat=True).distinct()
    return tuple(types[:MAX_PAGE_SIZE])


def malware_of(
    image: Image,
    filters: MalwareFilter = _EVERY_MALWARE,
    *,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> Page[MalwareRow]:
    """A page of the image's viruses and trojans, the worst first; at most six queries."""
    if not has_result(image, Category.MALWARE):
        return Page((), 0)
    found = MalwareFinding.objects.filter(layer__in=ImageLayer.objects.filter(image=image).values("layer"))
    if filters.severities:
        found = found.filter(severity__in=filters.severities)
    if path := _words(filters.path):
        found = found.filter(path__icontains=path)
    found = found.order_by("-severity", "path", "engine", "signature", "pk")
    return _page_of_files(image, found, offset, limit, _malware_row)


def packages_of(image: Image, text: str = "", *, offset: int = 0, limit: int = PAGE_SIZE) -> Page[PackageRow]:
    """A page of the image's packages by name; three queries."""
    found = InventoryPackage.objects.filter(inventory__images=image)
    if text := _words(text):
        found = found.filter(
            Q(package__name__icontains=text) | Q(package__version__icontains=text) | Q(path__icontains=text)
        )
    known = has_result(image, Category.VULNERABILITIES)
    found = (
        found.select_related("package", "inventory")
        .annotate(
            found=Count("package__matches") if known else Value(0),
            worst=Max("package__matches__severity", default=-1) if known else Value(-1),
        )
        .order_by("package__name", "package__version", "path", "pk")
    )
    layers = _layers(image)
    return _page(found, offset, limit, lambda entry: _package_row(entry, layers[entry.inventory.layer_id]))


def history_of(image: Image) -> tuple[HistoryRow, ...]:
    """The image's build history from its first instruction on, with the layer each one made; one query."""
    layers = list(ImageLayer.objects.filter(image=image).select_related("layer").order_by("position"))
    made = iter(layers)
    rows = []
    for number, entry in enumerate(image.history, start=1):
        is_empty = bool(entry.get("empty_layer"))
        layer = None if is_empty else next(made, None)
        rows.append(
            HistoryRow(
                number=number,
                created_at=str(entry.get("created") or ""),
                created_by=str(entry.get("created_by") or ""),
                comment=str(entry.get("comment") or ""),
                is_empty=is_empty,
                diff_id=layer.layer.diff_id if layer else "",
                size=layer.layer.size if layer else 0,
            )
        )
    # A history may be shorter than the list of layers, or not be there at all.
    rows += [
        HistoryRow(
            number=len(rows) + number,
            created_at="",
            created_by=layer.created_by,
            comment="",
            is_empty=False,
            diff_id=layer.layer.diff_id,
            size=layer.layer.size,
        )
        for number, layer in enumerate(made, start=1)
    ]
    return tuple(rows)


def category_results(image: Image) -> dict[Category, CategoryResult]:
    """The last good result and the last attempt of every category; two queries."""
    rows = (
        ScanCategory.objects.filter(scan__image=image)
        .select_related("scan")
        .order_by("category", "-scan_id")
        .distinct("category")
    )
    last = {row.category: row for row in rows}
    good = {row.category: row for row in rows.filter(state__in=GOOD_CATEGORY_STATES)}
    return {each: CategoryResult(each, good.get(each), last.get(each)) for each in Category}


def _words(text: str) -> str:
    """What somebody looks for, written as the columns have it: a NUL, which no column holds, as ``\\x00``."""
    return clean_text(text, _LONGEST_SEARCH)


def _secrets(image: Image) -> QuerySet[SecretFinding]:
    """A layer may be listed twice in an image; its findings are shown once."""
    layers = ImageLayer.objects.filter(image=image).values("layer")
    return SecretFinding.objects.filter(Q(image=image) | Q(layer__in=layers))


def _layers(image: Image) -> dict[int | None, Place]:
    places: dict[int | None, Place] = defaultdict(Place)
    for layer in ImageLayer.objects.filter(image=image).select_related("layer").order_by("-position"):
        # Positions count from 0 in the table; the first place of a repeated layer is the one shown.
        places[layer.layer_id] = Place(layer.layer.diff_id, layer.position + 1, layer.created_by)
    return places


def _page(found: QuerySet[Any], offset: int, limit: int, row: Callable[[Any], _Row]) -> Page[_Row]:
    limit = max(1, min(limit, MAX_PAGE_SIZE))
    offset = max(0, offset)
    rows = tuple(row(each) for each in found[offset : offset + limit])
    at_end = len(rows) < limit and (rows or not offset)
    return Page(rows, offset + len(rows) if at_end else found.order_by().count(), offset, limit)


def _page_of_files(
    image: Image,
    found: QuerySet[Any],
    offset: int,
    limit: int,
    row: Callable[[Any, Place, int], _Row],
) -> Page[_Row]:
    """A page of what was found in files, each with its layer and the later one that deletes it."""
    page: Page[Any] = _page(found, offset, limit, lambda finding: finding)
    layers = _layers(image)
    spots = [(finding.layer_id, finding.path) for finding in page if finding.layer_id is not None]
    deleted = deleted_in(image, spots)
    rows = (
        row(finding, layers[finding.layer_id], deleted.get((finding.layer_id, finding.path), 0))
        for finding in page
    )
    return Page(tuple(rows), page.total, page.offset, page.limit)


def _vulnerability_row(match: Any, layer: Place) -> VulnerabilityRow:
    package, flaw = match.package, match.vulnerability
    return VulnerabilityRow(
        key=f"{match.entry}-{match.pk}",
        identifier=flaw.identifier,
        severity=Severity(match.severity),
        package=package.name,
        installed_version=package.version,
        fixed_version=match.fixed_version,
        status=match.status,
        advice=fix_advice(package.name, package.version, match.fixed_version, match.status),
        kind=package.kind,
        purl=package.purl,
        path=match.path,
        layer=layer,
        data_source=match.data_source,
        title=flaw.title,
        description=flaw.description,
        cvss_score=None if flaw.cvss_score is None else float(flaw.cvss_score),
        cvss_vector=flaw.cvss_vector,
        cwe_ids=tuple(flaw.cwe_ids),
        references=tuple(flaw.references),
        primary_url=flaw.primary_url,
        published_at=flaw.published_at,
        modified_at=flaw.modified_at,
    )


def _secret_row(finding: SecretFinding, layer: Place, deleted: int) -> SecretRow:
    return SecretRow(
        key=str(finding.pk),
        name=finding.title,
        type=finding.rule_id,
        category=finding.category,
        severity=Severity(finding.severity),
        path=finding.path,
        start_line=finding.start_line,
        end_line=finding.end_line,
        masked_match=finding.masked_match,
        layer=layer,
        deleted_in=deleted,
        first_seen_at=finding.first_seen_at,
    )


def _malware_row(finding: MalwareFinding, layer: Place, deleted: int) -> MalwareRow:
    known = finding.kind in {each.value for each in MalwareKind}
    kind = MalwareKind(finding.kind) if known else MalwareKind.MALWARE
    return MalwareRow(
        key=str(finding.pk),
        signature=finding.signature,
        engine=finding.engine,
        kind=kind.label,
        suggestion=kind.suggestion,
        description=finding.description,
        severity=Severity(finding.severity),
        path=finding.path,
        size=finding.size,
        file_type=finding.file_type,
        md5=finding.md5,
        sha256=finding.sha256,
        layer=layer,
        deleted_in=deleted,
        first_seen_at=finding.first_seen_at,
        last_seen_at=finding.last_seen_at,
    )


def _package_row(entry: Any, layer: Place) -> PackageRow:
    package = entry.package
    return PackageRow(
        key=str(entry.pk),
        name=package.name,
        version=package.version,
        source_name=package.source_name,
        kind=package.kind,
        purl=package.purl,
        path=entry.path,
        layer=layer,
        vulnerability_count=entry.found,
        worst_severity=entry.worst,
    )
