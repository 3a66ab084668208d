"""What Celery calls: each task takes ids, asks one function, and returns nothing."""

from celery import shared_task

from scanning import database_updates, pipeline, recovery


@shared_task(name="scanning.run_scan")
def run_scan(scan_pk: int) -> None:
    """A bell: the scan with this key may be waiting."""
    pipeline.run(int(scan_pk))


@shared_task(name="scanning.run_malware")
def run_malware(scan_pk: int) -> None:
    """A bell: the scan with this key may wait to be looked at for viruses and trojans."""
    pipeline.run(int(scan_pk))


@shared_task(name="scanning.reap")
def reap() -> None:
    """A tick: take up what lost workers left and ring for what nobody heard."""
    recovery.reap()


@shared_task(name="scanning.refresh_database")
def refresh_database() -> None:
    """A tick: the vulnerability database may be due."""
    database_updates.refresh()
