"""The two parts of a scan: the bell of each, its share of the progress, and what follows when it is over."""

from collections.abc import Collection
from typing import Any

from django.db.models.functions import Now

from scanning.models import CATEGORIES_OF, Category, CategoryState, Part, Scan, ScanCategory, ScanStep
from tcss.bell import ring
from tcss.lifecycle import Failure, State, failure_fields

_BELLS = {Part.CONTENT: "scanning.run_scan", Part.MALWARE: "scanning.run_malware"}
# Percent of the whole that the first of two parts takes.
_FIRST_TAKES = 70


def ring_for(scan_pk: int, part: Part) -> None:
    """Tell a worker of this part, once the transaction has committed, that a scan waits."""
    ring(_BELLS[part], scan_pk)


def first_part(categories: Collection[str]) -> Part:
    """The part that a scan for these categories begins with."""
    return Part.CONTENT if set(categories) & set(CATEGORIES_OF[Part.CONTENT]) else Part.MALWARE


def share_of(scan: Scan) -> tuple[int, int]:
    """Where the scan's present part begins and ends, in percent of the whole."""
    rows = list(ScanCategory.objects.filter(scan=scan).values_list("category", "state"))
    if any(state != CategoryState.WAITING for _, state in rows):
        return _FIRST_TAKES, 100
    own = set(CATEGORIES_OF[Part(scan.part)])
    return 0, _FIRST_TAKES if any(Category(category) not in own for category, _ in rows) else 100


def at_its_beginning(scan: Scan) -> dict[str, Any]:
    """The columns of a scan whose present part has to begin again."""
    return {"step": ScanStep.WAITING, "progress": share_of(scan)[0]}


def cancel_categories(scan_pks: Collection[int]) -> None:
    """Close the categories that a cancelled scan will not look at any more."""
    ScanCategory.objects.filter(scan__in=scan_pks, state=CategoryState.WAITING).update(
        state=CategoryState.CANCELLED, finished_at=Now()
    )


def fail_categories(scan_pks: Collection[int], failure: Failure, *, part: Part | None = None) -> None:
    """Close the categories of scans that failed, be it as a whole or in one part."""
    rows = ScanCategory.objects.filter(scan__in=scan_pks, state=CategoryState.WAITING)
    if part is not None:
        rows = rows.filter(category__in=CATEGORIES_OF[part])
    rows.update(state=CategoryState.FAILED, finished_at=Now(), **failure_fields(failure))


def end_cancelled(scan: Scan) -> bool:
    """End a running scan as cancelled, with what it has not looked at; False when it is no longer ours."""
    if not Scan.objects.end(scan.pk, fence=scan.fence, state=State.CANCELLED):
        return False
    cancel_categories([scan.pk])
    return True


def close_part(scan: Scan, failure: Failure | None = None) -> bool:
    """Hand the scan over to its other part where a category waits for it, else end it.

    Call it with the row as it was locked in this transaction, when the categories of its present part have
    ended. `failure` is for a scan without categories. False when it is no longer ours.
    """
    order = list(Category)
    rows = sorted(ScanCategory.objects.filter(scan=scan), key=lambda row: order.index(Category(row.category)))
    waiting = [row.category for row in rows if row.state == CategoryState.WAITING]
    if waiting and scan.cancel_requested:
        return end_cancelled(scan)
    if waiting:
        part = first_part(waiting)
        fields = {"part": part, "waits_for": None, "step": ScanStep.WAITING, "progress": _FIRST_TAKES}
        if not Scan.objects.hand_over(scan.pk, fence=scan.fence, **fields):
            return False
        ring_for(scan.pk, part)
        return True
    failures = [_failure(row) for row in rows if row.state == CategoryState.FAILED]
    if len(failures) < len(rows):
        return Scan.objects.end(scan.pk, fence=scan.fence, state=State.SUCCEEDED, progress=100)
    cause = failures[0] if failures else failure
    state = State.FAILED if cause else State.SUCCEEDED
    return Scan.objects.end(scan.pk, fence=scan.fence, state=state, failure=cause, progress=100)


def _failure(row: ScanCategory) -> Failure:
    return Failure(row.error_code, row.error_reason, row.error_remedy)
