"""The Repository Images list as a CSV file: the same rows in the same order, inert in a spreadsheet."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from images.listing import Row
from images.models import NEVER

COLUMNS = (
    "Image repository",
    "Image repository address",
    "Repository type",
    "Image version",
    "Image digest",
    "Image ID",
    "Platform",
    "Size (bytes)",
    "Pushed",
    "Critical",
    "High",
    "Medium",
    "Low",
    "Negligible",
    "Unknown",
    "Fixable",
    "Viruses and trojans",
    "Sensitive data",
    "Last scanned",
    "Licensing status",
    "Status",
    "Cause",
    "Remedy",
)
# A spreadsheet takes a cell that begins with one of these for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def inert(value: object) -> str:
    """A cell no spreadsheet calculates: an apostrophe stands before what it would take for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def cells(row: Row) -> tuple[object, ...]:
    """One row's values in the order of COLUMNS."""
    tag, image = row.tag, row.tag.image
    known: tuple[object, ...]
    if image is None:
        known = ("", "", "", tag.pushed_at.isoformat(timespec="seconds"), *[""] * 9, "", "Not licensed")
        cause: tuple[object, ...] = ("", "")
    else:
        known = (
            image.image_id,
            image.platform,
            image.size,
            tag.pushed_at.isoformat(timespec="seconds"),
            *(
                (
                    image.critical_count,
                    image.high_count,
                    image.medium_count,
                    image.low_count,
                    image.negligible_count,
                    image.unknown_count,
                    image.fixable_count,
                    image.malware_count,
                    image.sensitive_count,
                    image.last_scanned_at.isoformat(timespec="seconds"),
                )
                # An image nobody looked into has no counts, which is not the same as zero.
                if image.last_scanned_at != NEVER
                else [""] * 10
            ),
            "Licensed" if image.is_licensed else "Not licensed",
        )
        cause = (image.error_reason, image.error_remedy)
    return (
        tag.registry.name,
        f"{tag.registry.host}/{tag.repository_name}",
        tag.registry.get_kind_display(),
        tag.name,
        tag.manifest_digest,
        *known,
        row.scan_status.label,
        *cause,
    )


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, value: str) -> str:
        """The line itself."""
        return value


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """The file line by line, its head first; the byte order mark tells Excel that it is UTF-8."""
    writer: Any = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([inert(cell) for cell in cells(row)])
