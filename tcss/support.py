"""The site of support's Django admin: the console's own login, and a closed door to everybody else."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


class SupportSite(admin.AdminSite):
    """Django admin for support staff."""

    site_header = "Repository images: support"
    site_title = "Support"
    index_title = "What the console keeps"
    site_url = "/"

    def login(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:  # noqa: ARG002
        """There is one way in: the console's own. Who is in, but not of support, is refused.

        Nobody comes here without having logged in: unlike Django's, this page is as private as all others.
        """
        if self.has_permission(request):
            return redirect("admin:index")
        raise PermissionDenied("not of support")
