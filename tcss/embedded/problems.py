"""The one error the zero-setup mode raises, and the words it prints."""

import contextlib
import sys
import time
from typing import TextIO


class StartError(Exception):
    """The console cannot start or go on; the text is one plain sentence with its remedy."""


class Terminal:
    """What the supervisor says: sentences, and steps whose duration is shown."""

    def __init__(self) -> None:
        self._open_step = ""
        self._started = 0.0
        self._ticks = 0

    def say(self, sentence: str) -> None:
        """Prints one line; a step in progress is put on a line of its own first."""
        self._end_line()
        _put(f"{sentence}\n")

    def complain(self, sentence: str) -> None:
        """Prints one line to standard error."""
        self._end_line()
        _put(f"{sentence}\n", sys.stderr)

    def begin(self, step: str) -> None:
        """Announces a step that takes a while."""
        self._end_line()
        self._open_step, self._started, self._ticks = step, time.monotonic(), 0
        _put(f"  {step} ")

    def _end_line(self) -> None:
        """Ends an unfinished step's line."""
        if self._open_step:
            _put("\n")
            self._open_step = ""

    def tick(self) -> None:
        """Adds a dot every two seconds of the open step, so that a long one is seen to live."""
        if self._open_step and time.monotonic() - self._started > 2 * (self._ticks + 1):
            self._ticks += 1
            _put(".")

    def done(self) -> None:
        """Ends the open step with the seconds it took."""
        if self._open_step:
            _put(f"{time.monotonic() - self._started:.1f} s\n")
            self._open_step = ""


def _put(text: str, stream: TextIO | None = None) -> None:
    # Nobody may be listening any more (a closed terminal); the console goes on.
    with contextlib.suppress(OSError):
        print(text, end="", file=stream or sys.stdout, flush=True)
