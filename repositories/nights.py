"""When it is night: the hours in which registries are updated by themselves; plain calendar arithmetic."""

from datetime import UTC, datetime, time, tzinfo

NIGHT_ENDS = time(3)


def night_began(now: datetime, zone: tzinfo) -> datetime | None:
    """The midnight of the night that ``now`` is in, in the server's zone; None by day."""
    local = now.astimezone(zone)
    if local.time() >= NIGHT_ENDS:
        return None
    # Where the clocks skip midnight this is the day's first moment, as the offset before the change has it.
    return datetime.combine(local.date(), time(0), tzinfo=zone).astimezone(UTC)
