"""What the scheduler's ticks make licensing do."""

from celery import shared_task

from licensing import services


@shared_task(name="licensing.lapse")
def lapse() -> None:
    """End the licenses of entitlements that have ended."""
    services.lapse()
