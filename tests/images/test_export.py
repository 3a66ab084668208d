"""The list as a CSV file."""

import csv
import io
import re

import pytest
from django.http import StreamingHttpResponse
from django.test import Client
from django.utils import timezone

from images.exports import COLUMNS
from images.listing import Listing
from images.models import ScanStatus
from tests.images import shelf

pytestmark = pytest.mark.django_db


def rows(response: StreamingHttpResponse) -> list[dict[str, str]]:
    body = b"".join(response).decode("utf-8-sig")  # type: ignore[arg-type]
    return list(csv.DictReader(io.StringIO(body, newline="")))


def test_the_file_has_the_rows_of_the_page_in_its_order_with_its_filters(viewer: Client) -> None:
    where = shelf.registry()
    for number in range(45):
        content = (
            shelf.image(str(number), size=number % 7, scan_status=ScanStatus.SCANNED) if number % 5 else None
        )
        shelf.tag(where, f"v{number}", content=content, repository=f"shop/{number % 2}")
    for query in ("", "q=shop/1&sort=-size", "status=scanned&sort=name", "status=not_scanned"):
        shown, page = [], viewer.get(f"/images/?{query}&size=20").context["page"]
        while True:
            shown += [(f"main.example.org/{row.tag.repository_name}", row.tag.name) for row in page.rows]
            if not page.next_url:
                break
            page = viewer.get(f"/images/{page.next_url}").context["page"]
        exported = rows(viewer.get(f"/images/export/?{query}"))
        assert [(row["Image repository address"], row["Image version"]) for row in exported] == shown
        assert shown


def test_the_selected_rows_alone_are_exported_by_a_post(viewer: Client) -> None:
    where = shelf.registry()
    tags = [shelf.tag(where, name, content=shelf.image(name)) for name in ("a", "b", "c")]
    exported = rows(viewer.post("/images/export/", {"id": [tags[0].pk, tags[2].pk, "x"]}))
    assert {row["Image version"] for row in exported} == {"a", "c"}


def test_every_value_of_a_row_is_in_its_column(viewer: Client) -> None:
    moment = timezone.now().replace(microsecond=0)
    content = shelf.image(
        "a", is_licensed=True, scan_status=ScanStatus.EXCEPTION, critical_count=1, high_count=2,
        medium_count=3, low_count=4, negligible_count=5, unknown_count=6, fixable_count=7,
        malware_count=8, sensitive_count=9,
        last_scanned_at=moment, error_reason="It broke.", error_remedy="Mend it.",
    )  # fmt: skip
    tag = shelf.tag(shelf.registry(), "1", content=content)
    (row,) = rows(viewer.get("/images/export/"))
    assert row == {
        "Image repository": "main", "Image repository address": "main.example.org/shop/api",
        "Repository type": "Harbor", "Image version": "1", "Image digest": tag.manifest_digest,
        "Image ID": content.image_id, "Platform": "linux/amd64", "Size (bytes)": "1000",
        "Pushed": tag.pushed_at.isoformat(), "Critical": "1", "High": "2", "Medium": "3", "Low": "4",
        "Negligible": "5", "Unknown": "6", "Fixable": "7", "Viruses and trojans": "8", "Sensitive data": "9",
        "Last scanned": moment.isoformat(), "Licensing status": "Licensed", "Status": "Scan exception",
        "Cause": "It broke.", "Remedy": "Mend it.",
    }  # fmt: skip


def test_a_row_whose_image_is_not_known_has_empty_cells_in_the_same_columns(viewer: Client) -> None:
    shelf.tag(shelf.registry(), "1")
    (row,) = rows(viewer.get("/images/export/"))
    assert set(row) == set(COLUMNS)
    assert (row["Image ID"], row["Critical"], row["Last scanned"]) == ("", "", "")
    assert (row["Licensing status"], row["Status"]) == ("Not licensed", "Not scanned")


@pytest.mark.parametrize("start", ["=cmd|'/c calc'!A0", "+1", "-1+1", "@SUM(A1)", "＝1", "\tx", "\rx"])
def test_no_cell_begins_like_a_formula(viewer: Client, start: str) -> None:
    content = shelf.image("a", scan_status=ScanStatus.EXCEPTION, error_reason=start)
    shelf.tag(shelf.registry(), "1", repository="=1+1", content=content)
    (row,) = rows(viewer.get("/images/export/"))
    assert row["Cause"] == f"'{start}"


def test_quotes_commas_and_lines_come_back_as_they_were(viewer: Client) -> None:
    hostile = 'a "quoted", text;\nof two lines'
    content = shelf.image("a", scan_status=ScanStatus.EXCEPTION, error_reason=hostile)
    shelf.tag(shelf.registry(), "1", content=content)
    assert rows(viewer.get("/images/export/"))[0]["Cause"] == hostile


def test_nothing_to_export_is_a_file_with_its_head(viewer: Client) -> None:
    response = viewer.get("/images/export/")
    body = b"".join(response).decode("utf-8-sig")  # type: ignore[arg-type]
    assert body == ",".join(COLUMNS) + "\r\n"


def test_the_file_is_named_as_an_attachment_and_streams(viewer: Client) -> None:
    response = viewer.get("/images/export/")
    assert response.streaming
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="repository-images-\d{4}-\d\d-\d\d-\d{4}\.csv"',
        response["Content-Disposition"],
    )


def test_page_and_export_ask_with_the_same_object(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = Listing.__init__

    def spy(self: Listing, query: object, **registries: object) -> None:
        asked.append(query.urlencode())  # type: ignore[attr-defined]
        original(self, query, **registries)  # type: ignore[arg-type]

    monkeypatch.setattr(Listing, "__init__", spy)
    viewer.get("/images/?q=a&status=scanned")
    b"".join(viewer.get("/images/export/?q=a&status=scanned"))  # type: ignore[arg-type]
    assert asked == ["q=a&status=scanned"] * 2
