"""Images in the admin, for support: to look at, never to change."""

from django.contrib import admin

from images.models import Image, Layer, Manifest
from tcss.admin import ReadOnlyAdmin


@admin.register(Image)
class ImageAdmin(ReadOnlyAdmin):
    """One image ID with its summary."""

    list_display = ("image_id", "platform", "scan_status", "is_licensed", "worst_severity", "last_scanned_at")
    list_filter = (
        "scan_status",
        "is_licensed",
    )
    search_fields = ("image_id__startswith",)


@admin.register(Manifest)
class ManifestAdmin(ReadOnlyAdmin):
    """One manifest digest."""

    list_display = (
        "digest",
        "kind",
        "media_type",
        "is_read",
        "first_seen_at",
    )
    list_filter = (
        "kind",
        "is_read",
    )
    search_fields = ("digest__startswith",)
    raw_id_fields = ("image",)


@admin.register(Layer)
class LayerAdmin(ReadOnlyAdmin):
    """One layer's content."""

    list_display = (
        "diff_id",
        "size",
        "first_seen_at",
    )
    search_fields = ("diff_id__startswith",)
