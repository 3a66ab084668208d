"""The licenses page."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from licensing import listing, services
from licensing.models import Validity
from tcss.access import permission_needed
from tcss.http import render_page

_LARGEST_KEY = 2**63 - 1


@require_safe
@permission_needed("licensing.view_entitlement")
def entitlement_list(request: HttpRequest) -> HttpResponse:
    """Entitlements, their use, and who licensed what."""
    page = listing.assignment_page(older_than=_key(request, "older"), newer_than=_key(request, "newer"))
    address = reverse("licensing:entitlement-list")
    return render_page(
        request,
        "licensing/entitlement_list.html",
        {
            "rows": listing.entitlement_rows(timezone.now()),
            "remaining": services.remaining(),
            "usage": listing.usage(),
            "page": page,
            "previous_url": f"{address}?newer={page.newer_than}#log" if page.newer_than else "",
            "next_url": f"{address}?older={page.older_than}#log" if page.older_than else "",
            "Validity": Validity,
        },
    )


def _key(request: HttpRequest, name: str) -> int | None:
    """The key of a row in the query string; None where there is none that a row could have."""
    value = request.GET.get(name, "")
    return min(int(value), _LARGEST_KEY) if value.isascii() and value.isdigit() and len(value) < 20 else None
