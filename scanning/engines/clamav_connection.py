"""One connection to clamd: sends commands, contents and file descriptors, and waits for answers.

Nothing here waits without an end: every wait has a deadline and asks about four times a second whether the
work is still wanted.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from scanning.engines.clamav_answers import MAX_ANSWER_BYTES, UnexpectedAnswer, text_of
from scanning.engines.protocol import EngineCancelled, EngineCrash, EngineTimeout

POLL_SECONDS = 0.25
CHUNK_BYTES = 2**20
# What clamd says into a connection that nobody used for a while, before it hangs up.
_IDLE = frozenset({"COMMAND READ TIMED OUT", "read timeout ERROR"})


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """Where clamd listens on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where clamd listens in the network. The contents travel there as they are, unencrypted."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


class ClamdUnreachable(EngineCrash):
    """clamd does not listen, or hung up before it answered; asking again may help."""


class Connection:
    """A connected socket; `seconds` is the time for one whole exchange and starts anew with `begin()`."""

    def __init__(
        self, address: Address, *, connect_seconds: float, seconds: float, alive: Callable[[], bool]
    ) -> None:
        """Connect. Raises ClamdUnreachable, EngineCrash, EngineTimeout and EngineCancelled."""
        self.address = address
        self.seconds = seconds
        self.alive = alive
        self._received = bytearray()
        self._deadline = time.monotonic() + connect_seconds
        self._ask()
        self._socket = self._connected()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def begin(self) -> None:
        """Start the time of the next exchange. Raises ClamdUnreachable when clamd hung up meanwhile."""
        self._ask()
        self._deadline = time.monotonic() + self.seconds
        if self._received or self._ready(select.POLLIN, 0):
            raise self._lost()

    def send(self, *parts: bytes | memoryview) -> bool:
        """Send all of the parts; False when clamd answered or hung up before it had taken them all."""
        for part in parts:
            view = memoryview(part)
            while view:
                try:
                    view = view[self._socket.send(view) :]
                except BlockingIOError:
                    if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                        return False
                except OSError:
                    # A refusal that was sent before clamd hung up can still be read.
                    return False
        return True

    def send_descriptor(self, descriptor: int) -> None:
        """Hand an open file over; clamd reads it from its beginning. For UnixAddress only."""
        while True:
            try:
                # The descriptor travels beside one byte, whichever.
                socket.send_fds(self._socket, [b"\0"], [descriptor])
                return
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError:
                return

    def end_sending(self) -> None:
        """Say that nothing more will come."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def answer(self) -> str:
        """The next answer, without its end mark.

        Raises ClamdUnreachable when clamd hangs up first, UnexpectedAnswer when it does not come to an end,
        EngineTimeout and EngineCancelled.
        """
        while (end := self._received.find(b"\0")) < 0:
            if len(self._received) > MAX_ANSWER_BYTES:
                raise UnexpectedAnswer(text_of(bytes(self._received[:500])))
            try:
                received = self._socket.recv(MAX_ANSWER_BYTES)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            except OSError as error:
                raise self._lost() from error
            if not received:
                raise self._lost()
            self._received += received
        answer = text_of(bytes(self._received[:end]))
        del self._received[: end + 1]
        if answer in _IDLE:
            raise self._lost()
        return answer

    def _connected(self) -> socket.socket:
        try:
            if isinstance(self.address, TcpAddress):
                opened = socket.create_connection(
                    (self.address.host, self.address.port), self._deadline - time.monotonic()
                )
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                with _closed_on_error(opened):
                    # A full queue of a unix socket blocks whoever connects.
                    opened.settimeout(max(0.1, self._deadline - time.monotonic()))
                    opened.connect(str(self.address.path))
        except PermissionError as error:
            raise EngineCrash(
                f"The virus engine clamd at {self.address} may not be reached by this user.",
                "Let the console's user into the group that clamd's socket belongs to.",
            ) from error
        except TimeoutError as error:
            raise ClamdUnreachable(
                f"The virus engine clamd at {self.address} takes no connection: it has too much to do.",
                "Raise MaxThreads and MaxQueue of clamd, or let fewer images be scanned at once.",
            ) from error
        except OSError as error:
            raise ClamdUnreachable(
                f"The virus engine clamd cannot be reached at {self.address}.",
                "Start clamd, or correct its address; vulnerabilities are scanned without it.",
                detail=str(error),
            ) from error
        opened.setblocking(False)  # noqa: FBT003 - the library's own signature
        return opened

    def _wait(self, events: int) -> int:
        while True:
            self._ask()
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise self._late()
            if ready := self._ready(events, min(POLL_SECONDS, left)):
                return ready

    def _ready(self, events: int, seconds: float) -> int:
        poll = select.poll()
        poll.register(self._socket, events)
        found = poll.poll(seconds * 1000)
        # An end or an error of the connection is told by the next call that reads or writes.
        return (found[0][1] & events or events) if found else 0

    def _ask(self) -> None:
        if not self.alive():
            raise EngineCancelled("The scan was cancelled.", "Scan again when the result is wanted.")

    def _late(self) -> EngineTimeout:
        return EngineTimeout(
            f"The virus engine clamd at {self.address} does not answer in time.",
            "See whether clamd is loading its signatures, stopped or has too much to do, then scan again.",
        )

    def _lost(self) -> ClamdUnreachable:
        return ClamdUnreachable(
            f"The virus engine clamd at {self.address} hung up without an answer.",
            "See clamd's own log for why it ended, and start it again.",
        )


@contextlib.contextmanager
def _closed_on_error(opened: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise
