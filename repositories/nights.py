"""When it is night: the hours in which registries are updated by themselves; plain calendar arithmetic.

A night is the hours from 0:00 to 3:00 of one date, as the clocks of the server's zone show them. It is
shorter or longer where they are changed in it; where they skip 0:00 or 3:00 it begins or ends with the jump.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

NIGHT_ENDS = time(3)
# Registries begin within this part of the night, two of three hours, so that a thousand of them do not begin
# at once and the last have time left.
_SPREAD = 2 / 3


@dataclass(frozen=True, slots=True)
class Night:
    """One night: its date, the moment it began, and the moment it is over."""

    date: date
    began: datetime
    ends: datetime

    def moment_of(self, key: int) -> datetime:
        """When the registry with this key is to begin: in every night after the same part of it."""
        word = hashlib.sha256(str(key).encode()).digest()[:8]
        return self.began + (self.ends - self.began) * (_SPREAD * int.from_bytes(word) / 2**64)


def night_at(now: datetime, zone: tzinfo) -> Night | None:
    """The night that ``now`` is in; None by day."""
    local = now.astimezone(zone)
    if local.time() >= NIGHT_ENDS:
        return None
    ends = _first(local.date(), NIGHT_ENDS, zone)
    if ends <= now:
        # The clocks showed 3:00, were put back, and will show it again.
        ends = datetime.combine(local.date(), NIGHT_ENDS, zone).replace(fold=1).astimezone(UTC)
    return Night(local.date(), _first(local.date(), time(0), zone), ends)


def _first(day: date, clock: time, zone: tzinfo) -> datetime:
    """The first moment of a date at which the clocks show this time, or more where they skip it."""
    wall = datetime.combine(day, clock, zone)
    moment = wall.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return moment
    # By the offset before the jump this moment is behind it, and by the one after the jump before it.
    before, behind = wall.replace(fold=1).astimezone(UTC), moment
    while behind - before > timedelta(seconds=1):
        between = before + timedelta(seconds=(behind - before).total_seconds() // 2)
        if between.astimezone(zone).utcoffset() == behind.astimezone(zone).utcoffset():
            behind = between
        else:
            before = between
    return behind
