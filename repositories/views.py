"""Image repository management: list, add, change, test, update and delete connections."""

import re
from collections.abc import Callable

from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from repositories import cloud_views
from repositories.cloud import ask_update_of_built_in, is_gone
from repositories.connections import test_connection
from repositories.forms import NAME_TAKEN, RegistryForm
from repositories.listing import RegistryRow, history, holdings, registry_rows
from repositories.models import Registry, SyncTrigger
from repositories.registries.protocol import CheckReport
from repositories.removal import MoreIsHeldError, confirm_removal
from repositories.services import add_registry, change_registry, delete_registry, note_health
from repositories.updates import cancel_active_sync, request_each, request_sync
from tcss.access import permission_needed
from tcss.http import Request, render_page, see_other

LIST = "repositories:registry-list"
DETAIL = "repositories:registry-detail"
_COUNT = re.compile("[0-9]{1,9}")


@require_safe
@permission_needed("images.view_image")
def registry_list(request: Request) -> HttpResponse:
    """Every image repository."""
    rows = registry_rows(Registry.objects.order_by("name"))
    return render_page(request, "repositories/registry_list.html", {"rows": rows})


@require_safe
@permission_needed("images.view_image")
def registry_detail(request: Request, pk: int) -> HttpResponse:
    """One image repository with its data updates; for htmx, its live row of the list."""
    if request.htmx and not Registry.objects.filter(pk=pk).exists():
        # It was deleted meanwhile: nothing takes the place of its row, and the row stops asking.
        return HttpResponse()
    return _detail(request, pk, report=None)


def _detail(request: Request, pk: int, *, report: CheckReport | None) -> HttpResponse:
    row = _row(pk)
    context = {"row": row, "report": report, "history": history(row.registry)}
    wants_row = request.htmx.target == f"registry-{pk}"
    return render_page(
        request,
        "repositories/registry_detail.html",
        context,
        fragment="repositories/parts/row.html" if wants_row else "repositories/parts/live.html",
    )


def _row(pk: int) -> RegistryRow:
    rows = registry_rows(Registry.objects.filter(pk=pk))
    if not rows:
        raise Http404
    return rows[0]


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("repositories.add_registry")
def registry_add(request: Request) -> HttpResponse:
    """Add an image repository; its first data update begins at once."""
    form = RegistryForm(request.POST or None)
    report = _report(request, form)
    if not (_may_save(request, report) and _saved(form, lambda: add_registry(form.instance, request.user))):
        return _form_page(request, form, report)
    note_health(form.instance, report.error if report else None)
    messages.success(request, f"{form.instance.name} was added; its first data update has begun.")
    return _go(request, reverse(LIST))


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("repositories.change_registry")
def registry_edit(request: Request, pk: int) -> HttpResponse:
    """Change an image repository; of a built-in one only limit and network."""
    registry = get_object_or_404(Registry.objects.select_related("account"), pk=pk)
    if registry.is_built_in:
        return cloud_views.edit_built_in(request, registry)
    form = RegistryForm(request.POST or None, instance=registry)
    report = _report(request, form)
    if not (_may_save(request, report) and _saved(form, lambda: change_registry(form.instance))):
        return _form_page(request, form, report)
    note_health(form.instance, report.error if report else None)
    messages.success(request, f"{form.instance.name} was changed.")
    return _go(request, reverse(LIST))


def _report(request: Request, form: RegistryForm) -> CheckReport | None:
    """The connection test that every button of the form begins with."""
    return test_connection(form.instance) if request.method == "POST" and form.is_valid() else None


def _may_save(request: Request, report: CheckReport | None) -> bool:
    """Whether the form is to be saved: somebody said so, and the connection works or need not work yet."""
    if report is None or request.POST.get("action") == "test":
        return False
    return report.error is None or request.POST.get("action") == "save-anyway"


def _saved(form: RegistryForm, save: Callable[[], object]) -> bool:
    """Save; a name that somebody else took in the same moment is an error of the form."""
    try:
        save()
    except IntegrityError:
        form.add_error("name", NAME_TAKEN)
        return False
    return True


