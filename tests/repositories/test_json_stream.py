"""Reading a long array as it comes: the same values as all at once, whatever the pieces, and nothing else."""

import json
import random
from collections.abc import Iterator

import pytest

from repositories.registries import json_stream
from repositories.registries.answers import MalformedError
from repositories.registries.json_stream import read_objects

ROWS = [{"name": "a", "author": 'ü \\ "]}{[" 密', "labels": {"x": [1, None, {"y": "}"}]}}, {}, {"size": 1}]
TEXT = json.dumps(ROWS, indent=2, ensure_ascii=False).encode()


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pieces_of_any_size_make_the_same_values(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(json_stream, "_PIECE_BYTES", 1)
    assert list(read_objects(pieces(TEXT, size))) == ROWS


def test_random_arrays_are_read_as_json_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE_BYTES", 3)
    chance = random.Random(20)
    for _ in range(200):
        rows = [
            {chance.choice('abü密\\"{}[]'): chance.choice([1.5, True, None, "]", ["}"], {"n": {}}])}
            for _ in range(chance.randrange(5))
        ]
        written = json.dumps(rows, indent=chance.choice([None, 1]), ensure_ascii=chance.random() < 0.5)
        assert list(read_objects(pieces(written.encode(), chance.randrange(1, 9)))) == rows


@pytest.mark.parametrize("content", [b"[]", b" [ \r\n\t] \n", b"null", b" null\n"])
def test_an_empty_list_is_empty(content: bytes) -> None:
    assert list(read_objects(iter([content]))) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"nul",
        b"nullx",
        b"[",
        b"[{}",
        b"[{},",
        b"[{},]",
        b"[,{}]",
        b"[{} {}]",
        b"[{}]]",
        b"[{}] {}",
        b"[1]",
        b"[[]]",
        b"[null]",
        b'[{"a":NaN}]',
        b'[{"a":1,"a":2}]',
        b"\xef\xbb\xbf[]",
        b'[{"a":"\xff"}]',
        b'[{"a":"\xe5\xaf',
        b'[{"a":' + b"[" * 100_000,
        b"<html>",
    ],
)
def test_whatever_is_no_list_of_objects_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        list(read_objects(iter([content])))


def test_an_endless_object_is_cut() -> None:
    received = 0

    def endless() -> Iterator[bytes]:
        nonlocal received
        yield b'[{"a":"'
        while True:
            received += 100_000
            yield b"a" * 100_000

    with pytest.raises(MalformedError):
        list(read_objects(endless()))
    assert received < 2 * json_stream.ENTRY_CHARACTERS
