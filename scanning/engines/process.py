"""Runs one engine process under a watchdog: bounded in time, memory and output, and never left behind."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanning.engines.protocol import EngineBomb, EngineCancelled, EngineCrash, EngineTimeout

POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
TAIL_BYTES = 32_768
_PR_SET_PDEATHSIG = 1
# Looked up before any fork: a child between fork and exec should do as little as it can.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: wall-clock seconds, bytes of memory, of answer on standard output, and of files.

    The files are those in the folder of the answer, which is the run's own.
    """

    seconds: float
    memory_bytes: int
    output_bytes: int
    scratch_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (negative for a signal) and the end of its standard error."""

    exit_code: int
    complaint: str


def run(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    output: Path,
    limits: Limits,
    keep_going: Callable[[], bool],
) -> Ended:
    """Run a command to its end, with standard output in the file `output` and nothing inherited.

    `keep_going` is asked about twice a second. The process leads a group of its own; the kernel kills it
    when the thread that called this ends. Raises EngineTimeout, EngineCancelled, EngineBomb when it writes
    more files than it may, or EngineCrash when it cannot be started or says more than it may.
    """
    _ask(keep_going)
    errors = output.with_name(output.name + ".err")
    parent = os.getpid()

    def before_exec() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Address space would be the wrong measure: Go reserves far more than it uses, and maps its database.
        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    with output.open("wb") as out, errors.open("wb") as err:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
                preexec_fn=before_exec,  # noqa: PLW1509 - three system calls, resolved beforehand
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineCrash(
                f"The scan engine could not be started: {error}.",
                "Check that the engine's program is there, may be executed and fits this machine.",
            ) from error
    try:
        _watch(process, output, limits, keep_going)
    finally:
        _end(process)
    return Ended(process.returncode, _tail(errors))


def _watch(
    process: subprocess.Popen[bytes], output: Path, limits: Limits, keep_going: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + limits.seconds
    measured_at = 0.0
    while True:
        left = deadline - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, min(POLL_SECONDS, left)))
        ended = process.returncode is not None
        if output.stat().st_size > limits.output_bytes:
            raise EngineCrash(
                f"The scan engine's answer is longer than {limits.output_bytes // 2**20} MiB.",
                "Raise the limit for the engine's answer if an image of this size is expected.",
            )
        if ended:
            return
        began = time.monotonic()
        if began >= measured_at:
            if _size(output.parent) > limits.scratch_bytes:
                raise EngineBomb(
                    f"To look into the image takes more than {limits.scratch_bytes // 2**20} MiB of files: "
                    "it was not looked at further.",
                    "Look at what the image holds: it may have been made to exhaust whoever opens it.",
                )
            # A folder of very many files is not looked through all the time.
            measured_at = time.monotonic() + 10 * (time.monotonic() - began)
        if time.monotonic() >= deadline:
            raise EngineTimeout(
                f"The scan engine was not done after {limits.seconds:.0f} seconds and was ended.",
                "Scan again when the machine is less busy, or raise the scan's time limit.",
            )
        _ask(keep_going)


def _size(directory: Path) -> int:
    """Bytes on the disk of everything in a folder, which may change meanwhile."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - very many
    return size


def _ask(keep_going: Callable[[], bool]) -> None:
    if not keep_going():
        raise EngineCancelled("The scan was cancelled.", "Scan again when the result is wanted.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the process group is left: asked first, killed when it does not listen."""
    if process.returncode is None:
        # Trivy lets the first SIGTERM pass while it waits for something; SIGKILL follows after the grace.
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    if process.returncode is None:
        _signal(process.pid, signal.SIGKILL)
        process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read(TAIL_BYTES).decode(errors="replace")
