"""Licensing in support's admin: entitlements are added and extended there, assignments are looked at."""

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from licensing.forms import EntitlementForm
from licensing.models import Entitlement, LicenseAssignment
from tcss.admin import ReadOnlyAdmin


@admin.register(Entitlement)
class EntitlementAdmin(ReadOnlyAdmin):
    """Entitlements: how many there are is entered, how many are taken is counted."""

    form = EntitlementForm
    list_display = ("id", "kind", "quantity", "used", "starts_at", "ends_at", "note")
    list_filter = ("kind",)
    search_fields = ("note",)
    search_help_text = "Note"
    readonly_fields = ("used", "created_at")
    fields = ("kind", "quantity", "used", "starts_at", "ends_at", "note", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        """Support adds what was bought."""
        return request.user.has_perm("licensing.add_entitlement")

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        """Support corrects it; the seats that are taken stay taken."""
        return request.user.has_perm("licensing.change_entitlement")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Entitlement | None:
        """A row that is being changed is locked, so that no seat is taken between the check and the save."""
        found: Entitlement | None = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST" and transaction.get_connection().in_atomic_block:
            found.refresh_from_db(from_queryset=Entitlement.objects.select_for_update())
        return found

    def save_model(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        obj: Entitlement,
        form: EntitlementForm,
        change: bool,  # noqa: FBT001 - Django's signature
    ) -> None:
        """Write only what was entered: the seats taken meanwhile must not be written over."""
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(LicenseAssignment)
class LicenseAssignmentAdmin(ReadOnlyAdmin):
    """Who licensed which image."""

    list_display = ("id", "image", "entitlement", "assigned_by", "assigned_at", "lapsed_at")
    list_select_related = ("image", "entitlement", "assigned_by")
    list_filter = ("entitlement__kind",)
    search_fields = ("=image__image_id", "=assigned_by__username")
    search_help_text = "Whole image ID, or username"
    readonly_fields = ("assigned_at", "lapsed_at")
