"""The one error the zero-setup mode raises, and the words it prints."""

import sys
import time


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
        if self._open_step:
            print(flush=True)
            self._open_step = ""
        print(sentence, flush=True)

    def complain(self, sentence: str) -> None:
        """Prints one line to standard error."""
        if self._open_step:
            print(flush=True)
            self._open_step = ""
        print(sentence, file=sys.stderr, flush=True)

    def begin(self, step: str) -> None:
        """Announces a step that takes a while."""
        self.say_nothing_open()
        self._open_step, self._started, self._ticks = step, time.monotonic(), 0
        print(f"  {step} ", end="", flush=True)

    def say_nothing_open(self) -> None:
        """Ends an unfinished step's line."""
        if self._open_step:
            print(flush=True)
            self._open_step = ""

    def tick(self) -> None:
        """Adds a dot every two seconds of the open step, so that a long one is seen to live."""
        if self._open_step and time.monotonic() - self._started > 2 * (self._ticks + 1):
            self._ticks += 1
            print(".", end="", flush=True)

    def done(self) -> None:
        """Ends the open step with the seconds it took."""
        if self._open_step:
            print(f"{time.monotonic() - self._started:.1f} s", flush=True)
            self._open_step = ""
