"""The details of one image version: a drawer over the list or a page of its own, a tab an address."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from images.forms import FindingForm
from images.listing import Row, active_scans, shown
from images.models import ArtifactKind, Image, Manifest, Platform
from repositories.models import Tag
from scanning.findings import (
    category_results,
    has_result,
    history_of,
    malware_of,
    packages_of,
    secret_types_of,
    secrets_of,
    vulnerabilities_of,
)
from scanning.models import Category
from scanning.rows import MalwareFilter, Page, SecretFilter, VulnerabilityFilter
from tcss.access import permission_needed
from tcss.http import Request, render_page

# Other names of the same content that are told one by one.
_MAX_NAMES = 50
_MAX_PLATFORMS = 50


@dataclass(frozen=True, slots=True)
class _Steps:
    """The addresses of the pages before and behind one page of findings, and what it shows in words."""

    previous_url: str
    next_url: str
    summary: str


@require_safe
@permission_needed("images.view_image")
def overview(request: Request, tag_pk: int) -> HttpResponse:
    """Image risk and image details."""
    row = _row(tag_pk)
    image = row.tag.image
    context: dict[str, Any] = {"tab": "overview"}
    if image:
        names = (
            Tag.objects.visible().filter(image=image).select_related("registry").defer("registry__password")
        )
        context["results"] = category_results(image).values()
        context["names"] = names.order_by("repository_name", "name", "pk")[: _MAX_NAMES + 1]
        context["max_names"] = _MAX_NAMES
        if row.tag.manifest.kind == ArtifactKind.INDEX:
            platforms = _platforms(row.tag)
            context["platforms"] = [one for one in platforms if one.manifest.image_id != row.tag.image_id]
    return _render(request, row, context)


@require_safe
@permission_needed("images.view_image")
def status(request: Request, tag_pk: int) -> HttpResponse:
    """Where scanning is, which asks for itself until it ends and then has the tab loaded again."""
    return render_page(request, "images/parts/status.html", {"row": _row(tag_pk), "is_poll": True})


@require_safe
@permission_needed("images.view_image")
def vulnerabilities(request: Request, tag_pk: int) -> HttpResponse:
    """The vulnerabilities with what to do about each."""
    row, form = _row(tag_pk), FindingForm(request.GET)
    image = row.tag.image
    context: dict[str, Any] = {"tab": "vulnerabilities", "form": form}
    if image:
        filters = VulnerabilityFilter(form.severities, form.asked("q"), form.fixable)
        found = vulnerabilities_of(image, filters, offset=form.start)
        context |= _findings(request, image, Category.VULNERABILITIES, found)
    return _render(request, row, context)


@require_safe
@permission_needed("images.view_image")
def malware(request: Request, tag_pk: int) -> HttpResponse:
    """Viruses and trojans, with the engines that looked for them."""
    row, form = _row(tag_pk), FindingForm(request.GET)
    image = row.tag.image
    context: dict[str, Any] = {"tab": "malware", "form": form}
    if image:
        filters = MalwareFilter(form.severities, form.asked("q"))
        context |= _findings(request, image, Category.MALWARE, malware_of(image, filters, offset=form.start))
        context["result"] = category_results(image)[Category.MALWARE]
    return _render(request, row, context)


@require_safe
@permission_needed("images.view_image")
def sensitive(request: Request, tag_pk: int) -> HttpResponse:
    """Sensitive data, masked."""
    row, form = _row(tag_pk), FindingForm(request.GET)
    image = row.tag.image
    context: dict[str, Any] = {"tab": "sensitive", "form": form}
    if image:
        filters = SecretFilter(form.severities, form.asked("q"), form.asked("type"))
        found = secrets_of(image, filters, offset=form.start)
        context |= _findings(request, image, Category.SENSITIVE, found)
        context["types"] = secret_types_of(image)
    return _render(request, row, context)


@require_safe
@permission_needed("images.view_image")
def packages(request: Request, tag_pk: int) -> HttpResponse:
    """What is installed."""
    row, form = _row(tag_pk), FindingForm(request.GET)
    image = row.tag.image
    context: dict[str, Any] = {"tab": "packages", "form": form}
    if image:
        found = packages_of(image, form.asked("q"), offset=form.start)
        context |= {"found": found, "steps": _steps(request.GET, found), "is_looked_at": image.was_scanned}
    return _render(request, row, context)


@require_safe
@permission_needed("images.view_image")
def history(request: Request, tag_pk: int) -> HttpResponse:
    """How the image was built, instruction by instruction."""
    row = _row(tag_pk)
    rows = history_of(row.tag.image) if row.tag.image else ()
    return _render(request, row, {"tab": "history", "history": rows})


def _row(tag_pk: int) -> Row:
    """The image version with its image and the scan it is in; 404 when there is none."""
    tag = get_object_or_404(shown(Tag.objects.visible(), with_content=True), pk=tag_pk)
    return Row(tag, active_scans([tag]).get(tag.image_id or 0))


def _platforms(tag: Tag) -> list[Platform]:
    """The platforms of a multi-platform image, without what a build tool noted beside them."""
    platforms = Platform.objects.filter(index=tag.manifest).exclude(manifest__kind=ArtifactKind.OTHER)
    return list(platforms.select_related("manifest").order_by("pk")[:_MAX_PLATFORMS])


def _unread(tag: Tag) -> Manifest | None:
    """The manifest whose reading failed, because of which nothing is known of the content."""
    if not tag.manifest.is_read:
        return tag.manifest if tag.manifest.error_code else None
    return next((one.manifest for one in _platforms(tag) if one.manifest.error_code), None)


def _findings(request: Request, image: Image, category: Category, found: Page[Any]) -> dict[str, Any]:
    return {
        "found": found,
        "steps": _steps(request.GET, found),
        "is_looked_at": has_result(image, category),
    }


def _steps(query: QueryDict, page: Page[Any]) -> _Steps:
    def url(offset: int | None) -> str:
        if offset is None:
            return ""
        changed = query.copy()
        changed["offset"] = str(offset)
        return f"?{changed.urlencode()}"

    first = page.offset + 1 if page.rows else 0
    return _Steps(
        previous_url=url(page.previous_offset),
        next_url=url(page.next_offset),
        summary=f"{first:,}–{page.offset + len(page.rows):,} of {page.total:,}",
    )


def _render(request: Request, row: Row, context: dict[str, Any]) -> HttpResponse:
    template = f"images/tabs/{context['tab']}.html"
    if row.tag.image is None:
        context["unread"] = _unread(row.tag)
    return render_page(
        request,
        "images/detail.html",
        {"row": row, "tag": row.tag, "image": row.tag.image, "tab_template": template, **context},
        fragment="images/parts/detail.html",
    )
