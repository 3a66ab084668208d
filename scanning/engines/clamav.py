"""ClamAV as an engine for viruses and trojans: asks a running clamd about one content after the other.

What is spoken is in the manual page clamd(8): commands that begin with `z` and end in NUL, a session with
numbered answers (IDSESSION), contents in chunks (INSTREAM) or as an open file (FILDES).
"""

import contextlib
import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanning.engines.clamav_answers import (
    UnexpectedAnswer,
    Version,
    in_session,
    not_seen,
    read_verdict,
    read_version,
)
from scanning.engines.clamav_connection import (
    CHUNK_BYTES,
    POLL_SECONDS,
    Address,
    ClamdUnreachable,
    Connection,
    UnixAddress,
)
from scanning.engines.malware import ContentVerdict
from scanning.engines.protocol import EngineCancelled, EngineError, EngineTimeout

Content = bytes | bytearray | memoryview


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for a connection, for a short question, and for one content with its answer.

    `pauses` are the seconds before each further try when clamd is gone or hangs up. The first is none: clamd
    hangs up on a session that was idle for a while. A clamd that restarts needs longer to load signatures.
    """

    connect_seconds: float = 5
    question_seconds: float = 15
    content_seconds: float = 150
    pauses: tuple[float, ...] = (0, 2, 8)


@dataclass(frozen=True, slots=True)
class Clamd:
    """Where a clamd listens, and how it is asked.

    `descriptors` says whether contents go as open files over a unix socket, which spares clamd a copy; turn
    it off where a security module forbids clamd to take them.
    """

    address: Address
    limits: Limits = Limits()
    descriptors: bool = True

    @property
    def takes_descriptors(self) -> bool:
        """Whether contents are handed over as open files."""
        return self.descriptors and isinstance(self.address, UnixAddress)

    def ping(self) -> None:
        """Raises EngineError unless a clamd answers."""
        answer = self.question("PING")
        if answer != "PONG":
            raise UnexpectedAnswer(answer)

    def version(self) -> Version:
        """The engine's version and that of its signatures. Raises EngineError."""
        return read_version(self.question("VERSION"))

    def question(self, command: str) -> str:
        """What clamd answers to a command, on a connection of its own. Raises EngineError."""
        with self.connect(_always) as connection:
            connection.begin()
            connection.send(f"z{command}\0".encode())
            return connection.answer()

    def connect(self, alive: Callable[[], bool], *, seconds: float | None = None) -> Connection:
        """A fresh connection whose exchanges last so many seconds, or as long as a short question."""
        return Connection(
            self.address,
            connect_seconds=self.limits.connect_seconds,
            seconds=self.limits.question_seconds if seconds is None else seconds,
            alive=alive,
        )

    @contextlib.contextmanager
    def session(self, alive: Callable[[], bool] = _always) -> Iterator["Session"]:
        """Many contents over one connection; `alive` is asked about four times a second while it waits."""
        session = Session(self, alive)
        try:
            yield session
        finally:
            session.close()


class Session:
    """A connection that is kept between contents and made anew when clamd was gone. For one thread."""

    def __init__(self, clamd: Clamd, alive: Callable[[], bool]) -> None:
        """Begin without a connection: the first content makes it."""
        self._clamd = clamd
        self._alive = alive
        self._connection: Connection | None = None
        self._number = 0

    def close(self) -> None:
        """Hang up; the next content would connect anew."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def judge(self, content: Content, *, size: int | None = None) -> ContentVerdict:
        """What clamd says of a content, of which a part may be given only; `size` is then all of it.

        Raises ClamdUnreachable after the last try, EngineTimeout, EngineCancelled and EngineCrash.
        """
        with memoryview(content) as view:
            if self._clamd.takes_descriptors:
                with _in_memory(view) as descriptor:
                    verdict = self._judged(lambda opened: _hand_over(opened, descriptor))
            else:
                verdict = self._judged(lambda opened: _stream(opened, _pieces(view)))
            if size is not None and size > len(view):
                part = not_seen(f"only its first {len(view)} bytes of {size} were given to it")
                verdict = dataclasses.replace(verdict, unscanned=verdict.unscanned or part.unscanned)
            return verdict

    def judge_file(self, path: Path) -> ContentVerdict:
        """What clamd says of a file, which is never in memory as a whole. Raises OSError, and as `judge`."""
        with path.open("rb") as file:
            if self._clamd.takes_descriptors:
                return self._judged(lambda opened: _hand_over(opened, file.fileno()))
            return self._judged(lambda opened: _stream(opened, _pieces_of(file.fileno())))

    def _judged(self, exchange: Callable[[Connection], str]) -> ContentVerdict:
        try:
            return read_verdict(self._retried(exchange))
        except EngineTimeout:
            self.close()
            # Either this content takes too long, or clamd is stopped: then nothing else would come either.
            with contextlib.suppress(EngineError):
                self._clamd.ping()
                return not_seen(
                    f"clamd was not done with it after {self._clamd.limits.content_seconds:g} seconds"
                )
            raise
        except EngineError:
            # What comes next on this connection might belong to this content.
            self.close()
            raise

    def _retried(self, exchange: Callable[[Connection], str]) -> str:
        for pause in self._clamd.limits.pauses:
            try:
                return self._exchanged(exchange)
            except ClamdUnreachable:
                self.close()
                self._pause(pause)
        return self._exchanged(exchange)

    def _exchanged(self, exchange: Callable[[Connection], str]) -> str:
        connection = self._connection
        if connection is None:
            connection = self._clamd.connect(self._alive, seconds=self._clamd.limits.content_seconds)
            self._connection = connection
            self._number = 0
            connection.begin()
            connection.send(b"zIDSESSION\0")
        else:
            connection.begin()
        self._number += 1
        return in_session(exchange(connection), self._number)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self._alive():
                raise EngineCancelled("The scan was cancelled.", "Scan again when the result is wanted.")
            time.sleep(min(POLL_SECONDS, left))


def _hand_over(connection: Connection, descriptor: int) -> str:
    if connection.send(b"zFILDES\0"):
        connection.send_descriptor(descriptor)
    return connection.answer()


def _stream(connection: Connection, pieces: Iterator[bytes | memoryview]) -> str:
    going = connection.send(b"zINSTREAM\0")
    for piece in pieces:
        if not going:
            break
        going = connection.send(struct.pack("!L", len(piece)), piece)
    if going:
        connection.send(struct.pack("!L", 0))
    return connection.answer()


def _pieces(view: memoryview) -> Iterator[bytes | memoryview]:
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def _pieces_of(descriptor: int) -> Iterator[bytes | memoryview]:
    """The pieces of a file from its beginning, wherever it was read last."""
    start = 0
    while piece := os.pread(descriptor, CHUNK_BYTES, start):
        start += len(piece)
        yield piece


@contextlib.contextmanager
def _in_memory(view: memoryview) -> Iterator[int]:
    """An open file that is nowhere on a disk and holds the content."""
    descriptor = os.memfd_create("content", os.MFD_CLOEXEC)
    try:
        left = view
        while left:
            left = left[os.write(descriptor, left) :]
        yield descriptor
    finally:
        os.close(descriptor)
