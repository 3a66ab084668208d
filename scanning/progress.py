"""How far scan tasks are: counted from their scans' rows each time, never kept beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.db.models import Case, Count, Exists, F, Min, OuterRef, Q, QuerySet, Sum, When
from django.db.models.functions import Now

from repositories.models import Tag
from scanning.models import CategoryState, Outcome, Scan, ScanCategory, ScanTask, TaskItem
from tcss.lifecycle import ACTIVE, State

_MOST_FAILURES = 50


@dataclass(frozen=True, slots=True)
class Totals:
    """A task's scans by state; `skipped` were not licensed."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    joined: int = 0
    progress: int = 0

    @property
    def scans(self) -> int:
        """Scans that belong to the task."""
        return self.queued + self.running + self.ended

    @property
    def ended(self) -> int:
        """Scans that ended, however."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def is_over(self) -> bool:
        """Whether nothing of the task waits or runs."""
        return self.queued + self.running == 0

    @property
    def percent(self) -> int:
        """Of the whole, with what the running scans have done; 100 only when all is over."""
        if self.is_over:
            return 100
        return min(99, (100 * self.ended + self.progress) // self.scans)

    @property
    def state(self) -> str:
        """The task's state in one word."""
        if not self.is_over:
            return "running" if self.running or self.ended else "queued"
        if not self.scans:
            return "empty"
        if self.failed:
            return "failed"
        return "cancelled" if self.cancelled else "succeeded"


@dataclass(frozen=True, slots=True)
class Wait:
    """Scans of a task that wait for one registry, be it its limit or its wish; when the next goes on."""

    registry: str
    is_limit: bool
    count: int
    until: datetime


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Scans of a task that failed for the same reason."""

    code: str
    reason: str
    remedy: str
    count: int


def totals_of(tasks: Sequence[ScanTask]) -> dict[int, Totals]:
    """Totals of these tasks by key; one query."""

    def in_state(state: State) -> Count:
        return Count("pk", filter=Q(scan__state=state))

    rows = (
        TaskItem.objects.filter(task__in=tasks)
        .order_by()
        .values("task_id")
        .annotate(
            queued=in_state(State.QUEUED),
            running=in_state(State.RUNNING),
            succeeded=in_state(State.SUCCEEDED),
            failed=in_state(State.FAILED),
            cancelled=in_state(State.CANCELLED),
            skipped=Count("pk", filter=Q(outcome=Outcome.UNLICENSED)),
            joined=Count("pk", filter=Q(outcome=Outcome.JOINED)),
            progress=Sum("scan__progress", filter=Q(scan__state__in=ACTIVE), default=0),
        )
    )
    found: dict[int, Totals] = {}
    for row in rows:
        counts = cast("dict[str, int]", {**row})
        task_pk = counts.pop("task_id")
        found[task_pk] = Totals(**counts)
    return {task.pk: found.get(task.pk, Totals()) for task in tasks}


def waits_of(task: ScanTask) -> tuple[Wait, ...]:
    """The registries that scans of the task wait for; one query."""
    scans = Scan.objects.filter(
        task_items__task=task, state=State.QUEUED, available_at__gt=Now(), waits_for__isnull=False
    )
    rows = (
        scans.order_by()
        .annotate(is_limit=Case(When(error_code="", then=True), default=False))
        .values("waits_for", "waits_for__name", "is_limit")
        .annotate(count=Count("pk", distinct=True), until=Min("available_at"))
        .order_by("until", "waits_for")[:_MOST_FAILURES]
    )
    return tuple(Wait(row["waits_for__name"], row["is_limit"], row["count"], row["until"]) for row in rows)


def failures_of(task: ScanTask) -> tuple[FailureGroup, ...]:
    """Why scans of the task failed, or a category of them did; the commonest first; two queries."""
    scans = Scan.objects.filter(task_items__task=task)
    whole = scans.filter(state=State.FAILED).values("error_code", "error_reason", "error_remedy")
    partly = scans.filter(
        state__in=[State.SUCCEEDED], categories__state__in=[CategoryState.FAILED, CategoryState.PARTIAL]
    ).values(
        code=F("categories__error_code"),
        reason=F("categories__error_reason"),
        remedy=F("categories__error_remedy"),
    )
    counted = [
        FailureGroup(row["error_code"], row["error_reason"], row["error_remedy"], row["count"])
        for row in whole.order_by().annotate(count=Count("pk", distinct=True))[:_MOST_FAILURES]
    ] + [
        FailureGroup(row["code"], row["reason"], row["remedy"], row["count"])
        for row in partly.order_by().annotate(count=Count("pk", distinct=True))[:_MOST_FAILURES]
    ]
    return tuple(sorted(counted, key=lambda group: (-group.count, group.code)))


def items_of(task: ScanTask) -> QuerySet[TaskItem]:
    """The task's images, those that need a look first: failed, running, waiting, the rest."""
    return (
        TaskItem.objects.filter(task=task)
        .select_related("image", "scan__waits_for")
        .defer("scan__waits_for__password", "scan__waits_for__custom_ca")
        .annotate(
            rank=Case(
                When(scan__state=State.FAILED, then=0),
                When(scan__state=State.RUNNING, then=1),
                When(scan__state=State.QUEUED, then=2),
                default=3,
            ),
            is_partial=Exists(
                ScanCategory.objects.filter(
                    scan=OuterRef("scan"), state__in=[CategoryState.FAILED, CategoryState.PARTIAL]
                )
            ),
        )
        .order_by("rank", "pk")
    )


def names_of(image_pks: Sequence[int]) -> dict[int, Tag]:
    """A tag of each image to show it by, the newest; one query."""
    tags = (
        Tag.objects.visible()
        .filter(image__in=image_pks)
        .order_by("image_id", "missing_since", "-pushed_at", "-pk")
        .distinct("image_id")
    )
    return {tag.image_id: tag for tag in tags if tag.image_id is not None}
