"""Child processes of the supervisor: they die with it, log to capped files, and are stopped with patience."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tcss.embedded.host import Account, children_of
from tcss.embedded.parent import die_with_parent
from tcss.embedded.problems import StartError

# The supervisor waits by watching for signals, the tests by sleeping: whoever waits is told how.
Pause = Callable[[float], None]

LOG_BYTES = 5 * 2**20
_POLL_SECONDS = 0.05
_LAST_SECONDS = 5.0
# Signals the supervisor keeps for itself; a child must hear them again.
OWN_SIGNALS = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How one child is started, and how it is asked to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    directory: Path
    account: Account | None = None
    # What the kernel sends when the supervisor dies without a word.
    death_signal: signal.Signals = signal.SIGKILL
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_seconds: float = 10.0
    # What ends it at once; a database has a way that spares it from cleaning up after itself.
    last_signal: signal.Signals = signal.SIGKILL
    inherited: tuple[int, ...] = field(default=())
    # What it prints is for the person who started the console; its complaints still go to the log.
    to_terminal: bool = False


_started: "dict[int, Child]" = {}


class Child:
    """One started process and the process group it leads."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.started = time.monotonic()
        supervisor = os.getpid()

        def before_exec() -> None:
            # Popen has changed the user by now; a wish made before that would be forgotten.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, OWN_SIGNALS)
            die_with_parent(launch.death_signal, supervisor)

        account = launch.account
        environment = dict(launch.environment) | ({"HOME": account.home} if account else {})
        with launch.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(launch.command),
                stdin=subprocess.DEVNULL,
                stdout=None if launch.to_terminal else log,
                stderr=log,
                cwd=launch.directory,
                env=environment,
                pass_fds=launch.inherited,
                process_group=0,
                preexec_fn=before_exec,  # noqa: PLW1509 - this process has one thread
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self.pid = self._process.pid
        _started[self.pid] = self

    def exit_code(self) -> int | None:
        """The exit code once it has ended (negative: the signal that ended it), else None.

        What is left of its process group ends with it.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        # Look without collecting: while the dead leader is not collected its number cannot mean anybody else.
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._signal_group(signal.SIGKILL)
        _started.pop(self.pid, None)
        return self._process.wait()

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.exit_code() is None

    def send(self, signal_number: signal.Signals) -> None:
        """Sends a signal to the process alone; its own children are its business."""
        if self.alive():
            self._process.send_signal(signal_number)

    def kill(self) -> None:
        """Ends it and its process group at once."""
        if self.alive() and self.launch.last_signal != signal.SIGKILL:
            self.send(self.launch.last_signal)
            self.wait(_LAST_SECONDS, time.sleep)
        if self.alive():
            self._signal_group(signal.SIGKILL)
            _started.pop(self.pid, None)
            self._process.wait()

    def _signal_group(self, signal_number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, signal_number)
        except ProcessLookupError:
            return

    def wait(self, seconds: float, pause: Pause) -> bool:
        """Waits for its end; False when it still runs after that many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            pause(_POLL_SECONDS)
        return True

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        return tail(self.launch.log, lines)


def stop(children: Sequence[Child], pause: Pause) -> None:
    """Asks each child to end with its signals in turn, all at the same time, and kills what does not."""
    rounds = max((len(child.launch.stop_signals) for child in children), default=0)
    for index in range(rounds):
        asked = [child for child in children if child.alive() and index < len(child.launch.stop_signals)]
        for child in asked:
            child.send(child.launch.stop_signals[index])
        deadline = time.monotonic() + max((child.launch.stop_seconds for child in asked), default=0)
        while any(child.alive() for child in asked) and time.monotonic() < deadline:
            pause(_POLL_SECONDS)
    for child in children:
        child.kill()


def run_to_end(launch: Launch, pause: Pause, *, seconds: float) -> None:
    """Runs a child that ends by itself; raises StartError, with the end of its log, when it fails."""
    child = Child(launch)
    try:
        if not child.wait(seconds, pause):
            raise StartError(f"{launch.name} did not end within {seconds:.0f} seconds; see {launch.log}.")
    finally:
        child.kill()
    if child.exit_code() != 0:
        raise StartError(
            f"{launch.name} failed with exit code {child.exit_code()}. "
            f"Its log {launch.log} ends with:\n{child.last_words()}"
        )


def wait_until(ready: Callable[[], bool], child: Child, pause: Pause, *, seconds: float) -> None:
    """Waits until a started child answers; raises StartError when it ends before or takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not child.alive():
            raise StartError(
                f"{child.launch.name} ended while starting. "
                f"Its log {child.launch.log} ends with:\n{child.last_words()}"
            )
        if time.monotonic() > deadline:
            raise StartError(
                f"{child.launch.name} was not ready within {seconds:.0f} seconds; see {child.launch.log}."
            )
        pause(_POLL_SECONDS)


def collect() -> None:
    """Collects whatever has ended: started children, and orphans of theirs that were adopted."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        child = _started.get(ended.si_pid)
        if child is None:
            os.waitpid(ended.si_pid, 0)
        else:
            child.exit_code()


def end_orphans() -> None:
    """Kills adopted processes: each is what a dead child left behind, and nobody waits for its work."""
    for pid in children_of(os.getpid()):
        if pid not in _started:
            os.kill(pid, signal.SIGKILL)


def tail(log: Path, lines: int) -> str:
    """The last lines of a log file, indented; read from its end, whatever its size."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        ending = stream.read().decode(errors="replace").strip().splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in ending)


def cap_log(log: Path) -> None:
    """Moves the content of a log above the cap to `<name>.log.1`; what was there before is dropped.

    The process keeps appending to the same open file, so the file is copied and emptied, not renamed.
    """
    if log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)
