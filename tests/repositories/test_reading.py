"""Threads that read for one that writes, and how many of them may ask a registry at once."""

import threading
import time
from collections.abc import Iterator

import pytest

from repositories.reading import Piece, Reader, StoppedError
from repositories.registries.failures import TryLaterError
from repositories.registries.pace import FIRST, LONGEST_PAUSE_SECONDS, MOST, Pace


def nothing() -> None:
    """Nobody wants to stop."""


def weight(_: object) -> int:
    return 1


def until_last(reader: Reader, readings: int = 1) -> list[Piece]:
    pieces: list[Piece] = []
    while sum(piece.is_last for piece in pieces) < readings:
        piece = reader.next(5.0)
        assert piece is not None
        pieces.append(piece)
    return pieces


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.stop()


def test_a_reading_comes_in_pieces_and_in_order(reader: Reader) -> None:
    lane = reader.lane(2, room=1000, piece=4)
    lane.start("a", iter(range(10)), weight)
    pieces = until_last(reader)
    assert [item for piece in pieces for item in piece.items] == list(range(10))
    assert [len(piece.items) for piece in pieces] == [4, 4, 2]
    assert [piece.is_last for piece in pieces] == [False, False, True]


def test_what_came_before_an_error_is_not_lost(reader: Reader) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise TryLaterError("REG_5XX", "away")

    reader.lane(1, room=10, piece=4).start("a", items(), weight)
    [piece] = until_last(reader)
    assert piece.items == [1]
    assert piece.error is not None
    assert piece.error.code == "REG_5XX"


def test_a_mistake_of_ours_is_raised_where_the_results_are_taken(reader: Reader) -> None:
    reader.lane(1, room=10, piece=4).start("a", (1 // zero for zero in [0]), weight)
    with pytest.raises(ZeroDivisionError):
        reader.next(5.0)


def test_no_more_waits_than_there_is_room_for(reader: Reader) -> None:
    given = []

    def items() -> Iterator[int]:
        for number in range(100):
            given.append(number)
            yield number

    lane = reader.lane(1, room=10, piece=5)
    lane.start("a", items(), weight)
    taken: list[object] = []
    for _ in range(20):
        piece = reader.next(5.0)
        assert piece is not None
        taken += piece.items
        # What is in the room, and the piece that a thread holds in its hand.
        assert len(given) <= len(taken) + 10 + 5
        lane.give_back(piece.weight)
    assert taken == list(range(100))


def test_one_thing_heavier_than_the_room_passes_alone(reader: Reader) -> None:
    lane = reader.lane(1, room=10, piece=5)
    lane.start("a", iter([1, 2]), lambda _: 50)
    first = reader.next(5.0)
    assert first is not None
    assert first.items == [1]
    assert reader.next(0.1) is None
    lane.give_back(first.weight)
    second = reader.next(5.0)
    assert second is not None
    assert second.items == [2]


def test_stopping_ends_threads_that_wait_for_room_and_those_that_ask() -> None:
    reader = Reader()
    ended = []

    def asks() -> Iterator[int]:
        try:
            while True:
                reader.alive()
                time.sleep(0.01)
        except StoppedError:
            ended.append("asks")
            raise
        yield 1

    lane = reader.lane(2, room=1, piece=1)
    lane.start("a", iter(range(100)), weight)
    lane.start("b", asks(), weight)
    assert reader.next(5.0) is not None
    began = time.monotonic()
    reader.stop()
    assert time.monotonic() - began < 3.0
    assert ended == ["asks"]


def test_there_are_never_more_turns_than_allowed() -> None:
    pace = Pace(first=2, most=3)
    lock = threading.Lock()
    at_once = 0
    seen: list[int] = []

    def work() -> None:
        nonlocal at_once
        with pace.turn(nothing):
            with lock:
                at_once += 1
                seen.append(at_once)
            time.sleep(0.005)
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == 3
    assert max(seen[:2]) <= 2
    assert at_once == 0


def take_turns(pace: Pace, number: int) -> None:
    for _ in range(number):
        with pace.turn(nothing):
            pass


def test_a_registry_that_copes_is_asked_a_little_more_until_the_most() -> None:
    pace = Pace()
    assert pace.allowed == FIRST
    take_turns(pace, FIRST + 1)
    assert pace.allowed == FIRST + 1
    take_turns(pace, 100)
    assert pace.allowed == MOST


def test_a_wish_for_fewer_halves_once_for_those_that_were_under_way_together() -> None:
    pace = Pace(first=8, most=8)
    with pace.turn(nothing) as first, pace.turn(nothing) as second, pace.turn(nothing) as third:
        first.was_too_much()
        second.was_too_much()
        third.was_too_much()
    assert pace.allowed == 4
    for allowed in (2, 1, 1):
        with pace.turn(nothing) as turn:
            turn.was_too_much()
        assert pace.allowed == allowed


def test_everybody_waits_as_long_as_the_registry_wished() -> None:
    pace = Pace()
    with pace.turn(nothing) as turn:
        turn.was_too_much(retry_after=0.4)
    began = time.monotonic()
    take_turns(pace, 1)
    assert 0.3 < time.monotonic() - began < 3.0


def test_a_wish_to_wait_for_hours_is_cut_and_the_wait_can_be_stopped() -> None:
    pace = Pace()
    asked = 0
    with pace.turn(nothing) as turn:
        turn.was_too_much(retry_after=1e6)
    assert pace._not_before <= time.monotonic() + LONGEST_PAUSE_SECONDS

    def stop() -> None:
        nonlocal asked
        asked += 1
        raise StoppedError

    with pytest.raises(StoppedError), pace.turn(stop):
        pass
    assert asked == 1