def _form_page(request: Request, form: RegistryForm, report: CheckReport | None) -> HttpResponse:
    tested = request.POST.get("action") == "test"
    return render_page(
        request,
        "repositories/registry_form.html",
        {"form": form, "report": report, "tested": tested},
        fragment="repositories/parts/form.html",
    )


def _go(request: Request, address: str) -> HttpResponse:
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("repositories.delete_registry")
def registry_delete(request: Request, pk: int) -> HttpResponse:
    """Say what goes and what stays, then delete an image repository."""
    registry = get_object_or_404(Registry, pk=pk)
    if registry.is_built_in and not is_gone(registry):
        return cloud_views.keep_built_in(request, registry)
    if request.method == "POST":
        delete_registry(registry)
        messages.success(request, f"{registry.name} was deleted.")
        return redirect(LIST)
    return render_page(
        request,
        "repositories/registry_delete.html",
        {"registry": registry, "holdings": holdings(registry)},
    )


@require_POST
@permission_needed("repositories.change_registry")
def registry_test(request: Request, pk: int) -> HttpResponse:
    """Test the stored connection and show its steps."""
    registry = get_object_or_404(Registry, pk=pk)
    report = test_connection(registry)
    note_health(registry, report.error)
    return _detail(request, pk, report=report)


@require_POST
@permission_needed("repositories.add_sync")
def registry_sync(request: Request, pk: int) -> HttpResponse:
    """Begin a data update, or join the one under way."""
    registry = get_object_or_404(Registry, pk=pk)
    try:
        request_sync(registry, SyncTrigger.MANUAL, request.user)
    except Registry.DoesNotExist:
        raise Http404 from None
    return _detail(request, pk, report=None) if request.htmx else redirect(LIST)


@require_POST
@permission_needed("repositories.add_sync")
def registry_cancel(request: Request, pk: int) -> HttpResponse:
    """Stop the data update under way."""
    cancel_active_sync(get_object_or_404(Registry, pk=pk))
    return _detail(request, pk, report=None) if request.htmx else redirect(LIST)


@require_POST
@permission_needed("repositories.change_registry")
def registry_confirm_removal(request: Request, pk: int) -> HttpResponse:
    """Remove the images that are gone from a registry at once: somebody says that they were deleted there."""
    registry = get_object_or_404(Registry, pk=pk)
    shown = request.POST.get("shown", "")
    try:
        outcome = confirm_removal(registry, request.user, shown=int(shown) if _COUNT.fullmatch(shown) else 0)
    except MoreIsHeldError as error:
        messages.error(
            request,
            f"Nothing was removed: by now {error.held:,} images of {registry.name} are gone, more than you "
            "were shown. Look again, and confirm it if all of them were deleted there.",
        )
        return _go(request, reverse(DETAIL, args=[pk]))
    if outcome.removed:
        messages.success(request, f"{_told(outcome.removed, registry)} removed.")
    if outcome.held:
        messages.warning(
            request,
            f"{_told(outcome.held, registry)} not removed yet: two complete data updates, an hour apart, "
            "have to miss an image first, and it must not be in a scan.",
        )
    elif not outcome.removed:
        messages.info(request, f"Nothing of {registry.name} has to be confirmed any more.")
    return _go(request, reverse(DETAIL, args=[pk]))


def _told(count: int, registry: Registry) -> str:
    return f"1 image of {registry.name} was" if count == 1 else f"{count:,} images of {registry.name} were"


@require_POST
@permission_needed("repositories.add_sync")
def registry_sync_all(request: Request) -> HttpResponse:
    """Begin a data update of every image repository, and look for new ones of the cloud accounts."""
    request_each(Registry.objects.order_by("name"), SyncTrigger.MANUAL, request.user)
    ask_update_of_built_in()
    messages.info(request, "The data update of all image repositories has begun.")
    return see_other(request, reverse(LIST), within=reverse("images:image-list"))
