"""The data directory of an installation: folders, generated secrets, a lock against a second supervisor."""

import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tcss.embedded import host
from tcss.embedded.host import Account
from tcss.embedded.problems import StartError

# A unix socket's address has room for 107 bytes; PostgreSQL adds a name of its own to the directory.
_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = "/postgres/.s.PGSQL.5432.lock"
_REFUSE_BELOW_MB = 300
_WARN_BELOW_MB = 2048


@dataclass(frozen=True)
class DataDirectory:
    """Where an installation keeps what it must not lose.

    `service_root` holds the PostgreSQL cluster; it is elsewhere where `account` (the user PostgreSQL
    runs as, when the supervisor is root) could not reach the data directory.
    """

    path: Path
    service_root: Path
    run: Path
    account: Account | None

    @property
    def secrets(self) -> Path:
        """Generated keys and passwords, one file each, 0600."""
        return self.path / "secrets"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.path / "logs"

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.service_root / "postgres"

    @property
    def postgres_sockets(self) -> Path:
        """Where PostgreSQL listens, its owner's alone."""
        return self.run / "postgres"

    @property
    def valkey(self) -> Path:
        """Valkey's append-only file."""
        return self.path / "valkey"

    @property
    def valkey_socket(self) -> Path:
        """Where Valkey listens."""
        return self.run / "valkey.sock"

    def secret(self, name: str, *, value: str = "") -> Path:
        """The file of a secret, written once: with the given value, or a random one of 256 bits.

        Random values are URL-safe base64 of 32 bytes, which is also the form of a Fernet key.
        """
        file = self.secrets / name
        if not file.exists():
            _write_private(file, value or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        return file

    def replace_secret(self, name: str, value: str) -> Path:
        """The file of a secret that follows from others (an address with a password in it)."""
        file = self.secrets / name
        _write_private(file, value)
        return file


def _write_private(file: Path, value: str) -> None:
    """Writes a file only its owner may read, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # mkstemp creates with 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(value)
        stream.flush()
        os.fsync(stream.fileno())
    Path(name).replace(file)


def open_data_directory(path: Path) -> DataDirectory:
    """Creates what is missing of a data directory and looks whether it can be used; raises StartError."""
    path = path.expanduser().absolute()
    account = _account(path / "postgres")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Root's PostgreSQL is another user: it may pass through, not look around.
        path.chmod(0o711 if account else 0o700)
        for folder in ("secrets", "logs", "valkey", "beat"):
            (path / folder).mkdir(exist_ok=True)
            (path / folder).chmod(0o700)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
    except OSError as error:
        raise StartError(
            f"The data directory {path} cannot be written ({error.strerror}); "
            "choose another with TCSS_DATA_DIR."
        ) from error
    _demand_room(path)
    service_root = path if account is None or host.others_may_traverse(path) else _outside(path)
    run = _run_directory(service_root)
    sockets = run / "postgres"
    sockets.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(sockets, account.uid, account.gid)
    return DataDirectory(path, service_root, run, account)


def _account(cluster: Path) -> Account | None:
    """Who runs PostgreSQL: nobody else for an ordinary user; for root the cluster's owner, or a new one's."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        owner = cluster.stat().st_uid
        if owner != 0:
            return host.account_of(owner)
    try:
        return host.unprivileged_account()
    except LookupError as error:
        raise StartError(
            f"PostgreSQL refuses to run as root, and {error}; start the console as an ordinary user."
        ) from error


def _outside(path: Path) -> Path:
    """A place another user can reach, named for the data directory it belongs to."""
    root = Path("/var/lib") / f"tcss-{_short_name(path)}"
    root.mkdir(mode=0o711, exist_ok=True)
    return root


def _short_name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _run_directory(root: Path) -> Path:
    """Where the sockets are: under the root, or in a short private directory where that path is too long."""
    run = root / "run"
    if len(os.fsencode(run)) + len(_LONGEST_SOCKET_NAME) > _SOCKET_PATH_BYTES:
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        run = base / f"tcss-{os.geteuid()}-{_short_name(root)}"
    run.mkdir(mode=0o711, exist_ok=True)
    if run.is_symlink() or run.stat().st_uid != os.geteuid():
        raise StartError(f"{run} belongs to somebody else; remove it, or choose a shorter TCSS_DATA_DIR.")
    run.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return run


def _demand_room(path: Path) -> None:
    free = host.free_megabytes(path)
    if free < _REFUSE_BELOW_MB:
        raise StartError(
            f"The disk of {path} has only {free} MB left and the console needs {_REFUSE_BELOW_MB} MB; "
            "make room, or choose another place with TCSS_DATA_DIR."
        )


def room_warning(path: Path) -> str:
    """A sentence about a disk that is nearly full, or nothing."""
    free = host.free_megabytes(path)
    if free >= _WARN_BELOW_MB:
        return ""
    return f"Note: the disk of {path} has only {free} MB left; scans need room for the layers of an image."


def lock(directory: DataDirectory) -> TextIO:
    """Takes the data directory for this process until the returned file is closed; raises StartError."""
    # Python's descriptors are not inherited, so no child keeps the lock when the supervisor is gone.
    holder = (directory.path / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder.seek(0)
        owner = holder.read().strip() or "unknown"
        holder.close()
        raise StartError(
            f"Another console (process {owner}) already uses {directory.path}; "
            "stop it, or choose another data directory with TCSS_DATA_DIR."
        ) from None
    holder.seek(0)
    holder.truncate()
    holder.write(f"{os.getpid()}\n")
    holder.flush()
    return holder
