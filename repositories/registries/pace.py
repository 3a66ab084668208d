"""How many requests may be at one registry at once: one more while it copes, half as many when not."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST = 4
MOST = 8
# A registry that asks for a longer pause is asked again by a later job instead.
LONGEST_PAUSE_SECONDS = 60.0
# How long a waiting thread sleeps before it looks whether it is still wanted.
_SLICE_SECONDS = 0.5


class Pace:
    """The turns of several threads at one registry, from 1 to ``most`` at once.

    Answers that came well raise the number by one a round; a wish for fewer requests, or an answer that never
    came, halves it once for all the requests that were under way together.
    """

    def __init__(self, *, first: int = FIRST, most: int = MOST) -> None:
        self.most = most
        self._allowed = float(min(first, most))
        self._taken = 0
        self._round = 0
        self._not_before = 0.0
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """How many requests may be under way now."""
        return int(self._allowed)

    @contextmanager
    def turn(self, alive: Callable[[], None]) -> Iterator["Turn"]:
        """Wait for a turn and take it; ``alive`` is called while waiting and may raise."""
        with self._changed:
            while (wait := self._wait()) > 0:
                alive()
                self._changed.wait(wait)
            self._taken += 1
            turn = Turn(self, self._round)
        try:
            yield turn
            self._raise_a_little(turn)
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify()

    def _wait(self) -> float:
        """Seconds until it is worth looking again; 0 when there is a turn."""
        if self._taken >= int(self._allowed):
            return _SLICE_SECONDS
        return min(self._not_before - time.monotonic(), _SLICE_SECONDS)

    def _raise_a_little(self, turn: "Turn") -> None:
        if self._allowed >= self.most or turn.spoiled:
            return
        with self._changed:
            before = int(self._allowed)
            self._allowed = min(self._allowed + 1 / self._allowed, float(self.most))
            self._changed.notify(int(self._allowed) - before)

    def halve(self, made_in: int, retry_after: float) -> None:
        """A request that began in round ``made_in`` was too much."""
        with self._changed:
            pause = min(retry_after, LONGEST_PAUSE_SECONDS)
            self._not_before = max(self._not_before, time.monotonic() + pause)
            if made_in == self._round:
                self._round += 1
                self._allowed = max(self._allowed / 2, 1.0)


class Turn:
    """One request's turn; it went well unless the opposite is said."""

    def __init__(self, pace: Pace, made_in: int) -> None:
        self._pace = pace
        self._made_in = made_in
        self.spoiled = False

    def was_too_much(self, retry_after: float = 0.0) -> None:
        """The registry asked for fewer requests, after so many seconds, or did not answer in time."""
        self.spoiled = True
        self._pace.halve(self._made_in, retry_after)
