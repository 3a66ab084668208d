"""The composition root and the shared kernel of the console."""

from tcss.celery import app as celery_app

__all__ = ["celery_app"]
