"""A console started as a person starts it: its own processes, data directory and port."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tcss.embedded.host import children_of

ROOT = Path(__file__).resolve().parents[2]
_READY = re.compile(r"The console is ready: http://127\.0\.0\.1:(\d+)/")
# Several of these start at once on two busy cores.
START_SECONDS = 120
# The first characters of a process's own id that no later process can share.
Identity = tuple[int, str]


def within(seconds: float, condition: Callable[[], object], what: str) -> None:
    """Waits until the condition holds, or fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def identity(pid: int) -> Identity | None:
    """The process number with its start time; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (pid, fields[19])


def descendants(pid: int) -> set[Identity]:
    """Every process below one, with children of children."""
    found: set[Identity] = set()
    for child in children_of(pid):
        known = identity(child)
        if known:
            found.add(known)
        found |= descendants(child)
    return found


def still_there(processes: set[Identity]) -> set[Identity]:
    """Which of them have not ended."""
    return {process for process in processes if identity(process[0]) == process}


def environment_for(data: Path, **variables: str) -> dict[str, str]:
    """What a person's shell would hold: nothing of the test run's own servers."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TCSS_", "PYTEST", "DATABASE_URL", "REDIS_URL", "DJANGO_"))
    }
    settings = {
        "TCSS_DATA_DIR": str(data),
        "TCSS_PORT": "0",
        "TCSS_SCAN_CONCURRENCY": "1",
        "TCSS_DATABASE_UPDATES": "0",
    }
    return clean | settings | variables


class Console:
    """One running `python -m tcss.embedded run`, or another verb."""

    def __init__(self, data: Path, output: Path, *, verb: str = "run", **variables: str) -> None:
        self.output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tcss.embedded", verb],
                cwd=ROOT,
                env=environment_for(data, **variables),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Everything it has printed."""
        return self.output.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        """Waits until it has said that it is ready."""
        within(START_SECONDS, lambda: _READY.search(self.said()) or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.said()

    @property
    def port(self) -> int:
        """Where it said it listens."""
        found = _READY.search(self.said())
        assert found, self.said()
        return int(found[1])

    def status_of(self, path: str) -> int:
        """The status it answers a GET with; 0 when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def child(self, words: str) -> int:
        """The process number of a direct child whose command line has these words."""
        for pid in children_of(self.process.pid):
            with contextlib.suppress(OSError):
                if words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    return pid
        raise AssertionError(f"no child runs {words!r}")

    def end(self) -> None:
        """Ends it, however it is."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def started(data: Path, output: Path, **variables: str) -> Iterator[Console]:
    """A console that is ready; it is ended at the end of the block."""
    console = Console(data, output, **variables)
    try:
        console.wait_until_ready()
        yield console
    finally:
        console.end()
