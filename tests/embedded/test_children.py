"""Child processes: dying with their parent, being stopped, logs that stay small."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcss.embedded import children
from tcss.embedded.children import Child, Launch, cap_log, run_to_end, stop, tail
from tcss.embedded.problems import StartError
from tests.embedded.running_console import identity, within

# A process whose child asked to die with it; it prints the child's number and waits.
_PARENT_AND_CHILD = """
import os, signal, time
from tcss.embedded.parent import die_with_parent
parent = os.getpid()
if os.fork() == 0:
    die_with_parent(signal.SIGKILL, parent)
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""
_LATE = """
import os, time
from tcss.embedded.parent import die_with_parent
print(os.getpid(), flush=True)
die_with_parent(parent=1234567890)
print("still here", flush=True)
"""


def launch(place: Path, code: str, **fields: object) -> Launch:
    """How a small Python program is started."""
    return Launch(
        name="sample",
        command=[sys.executable, "-c", code],
        environment=dict(os.environ),
        log=place / "sample.log",
        directory=Path(__file__).resolve().parents[2],
        **fields,  # type: ignore[arg-type]
    )


def said(place: Path) -> str:
    return (place / "sample.log").read_text()


def test_a_process_that_asked_for_it_dies_with_its_parent(place: Path) -> None:
    parent = Child(launch(place, _PARENT_AND_CHILD))
    within(20, lambda: said(place).strip(), "the child has said its number")
    child = int(said(place))
    assert identity(child)
    # The parent alone: nothing but the kernel's signal ends the child.
    os.kill(parent.pid, signal.SIGKILL)
    within(5, lambda: identity(child) is None, "the child has ended")
    parent.kill()


def test_a_process_whose_parent_died_first_ends_itself(place: Path) -> None:
    late = Child(launch(place, _LATE))
    assert late.wait(20, time.sleep)
    assert late.exit_code() == -signal.SIGKILL
    assert "still here" not in said(place)


def test_what_ignores_the_polite_signals_is_killed_with_its_group(place: Path) -> None:
    stubborn = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""
    child = Child(launch(place, stubborn, stop_seconds=0.2))
    within(20, lambda: said(place).strip(), "it has started")
    grandchild = int(said(place))
    stop([child], time.sleep)
    assert child.exit_code() == -signal.SIGKILL
    within(5, lambda: identity(grandchild) is None, "its own child has ended")


def test_the_second_signal_is_sent_to_what_ignores_the_first(place: Path) -> None:
    patient = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(600)
"""
    child = Child(launch(place, patient, stop_seconds=0.2, stop_signals=(signal.SIGTERM, signal.SIGQUIT)))
    within(20, lambda: "ready" in said(place), "it has started")
    stop([child], time.sleep)
    assert child.exit_code() == 7


def test_a_failure_is_told_with_the_end_of_the_log(place: Path) -> None:
    with pytest.raises(StartError, match=r"(?s)exit code 3.*the reason"):
        run_to_end(launch(place, "print('the reason'); raise SystemExit(3)"), time.sleep, seconds=20)


def test_a_log_above_the_cap_is_moved_once_and_its_writer_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 1000)
    writer = """
import sys
for line in sys.stdin:
    print(line * 100, end="", flush=True)
"""
    log = place / "sample.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", writer], stdin=subprocess.PIPE, stdout=stream, text=True
        )
    assert process.stdin is not None
    process.stdin.write("before the cap\n")
    process.stdin.flush()
    within(20, lambda: log.stat().st_size == 1500, "the first lines are written")
    cap_log(log)
    assert log.stat().st_size == 0
    assert (place / "sample.log.1").stat().st_size == 1500
    process.communicate("after\n")
    assert log.read_text() == "after\n" * 100
    assert tail(log, 1) == "    after"
