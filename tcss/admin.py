"""What every page of support's Django admin has in common."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from repositories.credentials import EncryptedTextField

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


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

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """The rows, without the secrets that no page shows."""
        return super().get_queryset(request).defer(*self.get_exclude(request))
