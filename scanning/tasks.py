"""What Celery calls: each task takes ids, asks one function, and returns nothing."""

from celery import shared_task

from scanning import analyses, database_updates, matching, pipeline, recovery, rematching
from scanning.models import Part


@shared_task(name="scanning.run_scan")
def run_scan(scan_pk: int) -> None:  # noqa: ARG001 - whose bell it was; whose turn it is, the database knows
    """A bell: a scan may be waiting."""
    pipeline.answer(Part.CONTENT)


@shared_task(name="scanning.run_malware")
def run_malware(scan_pk: int) -> None:  # noqa: ARG001 - as above
    """A bell: a scan may wait to be looked at for viruses and trojans."""
    pipeline.answer(Part.MALWARE)


@shared_task(name="scanning.reap")
def reap() -> None:
    """A tick: take up what lost workers left and ring for what nobody heard."""
    recovery.reap()


@shared_task(name="scanning.refresh_database")
def refresh_database() -> None:
    """A tick: the vulnerability database may be due."""
    if database_updates.refresh() is not None:
        rematching.begin()


@shared_task(name="scanning.run_matching")
def run_matching(run_pk: int) -> None:
    """A bell: the matching with this key may be waiting."""
    matching.match_run(int(run_pk))


@shared_task(name="scanning.watch_database")
def watch_database() -> None:
    """A tick: the vulnerability database may have changed since all packages were matched."""
    rematching.tick()


@shared_task(name="scanning.forget_analyses")
def forget_analyses() -> None:
    """A tick: what was read in layers that no image has needed for long may go."""
    analyses.forget()
