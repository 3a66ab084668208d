"""Health pages, login and error pages: the only views that belong to no app."""

from dataclasses import asdict
from functools import cache

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from tcss.access import permission_needed
from tcss.metrics import exposition
from tcss.status import status


@require_safe
def home(_request: HttpRequest) -> HttpResponse:
    """The console begins with its images."""
    return redirect("images:image-list")


@login_not_required
@require_safe
def livez(_request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """The process can serve: the database answers and its schema is the code's."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        _require_current_schema()
    except DatabaseError:
        return HttpResponse("the database does not answer\n", status=503, content_type="text/plain")
    except _SchemaBehindError:
        return HttpResponse("migrations have not run\n", status=503, content_type="text/plain")
    return HttpResponse("ready\n", content_type="text/plain")


class _SchemaBehindError(Exception):
    """The database lacks migrations that the code has."""


@cache
def _require_current_schema() -> None:
    """Look once in a process: a schema that is current stays so while the code does; an error is not kept."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise _SchemaBehindError


@never_cache
@require_safe
@permission_needed("images.view_image")
def statusz(_request: HttpRequest) -> HttpResponse:
    """What is old or stuck, for people and for monitors that log in."""
    return JsonResponse(asdict(status()), json_dumps_params={"indent": 2})


@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What is old or stuck, for Prometheus: to a scraper that shows the token, and to people with a role."""
    shown = request.headers.get("Authorization", "")
    is_scraper = bool(settings.METRICS_TOKEN) and constant_time_compare(
        shown, f"Bearer {settings.METRICS_TOKEN}"
    )
    if not is_scraper and not request.user.has_perm("images.view_image"):
        raise PermissionDenied("metrics")
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


class Login(LoginView):
    """The way in."""

    redirect_authenticated_user = True


class Logout(LogoutView):
    """The way out."""


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """A request that makes no sense."""
    return render(request, "errors/400.html", status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """A request somebody may not make."""
    return render(request, "errors/403.html", status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001
    """A form that was not ours, or lay open for too long."""
    return render(request, "errors/403.html", status=403)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """Nothing is here, or nothing this person may see."""
    return render(request, "errors/404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Our mistake; the page needs no database."""
    return render(request, "errors/500.html", status=500)
