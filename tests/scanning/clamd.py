"""A real clamd with a database of two signatures, and a strict fake of one that says what a test tells it."""

import hashlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scanning.engines.clamav import Clamd, Limits
from scanning.engines.clamav_configuration import configuration
from scanning.engines.clamav_connection import TcpAddress, UnixAddress
from tests.scanning.samples import EICAR

MARK = b"a mark that only our own signature knows"
SIGNATURES = {
    "test.hdb": f"{hashlib.md5(EICAR).hexdigest()}:{len(EICAR)}:Eicar-Test-Signature\n",  # noqa: S324
    "test.ndb": f"Unix.Trojan.Marked-1:0:*:{MARK.hex()}\n",
}
# Tests do not wait for a clamd that will not come back.
QUICK = Limits(connect_seconds=5, question_seconds=10, content_seconds=20, pauses=(0, 0, 0))


def program() -> str:
    """Where clamd is; Debian's package clamav-daemon puts it where only root looks."""
    found = shutil.which("clamd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("clamd is not installed; on Debian: apt-get install clamav-daemon")
    return found


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Running:
    """A clamd of this test alone: on a socket and a port of its own, with a folder of its own."""

    folder: Path
    port: int
    changes: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "clamd.socket"

    def over(self, way: str, limits: Limits = QUICK) -> Clamd:
        """This clamd as the console reaches it: by "descriptors", "streams" or "tcp"."""
        if way == "tcp":
            return Clamd(TcpAddress("127.0.0.1", self.port), limits)
        return Clamd(UnixAddress(self.socket), limits, descriptors=way == "descriptors")

    def start(self) -> None:
        """Start it and wait until it says that it listens, which is after its signatures are loaded."""
        for tries_left in (2, 1, 0):
            if self._started():
                return
            # Somebody else may have taken the port between our looking and its listening.
            self.port = free_port()
            assert tries_left, "clamd does not start"

    def _started(self) -> bool:
        lines = configuration(
            self.socket, database=self.folder / "signatures", temporary=self.folder / "tmp", threads=4
        ).splitlines()
        kept = [line for line in lines if line.split()[0] not in self.changes]
        changed = [f"{option} {value}" for option, value in self.changes.items() if value]
        file = self.folder / "clamd.conf"
        file.write_text("\n".join([*kept, *changed, f"TCPSocket {self.port}", "TCPAddr 127.0.0.1", ""]))
        self.process = subprocess.Popen(
            [program(), "-c", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        heard = bytearray()
        while b"Self checking every" not in heard:
            said = os.read(self.process.stdout.fileno(), 65_536)
            if not said:
                self.stop()
                return False
            heard += said
        # What it says later must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return True

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def real_clamd(**changes: str) -> Iterator[Running]:
    """A running clamd with our own configuration but for these options; an empty one is left out."""
    # The path of a socket may have 107 bytes; pytest's own folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="tcss clamd-"))
    (folder / "tmp").mkdir()
    (folder / "signatures").mkdir()
    for name, text in SIGNATURES.items():
        (folder / "signatures" / name).write_text(text)
    running = Running(folder, free_port(), changes)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Peer:
    """The fake's side of one connection: takes exactly what it expects, and fails the test otherwise."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def expect(self, wanted: bytes) -> None:
        heard = self.read(len(wanted))
        assert heard == wanted, f"{heard!r} instead of {wanted!r}"

    def read(self, length: int) -> bytes:
        heard = bytearray()
        while len(heard) < length:
            part = self.connection.recv(length - len(heard))
            assert part, f"hung up after {bytes(heard)!r}"
            heard += part
        return bytes(heard)

    def stream(self) -> bytes:
        """A whole content that came in chunks."""
        self.expect(b"zINSTREAM\0")
        content = bytearray()
        while length := struct.unpack("!L", self.read(4))[0]:
            content += self.read(length)
        return bytes(content)

    def say(self, *answers: str) -> None:
        self.connection.sendall(b"".join(answer.encode() + b"\0" for answer in answers))


Conversation = Callable[[Peer], None]


@contextmanager
def fake_clamd(*conversations: Conversation) -> Iterator[Clamd]:
    """Listens for as many connections as there are conversations, and holds one after the other."""
    folder = Path(tempfile.mkdtemp(prefix="tcss-clamd-"))
    failures: list[BaseException] = []
    held: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def serve() -> None:
            for number, conversation in enumerate(conversations):
                readable, _, _ = select.select([listener], [], [], 20)
                if not readable:
                    return
                connection, _ = listener.accept()
                held.append(number)
                with connection:
                    connection.settimeout(20)
                    try:
                        conversation(Peer(connection))
                    except (AssertionError, OSError) as failure:
                        failures.append(failure)
                        return

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield Clamd(UnixAddress(folder / "socket"), QUICK, descriptors=False)
        finally:
            server.join(30)
            shutil.rmtree(folder, ignore_errors=True)
        assert failures == []
        assert len(held) == len(conversations), "fewer connections came than were expected"
