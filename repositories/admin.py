"""Registries in support's admin: looked at, never a secret among what is shown."""

from django.contrib import admin

from repositories.models import Registry, Repository, Sync, Tag
from tcss.admin import ReadOnlyAdmin


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
