"""Pages of scan tasks and of one task's images, each with a known number of queries."""

from dataclasses import dataclass

from repositories.models import Tag
from scanning.models import Category, ScanTask, TaskItem
from scanning.progress import Totals, items_of, names_of, totals_of

TASKS_ON_PAGE = 20
ITEMS_ON_PAGE = 50


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One scan task and how far it is."""

    task: ScanTask
    totals: Totals
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, the newest first; `next_before` is where the older ones begin, 0 at the end."""

    rows: tuple[TaskRow, ...]
    next_before: int

    @property
    def is_live(self) -> bool:
        """Whether anything on the page may still change by itself."""
        return any(not row.totals.is_over for row in self.rows)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One image of a task, and a name to call it by."""

    item: TaskItem
    tag: Tag | None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Some images of a task."""

    rows: tuple[ItemRow, ...]
    total: int
    next_offset: int | None


def task_page(before: int | None) -> TaskPage:
    """The tasks before a key; two queries."""
    tasks = ScanTask.objects.select_related("requested_by").order_by("-pk")
    if before is not None:
        tasks = tasks.filter(pk__lt=before)
    found = list(tasks[: TASKS_ON_PAGE + 1])
    shown = found[:TASKS_ON_PAGE]
    totals = totals_of(shown)
    return TaskPage(
        rows=tuple(TaskRow(task, totals[task.pk], category_labels(task)) for task in shown),
        next_before=shown[-1].pk if len(found) > TASKS_ON_PAGE else 0,
    )


def item_page(task: ScanTask, offset: int) -> ItemPage:
    """Some images of a task from an offset on; three queries."""
    items = items_of(task)
    found = list(items[offset : offset + ITEMS_ON_PAGE])
    names = names_of([item.image_id for item in found])
    total = items.order_by().count()
    following = offset + len(found)
    return ItemPage(
        rows=tuple(ItemRow(item, names.get(item.image_id)) for item in found),
        total=total,
        next_offset=following if found and following < total else None,
    )


def category_labels(task: ScanTask) -> tuple[str, ...]:
    """What the task looks for, in words."""
    return tuple(str(category.label) for category in Category if category in task.categories)
