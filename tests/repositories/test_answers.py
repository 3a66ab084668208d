"""Reading a registry's answers: what has no place in a column or on a page does not come that far."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from repositories.registries.answers import moment
from scanning.engines.trivy_report import moment as moment_of_report

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
ODD_TIMES = [
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "9998-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0002-01-01T00:00:00Z",
]


@pytest.mark.parametrize("written", ODD_TIMES)
def test_a_time_near_the_ends_of_the_calendar_can_be_shown_in_every_zone(written: str) -> None:
    try:
        found = moment({"push_time": written}, "push_time")
    except ValueError:
        found = NEVER
    assert found == NEVER
    for zone in ("Pacific/Kiritimati", "Pacific/Midway"):
        assert found.astimezone(ZoneInfo(zone))
    assert moment_of_report(written) is None


def test_times_of_our_days_are_kept() -> None:
    written = "2024-05-01T10:00:00.5+02:00"
    expected = datetime(2024, 5, 1, 8, 0, 0, 500_000, tzinfo=UTC)
    assert moment({"push_time": written}, "push_time") == moment_of_report(written) == expected
