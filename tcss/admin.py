"""Support's Django admin: what its pages have in common, and the pages of accounts and logins."""

from typing import TYPE_CHECKING, Any

from axes.models import AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import models
from django.http import HttpRequest

from repositories.credentials import EncryptedTextField

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _UserAdmin = UserAdmin[User]
else:
    _ModelAdmin = admin.ModelAdmin
    _UserAdmin = UserAdmin


class ReadOnlyAdmin(_ModelAdmin):
    """Rows that support looks at and the console alone writes.

    A subclass names ``list_display``, ``list_select_related``, ``search_fields`` and ``list_filter``. Nothing
    is added, changed or deleted, a secret column is left out, and a list of a million rows is not counted
    twice.
    """

    actions = None
    list_per_page = 50
    list_max_show_all = 200
    show_full_result_count = False
    view_on_site = False

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Rows are made by the console."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Rows are changed by the console."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:  # noqa: ARG002
        """Nothing is lost by a click."""
        return False

    def get_exclude(self, request: HttpRequest, obj: models.Model | None = None) -> list[str]:
        """A secret is not even shown as ciphertext."""
        secret = [field.name for field in self.opts.get_fields() if isinstance(field, EncryptedTextField)]
        return [*(super().get_exclude(request, obj) or ()), *secret]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """A secret is not found out letter by letter through the number of rows that fit."""
        is_secret = lookup.partition("__")[0] in self.get_exclude(request)
        # A NUL fits no column; the database would refuse it with an error of its own.
        return not is_secret and "\0" not in str(value) and super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """The rows, without the secrets that no page shows."""
        return super().get_queryset(request).defer(*self.get_exclude(request))


# Both apps stand before this one in INSTALLED_APPS, so their pages are there to be replaced.
admin.site.unregister([User, Group, AccessLog, AccessFailureLog])


@admin.register(User)
class AccountAdmin(_UserAdmin):
    """Accounts: rights come from roles, and only an administrator hands those out.

    Nobody is deleted: an account no longer wanted is made inactive, so that what it did keeps its name.
    """

    actions = None
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    show_full_result_count = False
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Role", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only an administrator makes another one."""
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, "is_staff", "is_superuser", "groups")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whoever is less than an administrator may not become one by changing his password."""
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:  # noqa: ARG002
        """Accounts are made inactive instead."""
        return False


@admin.register(Group)
class RoleAdmin(ReadOnlyAdmin, GroupAdmin):
    """Roles: made by migrations, given to people on the page of the account."""


@admin.register(AccessLog)
class LoginAdmin(ReadOnlyAdmin):
    """Who logged in."""

    list_display = ("attempt_time", "username", "ip_address", "user_agent", "logout_time")
    search_fields = ("=username", "=ip_address")
    search_help_text = "Whole username or address"


@admin.register(AccessFailureLog)
class FailedLoginAdmin(ReadOnlyAdmin):
    """Who was not let in."""

    list_display = ("attempt_time", "username", "ip_address", "user_agent", "locked_out")
    search_fields = ("=username", "=ip_address")
    search_help_text = "Whole username or address"
