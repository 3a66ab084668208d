"""A process that asks the kernel to be ended when the process that started it dies (Linux)."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Loaded at import: between fork and exec nothing may be looked up any more.
_prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)


def die_with_parent(signal_number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Has the kernel send this process the signal when its parent dies.

    Call it in the child, after any change of user: the kernel forgets the wish when credentials change.
    It follows the *thread* that forked, which must live as long as the parent does. `parent` is the process
    id the parent is known by; where it died before the wish was noted, the child ends itself at once.
    Does nothing on systems without prctl.
    """
    if _prctl is None:
        return
    expected = os.getppid() if parent is None else parent
    _prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != expected:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the new parent of its descendants whose own parent dies, instead of init."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
