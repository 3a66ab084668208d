"""The app's name in Django."""

from django.apps import AppConfig


class ImagesConfig(AppConfig):
    """Repository images."""

    name = "images"
    verbose_name = "Repository images"
