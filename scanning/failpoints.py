"""Named places between two durable steps where a test makes the process die, fail or wait.

The variable ``TCSS_FAILPOINTS`` holds ``name=action`` words separated by commas; without it, as in every
installation, a fail-point does nothing. Actions: ``kill`` (SIGKILL to this process), ``raise``, and
``hold:PATH``, which waits until the file PATH is gone and writes PATH.reached when it gets there. With
``name@N=action`` only the N-th passage in this process acts.
"""

import os
import signal
import threading
from collections import Counter
from functools import cache
from pathlib import Path

_HOLD_POLL_SECONDS = 0.05
_passages: Counter[str] = Counter()


class FailpointError(RuntimeError):
    """A fail-point was told to raise."""


@cache
def _actions() -> dict[str, tuple[int, str]]:
    actions = {}
    for word in filter(None, os.environ.get("TCSS_FAILPOINTS", "").split(",")):
        name, _, action = word.partition("=")
        name, _, number = name.partition("@")
        actions[name] = (int(number or 0), action)
    return actions


def failpoint(name: str) -> None:
    """Do what the test asked for at this place; nothing in an installation."""
    if name not in _actions():
        return
    _passages[name] += 1
    number, action = _actions()[name]
    if number in {0, _passages[name]}:
        _act(name, action)


def _act(name: str, action: str) -> None:
    verb, _, argument = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "raise":
        raise FailpointError(name)
    elif verb == "hold":
        Path(f"{argument}.reached").touch()
        gate = threading.Event()
        while Path(argument).exists():
            gate.wait(_HOLD_POLL_SECONDS)
