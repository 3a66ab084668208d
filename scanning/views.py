"""Scan tasks: the list, one task while it runs and after, the quick scan that makes one."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from scanning.forms import read_choice
from scanning.listing import ITEMS_ON_PAGE, item_page, task_page
from scanning.match_listing import matching_line
from scanning.models import ScanTask, TaskTrigger
from scanning.progress import failures_of, totals_of, waits_of
from scanning.services import request_cancel, request_scan
from tcss.access import permission_needed
from tcss.http import Request, render_page
from tcss.lifecycle import ACTIVE, State

_LARGEST_KEY = 2**63 - 1


@require_safe
@permission_needed("images.view_image")
def task_list(request: Request) -> HttpResponse:
    """Every scan task, the newest first; asks for itself anew while one is under way."""
    page = task_page(before=_number(request, "before"))
    context = {
        "page": page,
        "matching": matching_line(),
        "next_url": f"?before={page.next_before}" if page.next_before else "",
    }
    return render_page(request, "scanning/task_list.html", context, fragment="scanning/parts/tasks.html")


@require_safe
@permission_needed("images.view_image")
def task_detail(request: Request, pk: int) -> HttpResponse:
    """One scan task: how far it is, why scans failed, and every image of it."""
    task = get_object_or_404(ScanTask.objects.select_related("requested_by"), pk=pk)
    offset = _number(request, "offset") or 0
    page = item_page(task, offset)
    totals = totals_of([task])[task.pk]
    context = {
        "task": task,
        "totals": totals,
        "failures": failures_of(task),
        "waits": waits_of(task) if totals.queued else (),
        "page": page,
        "previous_url": f"?offset={max(0, offset - ITEMS_ON_PAGE)}" if offset else "",
        "next_url": "" if page.next_offset is None else f"?offset={page.next_offset}",
    }
    return render_page(request, "scanning/task_detail.html", context, fragment="scanning/parts/task.html")


@require_POST
@permission_needed("scanning.change_scan")
def task_cancel(request: Request, pk: int) -> HttpResponse:
    """Stop what of a task still waits or runs."""
    task = get_object_or_404(ScanTask, pk=pk)
    images = task.items.filter(scan__state__in=ACTIVE).values_list("image_id", flat=True)
    count = request_cancel(list(images), request.user)
    if count:
        messages.success(request, f"{count:,} scan{'' if count == 1 else 's'} cancelled.")
    else:
        messages.info(request, "Nothing of this task was waiting or running any more.")
    return _see(reverse("scanning:task-detail", args=[task.pk]))


@require_POST
@permission_needed("scanning.add_scan")
def task_retry(request: Request, pk: int) -> HttpResponse:
    """Scan again what failed in a task, as a task of its own."""
    task = get_object_or_404(ScanTask, pk=pk)
    images = list(task.items.filter(scan__state=State.FAILED).values_list("image_id", flat=True))
    if not images:
        messages.info(request, "No scan of this task failed.")
        return _see(reverse("scanning:task-detail", args=[task.pk]))
    scope = f"What failed in task {task.pk}"
    again = request_scan(images, task.categories, TaskTrigger.MANUAL, request.user, scope)
    return _see(reverse("scanning:task-detail", args=[again.pk]))


@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("scanning.add_scan")
def scan_new(request: Request) -> HttpResponse:
    """Scanning settings: what to look for in which images, told in numbers before it starts."""
    choice = read_choice(request.POST if request.method == "POST" else request.GET)
    status = 200
    if request.method == "POST":
        if choice.form.is_valid() and choice.outcome.licensed:
            categories = choice.form.cleaned_data["category"]
            task = request_scan(choice.image_pks, categories, TaskTrigger.QUICK, request.user, choice.scope)
            return _see(reverse("scanning:task-detail", args=[task.pk]))
        status = 422
    return render_page(
        request,
        "scanning/scan_new.html",
        {"choice": choice, "form": choice.form, "is_refused": status != 200},
        fragment="scanning/parts/choice.html",
        status=status,
    )


def _see(address: str) -> HttpResponse:
    """303 turns the POST into a GET everywhere."""
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response


def _number(request: Request, name: str) -> int | None:
    """A number of the query string; None where there is none that a row could have."""
    value = request.GET.get(name, "")
    return min(int(value), _LARGEST_KEY) if value.isascii() and value.isdigit() and len(value) < 20 else None
