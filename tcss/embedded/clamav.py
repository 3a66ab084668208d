"""clamd as a child: the virus engine, where its program, its signatures and memory for them are there."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

from tcss.embedded import host
from tcss.embedded.children import Child, Launch, Pause, run_to_end
from tcss.embedded.installation import Installation
from tcss.embedded.problems import StartError

NAME = "clamd"
START_SECONDS = 180.0
# In memory, signatures are about five times what their compressed files are.
_MEMORY_RATIO = 6
_BASE_MEGABYTES = 100
_PING_SECONDS = 5.0


class Clamd:
    """The virus engine of one installation."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._root = installation.directory.path / "clamav"
        self.socket = installation.directory.run / "clamd.sock"

    def demand(self) -> Path:
        """Its program; raises StartError with what is missing to run it here."""
        program = shutil.which(
            "clamd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
        )
        if program is None:
            raise StartError("ClamAV is not installed; on Debian: apt-get install clamav-daemon clamav.")
        needed = _BASE_MEGABYTES + _MEMORY_RATIO * self._signature_megabytes()
        if needed == _BASE_MEGABYTES:
            raise StartError(
                "ClamAV has no signatures; fetch them with manage.py malware_db and start again."
            )
        available = host.available_megabytes()
        if available < needed:
            raise StartError(
                f"ClamAV needs about {needed} MB of memory for its signatures, and {available} MB are free."
            )
        return Path(program)

    def start(self, program: Path, pause: Pause) -> Child:
        """Writes its configuration and starts it; it listens when its signatures are loaded."""
        installation = self._installation
        run_to_end(installation.manage("malware_db", "configure", str(self.socket)), pause, seconds=120)
        return Child(
            Launch(
                name=NAME,
                command=[str(program), f"--config-file={self._root / 'clamd.conf'}"],
                # A program of others that reads hostile files: it gets nothing of ours.
                environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                log=installation.directory.logs / f"{NAME}.log",
                directory=self._root,
            )
        )

    def ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PING_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(b"zPING\0")
            return connection.recv(16) == b"PONG\0"
        return False

    def _signature_megabytes(self) -> int:
        """Size of the signatures in use, rounded up; 0 when there are none but the console's own."""
        current = self._root / "current"
        if not current.is_dir():
            return 0
        sizes = [file.stat().st_size for file in current.iterdir() if not file.name.startswith("tcss-")]
        return -(-sum(sizes) // 2**20)
