"""Times as the demo Tencent API writes them: every kind of row has its own form, as in the API's examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8), "CST")
"""The zone in which the cloud writes some of its times, and does not always say so."""


def offset_time(at: datetime) -> str:
    """A time as instances and regions have it: with the offset of China."""
    return f"{at.astimezone(CHINA):%Y-%m-%dT%H:%M:%S}+08:00"


def zulu_time(at: datetime) -> str:
    """A time as namespaces and images have it: in UTC, without zeros at the end of the fraction."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{_fraction(at)}Z"


def go_time(at: datetime) -> str:
    """A time as repositories have it, in the layout `2006-01-02 15:04:05.999999999 -0700 MST`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}{_fraction(at)} +0000 UTC"


def bare_time(at: datetime) -> str:
    """A time of the personal edition in China's zone that does not say so."""
    return f"{at.astimezone(CHINA):%Y-%m-%d %H:%M:%S}"


def zoned_time(at: datetime) -> str:
    """A time of the personal edition in China's zone that says so."""
    return f"{bare_time(at)} +0800 CST"


def _fraction(at: datetime) -> str:
    return f".{at.microsecond:06}".rstrip("0").rstrip(".")
