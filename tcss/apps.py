"""The app's name in Django."""

from django.apps import AppConfig


class TcssConfig(AppConfig):
    """Console."""

    name = "tcss"
    verbose_name = "Console"
