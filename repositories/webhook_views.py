"""Webhooks: the address that registries post to, and the page that says how to set one up in a registry."""

from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from repositories.models import Registry
from repositories.webhook_events import MAX_BODY_BYTES, MalformedEventError
from repositories.webhooks import addressed, has_webhooks, receive, renew, switch_off
from tcss.access import permission_needed
from tcss.http import Request, render_page

DETAIL = "repositories:registry-detail"
TOKEN_HEADER = "X-TCSS-Token"  # noqa: S105 - the header's name, not a token
_SCHEME = "bearer "


@csrf_exempt
@login_not_required
@require_POST
def webhook(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """Take what a registry posts; the token it shows is its only permission, and the answer says nothing."""
    registry = addressed(webhook_id, _tokens(request))
    if registry is None:
        return HttpResponse(status=404)
    try:
        body = request.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            return HttpResponse(status=413)
        receive(registry, body)
    except (MalformedEventError, UnreadablePostError):
        return HttpResponse(status=400)
    return HttpResponse(status=202)


def _tokens(request: HttpRequest) -> tuple[str, str]:
    """What was shown as token: Harbor sends its authorization header as somebody typed it, TCR any header."""
    authorization = request.headers.get("Authorization", "").strip()
    if authorization.lower().startswith(_SCHEME):
        authorization = authorization[len(_SCHEME) :].strip()
    return authorization, request.headers.get(TOKEN_HEADER, "").strip()


@require_http_methods(["GET", "HEAD", "POST"])
@permission_needed("repositories.change_registry")
def registry_webhook(request: Request, pk: int) -> HttpResponse:
    """How to set up the webhook; a new token is shown in the answer that made it, and never again."""
    registry = get_object_or_404(Registry, pk=pk)
    token = ""
    if request.method == "POST":
        action = request.POST.get("action")
        if action == "remove":
            switch_off(registry)
            messages.success(request, f"{registry.name} is not listened to any more.")
            return redirect(DETAIL, pk)
        if action not in {"create", "rotate"} or not has_webhooks(registry):
            raise BadRequest("no such action")
        token = _new_token(registry, only_the_first=action == "create")
    path = reverse("webhook", args=[registry.webhook_id]) if registry.webhook_id else ""
    return render_page(
        request,
        "repositories/registry_webhook.html",
        {
            "registry": registry,
            "has_webhooks": has_webhooks(registry),
            "address": f"{settings.PUBLIC_URL}{path}" if path else "",
            "is_reachable": not _is_this_machine(settings.PUBLIC_URL),
            "token": token,
            "token_header": TOKEN_HEADER,
        },
    )


def _new_token(registry: Registry, *, only_the_first: bool) -> str:
    """A new token; empty where there is one and only the first was asked for, as by a page loaded again."""
    with transaction.atomic():
        # Of two clicks at once only one finds the webhook switched off.
        registry.refresh_from_db(from_queryset=Registry.objects.select_for_update())
        return "" if only_the_first and registry.webhook_id else renew(registry)


def _is_this_machine(url: str) -> bool:
    """Whether the address means something else on every machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
