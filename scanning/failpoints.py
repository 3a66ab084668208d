"""Named places between two durable steps where a test makes the process die, fail or wait.

The variable ``TCSS_FAILPOINTS`` holds ``name=action`` words separated by commas; without it, as in every
installation, a fail-point does nothing. Actions: ``kill`` (SIGKILL to this process), ``kill:PATH`` (only the
process that manages to remove the file PATH), ``raise``, and ``hold:PATH``, which writes PATH.reached and
waits until the file PATH is gone.
"""

import os
import signal
import threading
from functools import cache
from pathlib import Path

_HOLD_POLL_SECONDS = 0.05


class FailpointError(RuntimeError):
    """A fail-point was told to raise."""


@cache
def _actions() -> dict[str, str]:
    words = os.environ.get("TCSS_FAILPOINTS", "").split(",")
    return dict(word.split("=", 1) for word in words if word)


def failpoint(name: str) -> None:
    """Do what the test asked for at this place; nothing in an installation."""
    action = _actions().get(name)
    if action is None:
        return
    verb, _, argument = action.partition(":")
    if verb == "raise":
        raise FailpointError(name)
    if verb == "kill" and _is_ours(argument):
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "hold":
        _hold(Path(argument))


def _is_ours(path: str) -> bool:
    """Whether this process is the one that may act: the one that removes the file."""
    try:
        if path:
            Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


def _hold(path: Path) -> None:
    if not path.exists():
        return
    path.with_name(f"{path.name}.reached").touch()
    gate = threading.Event()
    while path.exists():
        gate.wait(_HOLD_POLL_SECONDS)
