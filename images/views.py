"""The Repository Images page: the list, its live parts, its export and the actions on its rows."""

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from images.exports import csv_lines
from images.listing import PAGE_SIZES, Listing, registries_in_use, rows_of
from images.outcomes import Told, of_cancel, of_license, of_scan
from images.panel import panel
from images.selection import select, selected_ids
from licensing.services import assign
from scanning.models import Category, TaskTrigger
from scanning.services import request_cancel, request_scan
from tcss.access import permission_needed
from tcss.http import Request, page_shown, render_page, see_other

# What a scan started from a row looks for.
CATEGORIES = tuple(Category)
_MAX_LIVE_ROWS = 100


@require_safe
@permission_needed("images.view_image")
def image_list(request: Request) -> HttpResponse:
    """The page; htmx gets the list alone."""
    registries = registries_in_use()
    listing = Listing(request.GET, registries=registries)
    context = {
        "listing": listing,
        "page": listing.page(),
        "page_sizes": PAGE_SIZES,
        "registries": registries,
    }
    is_fragment = request.htmx and not request.htmx.history_restore_request
    if not is_fragment:
        context["panel"] = panel(registries)
    response = render_page(request, "images/list.html", context, fragment="images/parts/list.html")
    if is_fragment:
        # The address of what is shown, without the empty fields a form sends along.
        place = {name: request.GET[name] for name in ("after", "before") if name in request.GET}
        address = f"{request.path}{listing.url(**place)}".removesuffix("?")
        if address != page_shown(request):
            response["HX-Push-Url"] = address
    return response


@require_safe
@permission_needed("images.view_image")
def image_panel(request: Request) -> HttpResponse:
    """The data scan panel alone, which asks for itself while anything is at work."""
    context = {"panel": panel(registries_in_use())}
    return render_page(request, "images/parts/panel.html", context)


@require_safe
@permission_needed("images.view_image")
def image_rows(request: Request) -> HttpResponse:
    """Rows that were being scanned when they were last looked at, as they are now."""
    rows = rows_of(select(request.GET.getlist("id")[:_MAX_LIVE_ROWS]).tag_pks)
    live = [row.tag.pk for row in rows if row.is_scanning]
    return render_page(request, "images/parts/live.html", {"rows": rows, "scanning_ids": live})


@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("images.view_image")
def image_export(request: Request) -> StreamingHttpResponse:
    """The filtered list, or the selected rows, as a CSV file."""
    if request.method == "POST":
        rows = iter(rows_of(select(selected_ids(request.POST)).tag_pks))
    else:
        rows = Listing(request.GET, registries=registries_in_use()).rows()
    name = f"repository-images-{timezone.localtime():%Y-%m-%d-%H%M}.csv"
    disposition = content_disposition_header(as_attachment=True, filename=name)
    return StreamingHttpResponse(
        csv_lines(rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": disposition or "", "Cache-Control": "no-store"},
    )


@require_POST
@permission_needed("licensing.add_licenseassignment")
def image_license(request: Request) -> HttpResponse:
    """Take a license for each selected image."""
    selection = select(selected_ids(request.POST))
    return _tell(request, of_license(assign(selection.image_pks, request.user), selection))


@require_POST
@permission_needed("scanning.add_scan")
def image_scan(request: Request) -> HttpResponse:
    """Scan the selected images."""
    selection = select(selected_ids(request.POST))
    count = len(selection.tag_pks)
    scope = f"{count:,} selected image version{'' if count == 1 else 's'}"
    task = None
    if selection.image_pks:
        task = request_scan(selection.image_pks, CATEGORIES, TaskTrigger.MANUAL, request.user, scope)
    return _tell(request, of_scan(task, selection))


@require_POST
@permission_needed("scanning.change_scan")
def image_cancel(request: Request) -> HttpResponse:
    """Stop scanning the selected images."""
    selection = select(selected_ids(request.POST))
    return _tell(request, of_cancel(request_cancel(selection.image_pks, request.user), selection))


def _tell(request: Request, told: Told) -> HttpResponse:
    """Back to where the form was, with what was done."""
    level = messages.SUCCESS if told.done and not told.left else messages.WARNING
    messages.add_message(request, level, told.sentence)
    images = reverse("images:image-list")
    return see_other(request, images, within=images)
