"""The app's name in Django."""

from django.apps import AppConfig


class LicensingConfig(AppConfig):
    """Licensing."""

    name = "licensing"
    verbose_name = "Licensing"
