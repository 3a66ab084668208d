"""What the machine says about processes, ports, room on disk and users (Linux /proc)."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True)
class RunningProcess:
    """One process of this machine, as /proc shows it."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command[:80]})" if self.command else f"process {self.pid}"


@dataclass(frozen=True)
class Account:
    """A user of this machine a process can run as."""

    name: str
    uid: int
    gid: int
    home: str


def _describe(pid: int) -> RunningProcess:
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        raw = b""
    return RunningProcess(pid, raw.replace(b"\0", b" ").decode(errors="replace").strip())


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def processes_working_in(directory: Path, program: str) -> list[RunningProcess]:
    """The processes of that program whose working directory is the given one: a server's own data directory.

    This, unlike a number in a pid file, cannot be confused with a stranger that got the number later.
    """
    wanted = os.path.realpath(directory)
    found = []
    for pid in _pids():
        entry = _PROC / str(pid)
        try:
            if str((entry / "cwd").readlink()) == wanted and program in (entry / "comm").read_text():
                found.append(_describe(pid))
        except OSError:
            continue
    return found


def send(process: RunningProcess, signal_number: signal.Signals) -> None:
    """Signals a process found in /proc; one that has ended meanwhile or is somebody else's is left alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, signal_number)


def children_of(pid: int) -> list[int]:
    """The direct children of a process; empty when it has ended."""
    found: list[int] = []
    for task in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def listener_on(port: int) -> RunningProcess | None:
    """The process that listens on a TCP port, where this user may see it."""
    inodes = set()
    for table in (_PROC / "net/tcp", _PROC / "net/tcp6"):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid in _pids():
        try:
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    return _describe(pid)
        except OSError:
            continue
    return None


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback address; port 0 takes a free one. Raises OSError if taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def free_megabytes(directory: Path) -> int:
    """Room left on the file system of a directory."""
    return shutil.disk_usage(directory).free // 2**20


def available_megabytes() -> int:
    """Memory that programs can still have, as the kernel estimates it."""
    for line in (_PROC / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def account_of(uid: int) -> Account:
    """The account of a user number, whether the system has a name for it or not."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid, "/")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def unprivileged_account() -> Account:
    """Who runs PostgreSQL when the supervisor is root: the system's postgres user, else nobody."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
    raise LookupError("there is neither a user postgres nor a user nobody on this machine")


def others_may_traverse(path: Path) -> bool:
    """Whether a user who is neither owner nor in the group can reach this path through all its parents."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
