"""The Celery application: it carries bells to workers; the jobs themselves are database rows."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tcss.settings")

app = Celery("tcss")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tcss", "repositories", "scanning", "licensing"])
