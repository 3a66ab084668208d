"""Scanning in support's admin: what was asked, what ran and what was found, to look at."""

from django.contrib import admin

from scanning.engine_models import MatchNews, MatchRun, PastMatch
from scanning.models import Match, Package, Scan, ScanCategory, ScanTask, SecretFinding, Vulnerability
from tcss.admin import ReadOnlyAdmin


@admin.register(ScanTask)
class ScanTaskAdmin(ReadOnlyAdmin):
    """What somebody asked to have scanned."""

    list_display = ("id", "trigger", "requested_by", "scope", "created_at")
    list_select_related = ("requested_by",)
    list_filter = ("trigger",)
    search_fields = ("=id", "scope", "=requested_by__username")
    search_help_text = "Number, words of the scope, or username"


@admin.register(Scan)
class ScanAdmin(ReadOnlyAdmin):
    """One run on one image."""

    list_display = (
        "id", "image", "state", "step", "progress", "attempt", "lease_until", "error_code", "created_at",
        "finished_at",
    )  # fmt: skip
    list_select_related = ("image",)
    list_filter = ("state", "error_code")
    search_fields = ("=id", "=image__image_id")
    search_help_text = "Number, or whole image ID"


@admin.register(ScanCategory)
class ScanCategoryAdmin(ReadOnlyAdmin):
    """How one category of a scan ended."""

    list_display = (
        "id", "scan", "category", "state", "engine_version", "database_version", "finding_count",
        "error_code",
    )  # fmt: skip
    list_select_related = ("scan",)
    list_filter = ("category", "state", "error_code")
    search_fields = ("=scan__id", "=scan__image__image_id")
    search_help_text = "Number of the scan, or whole image ID"


@admin.register(Vulnerability)
class VulnerabilityAdmin(ReadOnlyAdmin):
    """Published flaws."""

    list_display = ("identifier", "severity", "cvss_score", "title", "published_at")
    list_filter = ("severity",)
    search_fields = ("identifier", "title")
    search_help_text = "Identifier, or words of the title"


@admin.register(Package)
class PackageAdmin(ReadOnlyAdmin):
    """Package versions that some image holds."""

    list_display = ("name", "version", "kind", "os_release", "source_name")
    list_filter = ("kind",)
    search_fields = ("name",)
    search_help_text = "Name"


@admin.register(Match)
class MatchAdmin(ReadOnlyAdmin):
    """Which flaw hits which package."""

    list_display = ("vulnerability", "package", "severity", "fixed_version", "status", "data_source")
    list_select_related = ("vulnerability", "package")
    list_filter = ("severity", "status")
    search_fields = ("=vulnerability__identifier", "=package__name")
    search_help_text = "Whole identifier, or whole name of a package"


@admin.register(SecretFinding)
class SecretFindingAdmin(ReadOnlyAdmin):
    """Sensitive data, masked."""

    list_display = ("title", "rule_id", "severity", "path", "first_seen_at")
    list_filter = ("severity", "rule_id")
    search_fields = ("title", "path")
    search_help_text = "Words of the name or the path"


@admin.register(MatchRun)
class MatchRunAdmin(ReadOnlyAdmin):
    """Matchings of all known packages with a database."""

    list_display = (
        "id", "database_version", "state", "packages_done", "packages_total", "matches_new", "matches_gone",
        "images_changed", "attempt", "lease_until", "error_code", "created_at", "finished_at",
    )  # fmt: skip
    list_filter = ("state", "error_code")
    search_fields = ("=id", "database_version")
    search_help_text = "Number, or words of the database's name"


@admin.register(MatchNews)
class MatchNewsAdmin(ReadOnlyAdmin):
    """What a matching found new."""

    list_display = ("run", "vulnerability", "severity", "image_count")
    list_select_related = ("run", "vulnerability")
    list_filter = ("severity",)
    search_fields = ("=run__id", "=vulnerability__identifier")
    search_help_text = "Number of the matching, or whole identifier"


@admin.register(PastMatch)
class PastMatchAdmin(ReadOnlyAdmin):
    """What is no longer reported of a package."""

    list_display = ("vulnerability", "package", "severity", "data_source", "first_seen_at", "fixed_at")
    list_select_related = ("vulnerability", "package")
    list_filter = ("severity",)
    search_fields = ("=vulnerability__identifier", "=package__name")
    search_help_text = "Whole identifier, or whole name of a package"
