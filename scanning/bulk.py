"""Statements that write the rows of ten thousand scans at once; by single objects they take many seconds."""

from collections.abc import Collection, Sequence

from django.db import connection

from scanning.models import Category, CategoryState, Part, ScanStep
from tcss.lifecycle import State


def insert_scans(image_pks: Collection[int], priority: int, part: Part) -> None:
    """A queued scan of each image that begins with this part, except where one is active."""
    with connection.cursor() as cursor:
        # In the order of their keys: two that insert the same rows then wait instead of locking each other.
        cursor.execute(
            """
            INSERT INTO scanning_scan (image_id, registry_id, part, priority, state, step, progress, attempt,
                fence, cancel_requested, error_code, error_reason, error_remedy)
            SELECT image, (
                    SELECT registry_id FROM repositories_tag
                    WHERE image_id = image AND removed_at IS NULL ORDER BY pushed_at DESC, id DESC LIMIT 1
                ), %s, %s, %s, %s, 0, 0, 0, FALSE, '', '', '' FROM unnest(%s::bigint[]) AS image
            ORDER BY image
            ON CONFLICT DO NOTHING
            """,
            [part, priority, State.QUEUED, ScanStep.WAITING, list(image_pks)],
        )


def insert_categories(scan_pks: Collection[int], categories: Sequence[Category]) -> None:
    """The waiting categories of each scan, except those that it has."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO scanning_scancategory (scan_id, category, state, engine, engine_version,
                database_version, finding_count, error_code, error_reason, error_remedy)
            SELECT scan, category, %s, '', '', '', 0, '', '', ''
            FROM unnest(%s::bigint[]) AS scan CROSS JOIN unnest(%s::text[]) AS category
            ORDER BY scan, category
            ON CONFLICT DO NOTHING
            """,
            [CategoryState.WAITING, list(scan_pks), [category.value for category in categories]],
        )


def insert_items(task_pk: int, items: Sequence[tuple[int, int | None, str]]) -> None:
    """What a task did about each image: image, scan, outcome."""
    images, scans, outcomes = zip(*items, strict=True) if items else ((), (), ())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO scanning_taskitem (task_id, image_id, scan_id, outcome)
            SELECT %s, image, scan, outcome
            FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS item (image, scan, outcome)
            """,
            [task_pk, list(images), list(scans), [str(outcome) for outcome in outcomes]],
        )
