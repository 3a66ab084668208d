"""The app's name in Django, and the site of its admin."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class TcssConfig(AppConfig):
    """Console."""

    name = "tcss"
    verbose_name = "Console"


class SupportAdminConfig(admin_apps.AdminConfig):
    """Django admin with the console's own site."""

    default = False
    default_site = "tcss.support.SupportSite"
