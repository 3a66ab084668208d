"""Typed requests and the rendering of a whole page or of one of its named fragments."""

from collections.abc import Mapping
from typing import Any, cast

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails


class Request(HttpRequest):
    """A request of somebody who has logged in."""

    user: User
    htmx: HtmxDetails


def page_shown(request: HttpRequest) -> str | None:
    """The path of the page that htmx asks from, or None where it says none of ours, or nonsense."""
    try:
        return cast("Request", request).htmx.current_url_abs_path
    except ValueError:
        return None


class _SeeOther(HttpResponseRedirect):
    """Look there with a GET, whatever this was."""

    status_code = 303


def see_other(request: HttpRequest, default: str, *, within: str) -> HttpResponse:
    """To the page under ``within`` that the posted form says it was on (``back``), else to ``default``."""
    back = request.POST.get("back", "")
    is_path = back.startswith(within) and back.isprintable()
    is_ours = is_path and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return _SeeOther(back if is_ours else default)


def render_page(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    fragment: str | None = None,
    status: int = 200,
) -> HttpResponse:
    """The page, or only the part of it that htmx asked for.

    ``fragment`` is the template of that part, included by the page itself, so both show the same thing.
    """
    wanted = cast("Request", request).htmx
    name = (
        fragment
        if fragment and wanted and not wanted.boosted and not wanted.history_restore_request
        else template
    )
    response = render(request, name, dict(context), status=status)
    # A cache must not hand a fragment to somebody who asked for the page.
    response["Vary"] = ", ".join(filter(None, [response.get("Vary"), "HX-Request"]))
    response["Cache-Control"] = "no-store"
    return response
