"""Slows the guessing of passwords: for one name at one address, and for one address that tries many names."""

from ipaddress import ip_address
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The address a request comes from: the connection's, or what the outermost of our own proxies saw.

    Everything further to the left in the header was written by whoever asks.
    """
    connection = str(request.META.get("REMOTE_ADDR", ""))
    count = settings.TRUSTED_PROXY_COUNT
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if not count or len(hops) < count:
        return connection
    try:
        return str(ip_address(hops[-count]))
    except ValueError:
        return connection


class LoginThrottle(AxesDatabaseHandler):  # type: ignore[misc]  # the package has no types
    """Axes' own count, and beside it that of all failures from one address, whatever the names."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """How near a lock is, on the scale of AXES_FAILURE_LIMIT."""
        recent = AccessAttempt.objects.filter(
            ip_address=client_address(request), attempt_time__gte=get_cool_off_threshold(request)
        )
        from_address: int = recent.aggregate(sum=Sum("failures_since_start", default=0))["sum"]
        share = from_address * settings.AXES_FAILURE_LIMIT // settings.ADDRESS_FAILURE_LIMIT
        return max(int(super().get_failures(request, credentials)), share)
