"""Threads that read from a registry for one thread that writes: bounded in number and in what waits.

A lane is some threads for one kind of question. What they read is weighed, and a lane that has given out as
much as its room holds waits until the writer hands room back. So memory stays flat, however much there is.
"""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from repositories.registries.failures import RegistryError

Item = TypeVar("Item")

# A waiting thread looks as often as this whether it is still wanted.
_SLICE_SECONDS = 0.5


class StoppedError(Exception):
    """Nobody wants the answer any more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of what one reading gave; ``is_last`` where it ended, by itself or with an error."""

    key: object
    items: list[object]
    weight: int
    is_last: bool = False
    error: RegistryError | None = None
    crash: BaseException | None = None


class Reader:
    """All lanes of one writer, and what they have read, in the order it came."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self._lanes: list[Lane] = []

    def alive(self) -> None:
        """Raise StoppedError once nobody listens; called in the threads."""
        if self._stopped.is_set():
            raise StoppedError

    def lane(self, threads: int, *, room: int, piece: int) -> "Lane":
        """Threads for one kind of question, whose pieces weigh about ``piece``, and ``room`` together."""
        lane = Lane(self, self._pieces, threads, room=room, piece=piece)
        self._lanes.append(lane)
        return lane

    def next(self, seconds: float) -> Piece | None:
        """What was read next, or None when nothing came in that time; raises what was no registry's error."""
        try:
            piece = self._pieces.get(timeout=seconds)
        except queue.Empty:
            return None
        if piece.crash is not None:
            raise piece.crash
        return piece

    def stop(self) -> None:
        """Stop all threads and wait for their end, which their requests do not delay."""
        self._stopped.set()
        for lane in self._lanes:
            lane.close()


class Lane:
    """Some threads, and the room for what they have read."""

    def __init__(
        self, reader: Reader, pieces: "queue.SimpleQueue[Piece]", threads: int, *, room: int, piece: int
    ) -> None:
        self._reader = reader
        self._pieces = pieces
        self._room = room
        self._piece = piece
        self._used = 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="registry")

    def start(self, key: object, items: Iterable[Item], weigh: Callable[[Item], int]) -> None:
        """Let a thread walk through ``items``; its pieces carry ``key``."""
        self._pool.submit(self._walk, key, items, weigh)

    def give_back(self, weight: int) -> None:
        """What weighed so much is not needed any more."""
        with self._changed:
            self._used -= weight
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for the threads' end."""
        with self._changed:
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _walk(self, key: object, items: Iterable[Item], weigh: Callable[[Item], int]) -> None:
        error: RegistryError | None = None
        some: list[object] = []
        weight = 0
        try:
            try:
                for item in items:
                    some.append(item)
                    weight += weigh(item)
                    if weight >= self._piece:
                        self._put(Piece(key, some, weight))
                        some, weight = [], 0
            except RegistryError as caught:
                # What came before it is good.
                error = caught
            self._put(Piece(key, some, weight, is_last=True, error=error))
        except StoppedError:
            return
        except BaseException as crash:  # noqa: BLE001 - it is raised again by the writer
            self._pieces.put(Piece(key, [], 0, crash=crash))

    def _put(self, piece: Piece) -> None:
        with self._changed:
            # One piece may pass however heavy it is, or nothing ever would.
            while self._used and self._used + piece.weight > self._room:
                self._reader.alive()
                self._changed.wait(_SLICE_SECONDS)
            self._used += piece.weight
        self._pieces.put(piece)
