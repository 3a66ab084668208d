"""Ask for scans, cancel them, and keep the images' summaries true."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from images.models import Image, ScanStatus
from repositories.models import Tag
from scanning.bulk import insert_categories, insert_items, insert_scans
from scanning.models import Category, Outcome, Part, Scan, ScanTask, TaskTrigger
from scanning.parts import cancel_categories, first_part, ring_for
from scanning.summaries import refresh_summaries
from tcss.lifecycle import State, failure_fields

# Bells rung at once by one request; a worker that ends a scan rings for the next that waits, so that ten
# thousand scans neither flood the broker nor stand before what a person asks for meanwhile.
FIRST_BELLS = 50
_PRIORITIES = {
    TaskTrigger.MANUAL: 0,
    TaskTrigger.QUICK: 3,
    TaskTrigger.COMMAND: 3,
    TaskTrigger.SCHEDULE: 9,
}


class _Lock(IntEnum):
    """Keys of PostgreSQL's advisory locks that this app takes."""

    REQUESTS = 0x7C55_0001


@dataclass(frozen=True, slots=True)
class Requestable:
    """What a request for these images would do, told before it is made."""

    images: int
    licensed: int
    scanning: int

    @property
    def unlicensed(self) -> int:
        """Images that would be skipped."""
        return self.images - self.licensed


def preview(image_pks: Collection[int]) -> Requestable:
    """How many of these image IDs may be scanned, and how many are at it already."""
    rows = Image.objects.filter(pk__in=image_pks).values_list("is_licensed", "scan_status")
    found = list(rows)
    return Requestable(
        images=len(found),
        licensed=sum(licensed for licensed, _ in found),
        scanning=sum(status == ScanStatus.SCANNING for _, status in found),
    )


@transaction.atomic
def request_scan(
    image_pks: Iterable[int],
    categories: Collection[str],
    trigger: TaskTrigger,
    user: User | None,
    scope: str,
) -> ScanTask:
    """Ask for a scan of each image ID; what became of each of them is in the task's items.

    An image that is being scanned joins that scan, which then looks for these categories too, be it after
    the part that it is at. An image without a license is not scanned. Raises ValueError when no category, or
    an unknown one, is asked for.
    """
    wanted = sorted({Category(category) for category in categories})
    if not wanted:
        raise ValueError("a scan needs a category")
    _lock(_Lock.REQUESTS)
    task = ScanTask.objects.create(trigger=trigger, requested_by=user, categories=wanted, scope=scope[:255])
    licensed = dict(
        Image.objects.filter(pk__in=set(image_pks)).order_by("pk").values_list("pk", "is_licensed")
    )
    able = [pk for pk, is_licensed in licensed.items() if is_licensed]
    before = set(Scan.objects.active().filter(image__in=able).values_list("pk", flat=True))
    _end_those_being_cancelled(able)
    part = first_part(wanted)
    scans = _active_scans(able, _PRIORITIES[trigger], part)
    insert_categories(scans.values(), wanted)
    insert_items(task.pk, [_item(pk, scans.get(pk), before) for pk in licensed])
    _show(able, ScanStatus.SCANNING)
    for scan_pk in sorted(set(scans.values()) - before)[:FIRST_BELLS]:
        ring_for(scan_pk, part)
    return task


@transaction.atomic
def request_cancel(image_pks: Iterable[int], user: User | None) -> int:  # noqa: ARG001 - who asked is audited later
    """Stop the scans of these images: waiting ones end at once, running ones within seconds; how many."""
    _lock(_Lock.REQUESTS)
    active = Scan.objects.active().filter(image__in=set(image_pks))
    rows = list(active.select_for_update().order_by("pk").values_list("pk", "image_id", "state"))
    waiting = {pk: image for pk, image, state in rows if state == State.QUEUED}
    Scan.objects.cancel_waiting(list(waiting))
    Scan.objects.filter(pk__in=[pk for pk, _, _ in rows], state=State.RUNNING).update(cancel_requested=True)
    cancel_categories(list(waiting))
    _show(waiting.values(), ScanStatus.CANCELLED)
    return len(rows)


def refresh_summary(image_pk: int) -> None:
    """Recompute one image's summary columns from the facts; needs a transaction."""
    refresh_summaries([image_pk])


def ring_next(part: Part) -> None:
    """Ring for the first scan that waits for this part and whose own bell is lost or was never rung."""
    with transaction.atomic():
        for scan_pk in Scan.objects.take_bells(1, part):
            ring_for(scan_pk, part)


def scannable_images() -> QuerySet[Image]:
    """The images that some tag shows now, licensed or not."""
    return Image.objects.filter(Exists(Tag.objects.filter(image=OuterRef("pk"), missing_since=None)))


def _lock(key: _Lock) -> None:
    """Until the end of the transaction, let nobody else hold this key."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(key)])


def _end_those_being_cancelled(image_pks: Collection[int]) -> None:
    """A scan that is stopping cannot be joined: end it now, so that this click gets a scan of its own."""
    stopping = Scan.objects.filter(image__in=image_pks, state=State.RUNNING, cancel_requested=True)
    pks = list(stopping.select_for_update().order_by("pk").values_list("pk", flat=True))
    if pks:
        Scan.objects.cancel_stopping(pks)
        cancel_categories(pks)


def _active_scans(image_pks: Collection[int], priority: int, part: Part) -> dict[int, int]:
    """Image -> its waiting or running scan, made where there is none, and locked against ending."""
    scans: dict[int, int] = {}
    missing = sorted(image_pks)
    while missing:
        insert_scans(missing, priority, part)
        rows = Scan.objects.active().filter(image__in=missing).select_for_update().order_by("pk")
        scans.update(rows.values_list("image_id", "pk"))
        # One that was there and ended before it could be locked leaves its image without a scan.
        missing = [pk for pk in missing if pk not in scans]
    more_urgent = Scan.objects.filter(pk__in=scans.values(), state=State.QUEUED, priority__gt=priority)
    more_urgent.update(priority=priority)
    return scans


def _item(image_pk: int, scan_pk: int | None, active_before: Collection[int]) -> tuple[int, int | None, str]:
    if scan_pk is None:
        return image_pk, None, Outcome.UNLICENSED
    return image_pk, scan_pk, Outcome.JOINED if scan_pk in active_before else Outcome.STARTED


def _show(image_pks: Collection[int], status: ScanStatus) -> None:
    """What the summaries of these images say from now on; all that a scan's begin or cancellation changes."""
    rows = Image.objects.filter(pk__in=image_pks).exclude(scan_status=status)
    pks = list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    Image.objects.filter(pk__in=pks).update(scan_status=status, **failure_fields(None))
