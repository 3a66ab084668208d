"""Who may do what: roles, the permission a view needs, and the way to the login page."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import TextChoices
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from tcss.http import page_shown

_View = TypeVar("_View", bound=Callable[..., HttpResponseBase])


class Role(TextChoices):
    """What a person is to the console; a person has one of them.

    Viewer and Operator are groups made by a migration; an administrator is a superuser.
    """

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMINISTRATOR = "administrator", "Administrator"


def permission_needed(permission: str) -> Callable[[_View], _View]:
    """A view for those who hold ``permission``, written ``app.codename``.

    Others who have logged in get the 403 page, and everybody else the login page.
    """

    def decorate(view: _View) -> _View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return to_login(request)
            if not request.user.has_perm(permission):
                raise PermissionDenied(permission)
            return view(request, *args, **kwargs)

        return cast("_View", guarded)

    return decorate


def to_login(request: HttpRequest) -> HttpResponse:
    """The answer to somebody who has to log in first: a redirect that comes back to where they were.

    A fragment must not receive the login page in its place, so htmx is told to leave the page it is on.
    """
    details = cast("HtmxDetails | None", getattr(request, "htmx", None))
    if not details:
        # What was posted is gone; its address alone answers nothing.
        is_page = request.method in {"GET", "HEAD"}
        return redirect_to_login(request.get_full_path() if is_page else reverse("home"))
    page = page_shown(request)
    if not page or not url_has_allowed_host_and_scheme(page, allowed_hosts=None):
        page = reverse("home")
    return HttpResponseClientRedirect(redirect_to_login(page)["Location"])


class LoginMiddleware(LoginRequiredMiddleware):
    """Every page is private unless its view says ``login_not_required``."""

    def handle_no_permission(  # type: ignore[override]
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],  # noqa: ARG002 - Django's signature
    ) -> HttpResponse:
        """Lead to the login page."""
        return to_login(request)
