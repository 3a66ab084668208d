"""The console's own workers for a benchmark, and how much memory they take."""

import subprocess
import sys
import threading
from pathlib import Path

from bench.sync import ROOT

QUEUES = {"scan": 2, "malware": 2}


class Workers:
    """The console's own workers, and the most memory any of them took with its children."""

    def __init__(self) -> None:
        self.peak = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def start(self, log: Path) -> None:
        """Begin to work; the environment says for whom."""
        for queue, concurrency in QUEUES.items():
            command = ["-m", "celery", "-A", "tcss", "worker", "--queues", queue, "--loglevel", "WARNING"]
            options = ["--concurrency", str(concurrency), "--hostname", f"{queue}@bench"]
            with log.open("ab") as output:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, *command, *options], cwd=ROOT, stdout=output, stderr=output
                    )
                )
        self._watch.start()

    def stop(self) -> None:
        """End them."""
        self._ended.set()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            for process in self._processes:
                for child in _children(process.pid):
                    self.peak = max(self.peak, sum(map(_memory, [child, *_below(child)])))


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _below(pid: int) -> list[int]:
    found = _children(pid)
    return found + [each for child in found for each in _below(child)]


def _memory(pid: int) -> int:
    """Proportional share of memory: what a forked worker shares with its parent counts once."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
