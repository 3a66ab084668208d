"""Registries in support's admin: looked at, never a secret among what is shown."""

from django.contrib import admin
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest

from repositories.cloud import account_changed
from repositories.cloud_forms import CloudAccountForm
from repositories.models import CloudAccount, Registry, Repository, Sync, Tag
from tcss.admin import ReadOnlyAdmin


@admin.register(CloudAccount)
class CloudAccountAdmin(ReadOnlyAdmin):
    """Tencent Cloud accounts: entered here by support staff, whose secrets are written and never read back.

    None is deleted: its connections, and the images listed by them, would go with it.
    """

    form = CloudAccountForm
    list_display = ("secret_id", "site", "health", "health_reason", "discovered_at")
    list_filter = ("site", "health")
    readonly_fields = ("health", "health_reason", "health_remedy", "health_checked_at", "discovered_at")
    fields = (*CloudAccountForm.field_order, *readonly_fields)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Whoever may add accounts."""
        return bool(request.user.has_perm("repositories.add_cloudaccount"))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Whoever may change accounts."""
        return bool(request.user.has_perm("repositories.change_cloudaccount"))

    def get_exclude(self, request: HttpRequest, obj: Model | None = None) -> list[str]:  # noqa: ARG002
        """Nothing is left out of the form: its fields for secrets are its own, and always empty."""
        return []

    def save_model(
        self,
        request: HttpRequest,
        obj: CloudAccount,
        form: "ModelForm[CloudAccount]",
        change: bool,  # noqa: FBT001 - Django's signature
    ) -> None:
        """Save, and let a worker list the account's instances."""
        super().save_model(request, obj, form, change)
        account_changed(obj)


@admin.register(Registry)
class RegistryAdmin(ReadOnlyAdmin):
    """Connections; they are made and changed on the console's own page, which tests them."""

    list_display = ("name", "kind", "version", "address", "health", "last_synced_at")
    list_filter = ("kind", "version", "health")
    search_fields = ("name", "address")
    # Named one by one: a column that is added later is not shown until somebody thinks about it.
    fields = (
        "name",
        "kind",
        "version",
        "network",
        "region",
        "address",
        "username",
        "hourly_pull_limit",
        "verify_tls",
        "health",
        "health_code",
        "health_reason",
        "health_remedy",
        "health_checked_at",
        "last_synced_at",
        "removal_held_since",
        "removal_held_count",
        "created_at",
    )


@admin.register(Repository)
class RepositoryAdmin(ReadOnlyAdmin):
    """Repositories."""

    list_display = ("name", "registry", "error_code", "first_seen_at")
    list_select_related = ("registry",)
    search_fields = ("name",)


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    """Image versions."""

    list_display = ("repository_name", "name", "registry", "pushed_at", "missing_since", "removed_at")
    list_filter = (("removed_at", admin.EmptyFieldListFilter),)
    list_select_related = ("registry",)
    search_fields = ("repository_name", "name", "=manifest_digest")
    show_full_result_count = False


@admin.register(Sync)
class SyncAdmin(ReadOnlyAdmin):
    """Data updates."""

    list_display = (
        "id",
        "registry",
        "trigger",
        "state",
        "attempt",
        "error_code",
        "created_at",
        "finished_at",
    )
    list_select_related = ("registry",)
    list_filter = ("state", "trigger", "error_code")
