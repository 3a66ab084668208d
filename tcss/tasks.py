"""What the scheduler's ticks make the console as a whole do."""

from celery import shared_task

from tcss.status import record_tick


@shared_task(name="tcss.tick")
def tick() -> None:
    """Prove that scheduler, broker and worker pass something on."""
    record_tick()
