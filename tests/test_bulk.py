"""Statements that write many rows at once."""

from datetime import UTC, datetime

import pytest
from django.db import DataError
from pytest_django import DjangoAssertNumQueries

from images.models import NEVER, Image, ScanStatus
from tcss import bulk

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def image(number: int) -> Image:
    return Image.objects.create(image_id=f"sha256:{number:064x}", labels={"kept": "yes"})


def test_rows_get_their_own_values_and_keep_what_was_not_named() -> None:
    first, second, third = image(1), image(2), image(3)
    rows = [
        [first.pk, ScanStatus.SCANNED, 7, MOMENT, True],
        [second.pk, ScanStatus.EXCEPTION, 0, NEVER, False],
    ]
    fields = ["scan_status", "critical_count", "last_scanned_at", "is_licensed"]
    assert bulk.update(Image, fields, rows) == 2
    for each in (first, second, third):
        each.refresh_from_db()
    assert (first.scan_status, first.critical_count, first.last_scanned_at) == ("scanned", 7, MOMENT)
    assert (second.scan_status, second.critical_count, second.last_scanned_at) == ("exception", 0, NEVER)
    assert (third.scan_status, third.critical_count, third.last_scanned_at) == ("not_scanned", 0, NEVER)
    assert (first.is_licensed, second.is_licensed, first.labels) == (True, False, {"kept": "yes"})


def test_a_text_that_is_too_long_is_refused_and_never_cut() -> None:
    mine = image(1)
    with pytest.raises(DataError, match="too long"):
        bulk.update(Image, ["error_code"], [[mine.pk, "x" * 33]])


def test_rows_that_are_not_there_are_not_made() -> None:
    assert bulk.update(Image, ["critical_count"], [[12345, 1]]) == 0
    assert not Image.objects.exists()


def test_nothing_to_update_asks_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert bulk.update(Image, ["critical_count"], []) == 0
