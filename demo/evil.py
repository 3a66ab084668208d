"""An evil registry: the demo registry with a scenario laid over it, `python -m demo.evil --scenario C-R7`.

A scenario spoils some answers of an otherwise good registry, on the wire where HTTP itself is to be broken.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from demo.exchange import Answer
from demo.faults import Fault, Faults
from demo.listener import announce
from demo.server import DemoServer, Face, running
from demo.wire import Handler


class Ending(enum.Enum):
    """What a server does when it has said what it wanted, other than closing the connection."""

    RESET = enum.auto()
    SILENCE = enum.auto()


Step = bytes | float | Ending
"""Bytes to send, seconds to let pass, or an ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell(Fault):
    """A fault that takes the socket: what `flow` gives is done and nothing else, and the connection ends."""

    flow: Callable[[], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the evil registry is, and another address it may send its callers to."""

    url: str
    elsewhere: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to be evil. `row` is the row of the catalogue of bad inputs it belongs to."""

    row: str
    name: str
    does: str
    faults: Callable[[Place], Sequence[Fault]]

    @property
    def title(self) -> str:
        """Row and name in one word."""
        return f"{self.row}-{self.name}"


class Evil:
    """A demo registry under a spell; `server` is the registry itself."""

    def __init__(self, server: DemoServer) -> None:
        self.server = server
        self._spells = Faults()
        server.RequestHandlerClass = _handler(self._spells)

    def lay(self, scenario: Scenario, *, elsewhere: str = "http://169.254.169.254") -> None:
        """Let a scenario begin."""
        for fault in scenario.faults(Place(self.server.url, elsewhere)):
            (self._spells if isinstance(fault, Spell) else self.server.faults).add(fault)

    def lift(self) -> None:
        """Be a good registry again."""
        self._spells.clear()
        self.server.faults.clear()


def _handler(spells: Faults) -> type[Handler]:
    class EvilHandler(Handler):
        """A connection whose answers may be spells."""

        def _serve(self) -> None:
            spell = spells.take(self.command, self.path)
            if not isinstance(spell, Spell):
                super()._serve()
                return
            headers = {name.lower(): text for name, text in self.headers.items()}
            self.server.saw(self.command, self.path, Answer(0), headers)
            self.close_connection = True
            # A client that has had enough, or the server's end, closes the connection under the flow.
            with contextlib.suppress(OSError):
                self._flow(spell.flow())

        def _flow(self, steps: Iterable[Step]) -> None:
            for step in steps:
                if isinstance(step, bytes):
                    self.connection.sendall(step)
                elif step is Ending.RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    return
                elif step is Ending.SILENCE:
                    self.connection.settimeout(None)
                    self.connection.recv(1)
                elif isinstance(step, float):
                    self.server.pause(step)

    return EvilHandler


@contextlib.contextmanager
def enchanted(server: DemoServer) -> Iterator[Evil]:
    """A running demo server as an evil registry; good again at the end."""
    evil = Evil(server)
    try:
        yield evil
    finally:
        evil.lift()


def main(arguments: list[str] | None = None) -> int:
    """Serve the sample images, evilly, until SIGINT or SIGTERM."""
    from demo.evil_scenarios import SCENARIOS, named  # noqa: PLC0415 - the scenarios are made of this module

    parser = argparse.ArgumentParser(prog="python -m demo.evil", description=__doc__)
    parser.add_argument("--scenario", action="append", default=[], help="a row such as C-R7, or a whole name")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--elsewhere", default="http://169.254.169.254", help="where redirects lead")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--data", type=Path, help="directory of the blob store")
    parser.add_argument("--announce", type=Path, help="file that gets the server's address")
    parser.add_argument("--face", choices=get_args(Face), default="harbor2", help="which Harbor to be")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        sys.stdout.write("".join(f"{each.title:32} {each.does}\n" for each in SCENARIOS))
        return 0
    scenarios = [scenario for name in chosen.scenario for scenario in named(name)]
    if not (scenarios and chosen.data):
        parser.error("--data and a --scenario of --list are needed")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with running(chosen.data, port=chosen.port, face=chosen.face) as server, enchanted(server) as evil:
        for scenario in scenarios:
            evil.lay(scenario, elsewhere=chosen.elsewhere)
        announce(server.url, chosen.announce)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
