"""The app's name in Django."""

from django.apps import AppConfig


class ScanningConfig(AppConfig):
    """Scanning."""

    name = "scanning"
    verbose_name = "Scanning"
