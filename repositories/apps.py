"""The app's name in Django."""

from django.apps import AppConfig


class RepositoriesConfig(AppConfig):
    """Image repositories."""

    name = "repositories"
    verbose_name = "Image repositories"
