"""Pages of what comes from Tencent Cloud: the Operation Guide, and what built-in connections allow."""

import json
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from repositories.cloud import change_built_in, switch_network
from repositories.cloud_forms import BuiltInForm
from repositories.models import CloudAccount, Network, Registry, RegistryKind
from tcss.access import permission_needed
from tcss.http import Request, render_page

LIST = "repositories:registry-list"
DETAIL = "repositories:registry-detail"
# Everything that is read, and the token for a pull, which cannot be had by reading.
POLICY = json.dumps(
    {
        "version": "2.0",
        "statement": [
            {
                "effect": "allow",
                "action": ["tcr:Describe*", "tcr:PullRepository*", "tcr:CreateInstanceToken"],
                "resource": ["*"],
            }
        ],
    },
    indent=2,
)


@require_safe
@permission_needed("images.view_image")
def guide(request: Request) -> HttpResponse:
    """The Operation Guide: what Tencent Cloud has to allow so that this console can list and pull."""
    context = {
        "addresses": [_shown(network) for network in settings.EGRESS_ADDRESSES],
        "console_host": urlsplit(settings.PUBLIC_URL).hostname,
        "policy": POLICY,
        "endpoint": settings.TENCENT_ENDPOINT,
        "has_account": CloudAccount.objects.exists(),
        "registries": Registry.objects.filter(kind=RegistryKind.TCR, account__isnull=False)
        .only("pk", "name", "kind", "account", "network", "address", "region")
        .order_by("name"),
    }
    return render_page(request, "repositories/guide.html", context)


def _shown(network: object) -> str:
    """A network as an allowlist takes it: one address without its length."""
    return str(network).removesuffix("/32").removesuffix("/128")


@require_POST
@permission_needed("repositories.change_registry")
def registry_network(request: Request, pk: int) -> HttpResponse:
    """Reach a TCR instance by the other network."""
    registry = get_object_or_404(Registry.objects.select_related("account"), pk=pk)
    wanted = request.POST.get("network", "")
    if not (registry.is_built_in and registry.kind == RegistryKind.TCR and wanted in Network.values):
        messages.error(request, "Only a built-in TCR connection can be switched, to public or vpc.")
        return redirect(DETAIL, pk)
    switch_network(registry, Network(wanted))
    messages.success(request, f"{registry.name} is reached by {Network(wanted).label} now; test it.")
    return redirect(DETAIL, pk)


def edit_built_in(request: Request, registry: Registry) -> HttpResponse:
    """The page on which limit and network of a built-in connection are changed."""
    form = BuiltInForm(request.POST or None, instance=registry)
    if request.method == "POST" and form.is_valid():
        change_built_in(registry, form.cleaned_data["hourly_pull_limit"], form.network_chosen)
        messages.success(request, f"{registry.name} was changed.")
        return redirect(reverse(LIST))
    return render_page(request, "repositories/registry_built_in.html", {"form": form, "registry": registry})


def keep_built_in(request: Request, registry: Registry) -> HttpResponse:
    """The answer to whoever would delete a connection that its account would bring back."""
    context = {"registry": registry}
    return render_page(request, "repositories/registry_built_in_kept.html", context, status=200)
