"""Whose turn it is: the waiting scan that a free worker takes next."""

from django.db import connection

from scanning.models import Part
from tcss.lifecycle import MAX_ATTEMPTS

# A registry's first scan that waits for a worker alone, and its first one whose time has come. Both are read
# from the head of an index, so that ten thousand that wait cost no more than ten.
_TAKEABLE = """part = %(part)s AND state = 'queued' AND NOT cancel_requested AND attempt < %(attempts)s"""
_FIRST = f"""
    (SELECT id, priority FROM scanning_scan
     WHERE {_TAKEABLE} AND available_at IS NULL AND registry_id {{registry}}
     ORDER BY priority, id LIMIT 1)
    UNION ALL
    (SELECT id, priority FROM (
        SELECT id, priority FROM scanning_scan
        WHERE {_TAKEABLE} AND available_at <= statement_timestamp() AND registry_id {{registry}}
        ORDER BY available_at LIMIT 100
     ) AS due ORDER BY priority, id LIMIT 1)
"""  # noqa: S608 - made of constants
_NEXT = f"""
    WITH running AS (
        SELECT registry_id, count(*) AS scans FROM scanning_scan
        WHERE state = 'running' AND part = %(part)s GROUP BY registry_id
    ), heads AS (
        SELECT registry.id AS registry_id, first.id, first.priority
        FROM repositories_registry AS registry
        CROSS JOIN LATERAL ({_FIRST.format(registry="= registry.id")}) AS first
        UNION ALL
        SELECT NULL, first.id, first.priority FROM ({_FIRST.format(registry="IS NULL")}) AS first
    )
    SELECT heads.id FROM heads LEFT JOIN running ON running.registry_id IS NOT DISTINCT FROM heads.registry_id
    ORDER BY heads.priority, COALESCE(running.scans, 0), heads.id LIMIT 1
"""  # noqa: S608 - made of constants


def next_in_line(part: Part) -> int | None:
    """The key of the scan to take; None when nothing waits for this part, or only for a later time.

    The most urgent goes first, among these one of the registry with the fewest running, then the oldest.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, {"part": part, "attempts": MAX_ATTEMPTS})
        row = cursor.fetchone()
    return int(row[0]) if row else None
