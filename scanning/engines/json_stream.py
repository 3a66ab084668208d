"""Reads a JSON document of any length piece by piece: what is not asked for is passed over, never kept."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import ijson

_CHUNK_BYTES = 2**16
_MAX_VALUE_CHUNKS = 64
_MAX_DEPTH = 64
_MAX_TEXT, _MAX_ITEMS = 16_000, 60

VALUE: Final = "value"
"""The shape of a text, a number or a truth."""
ANY: Final = ""
"""In the shape of an object: whatever keys it has, sixty of them at most."""

# VALUE, the shapes of an object's keys, or the shape of a list's items in a list.
Shape = str | Mapping[str, "Shape"] | list["Shape"]
Event = tuple[str, Any]


class JsonStream:
    """The values of a JSON document in their order, taken or passed over by whoever reads it.

    `alive` is called for every 64 KiB and may raise. Nothing of the document is kept here but the value that
    is read. All methods raise ValueError where the document is not JSON, is nested more than 64 times or has
    one value of more than 4 MiB; no error's text holds anything of the document.
    """

    def __init__(self, path: Path, alive: Callable[[], None]) -> None:
        self._events = _events(path, alive)
        self._next: Event = next(self._events)

    def fields(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller takes or skips each value before the next key.

        Raises ValueError where something else comes, other than null.
        """
        if not self._enters("start_map"):
            return
        while self._next[0] != "end_map":
            key = self._next[1]
            self._advance()
            yield key
        self._advance()

    def items(self) -> Iterator[int]:
        """One number for every item of the list that comes next, from 0 on; handled as with `fields`."""
        if not self._enters("start_array"):
            return
        number = 0
        while self._next[0] != "end_array":
            yield number
            number += 1
        self._advance()

    def take(self, shape: Shape) -> Any:
        """The value that comes next, with what the shape names and in its measure.

        A text is cut at 16,000 characters, a list at 60 items; instead of a value of another kind than its
        shape's there is None. Raises ValueError where a list or a text stands for an object.
        """
        event, value = self._next
        if event == "start_map" and isinstance(shape, Mapping):
            taken: dict[str, Any] = {}
            for key in self.fields():
                inner = shape.get(key) or (shape.get(ANY) if len(taken) < _MAX_ITEMS else None)
                if inner is None:
                    self.skip()
                else:
                    taken[key] = self.take(inner)
            return taken
        if event == "start_array" and isinstance(shape, list):
            listed = []
            for number in self.items():
                if number < _MAX_ITEMS:
                    listed.append(self.take(shape[0]))
                else:
                    self.skip()
            return listed
        if isinstance(shape, Mapping) and event != "null":
            raise ValueError("it has something else where an object belongs")
        self.skip()
        if event == "string":
            return value[:_MAX_TEXT]
        return value

    def skip(self) -> None:
        """Pass over the value that comes next."""
        depth = _STEPS.get(self._next[0], 0)
        while depth > 0:
            event = next(self._events)[0]
            if event in _STEPS:
                depth += _STEPS[event]
        self._advance()

    def _enters(self, start: str) -> bool:
        event, _ = self._next
        if event not in (start, "null"):
            raise ValueError("it has another form than a report has")
        self._advance()
        return event == start

    def _advance(self) -> None:
        self._next = next(self._events, _END)


_STEPS: Final = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}
_END: Final[Event] = ("end", None)


def _events(path: Path, alive: Callable[[], None]) -> Iterator[Event]:
    """What ijson's parser in C says of the file; its own errors quote the document, so they go no further."""
    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, use_float=True)
    depth = silent = 0
    with path.open("rb") as file:
        while True:
            alive()
            chunk = file.read(_CHUNK_BYTES)
            try:
                # No bytes are the end.
                parser.send(chunk)
                if not chunk:
                    parser.close()
            except StopIteration:
                pass
            except ijson.JSONError:
                raise ValueError("it is not JSON, or was cut") from None
            silent = 0 if events else silent + 1
            if silent > _MAX_VALUE_CHUNKS:
                raise ValueError("one value of it is far too long")
            for event in events:
                if (step := _STEPS.get(event[0])) is not None:
                    depth += step
                    if depth > _MAX_DEPTH:
                        raise ValueError("it is nested too deeply")
                yield event
            if not chunk:
                return
            del events[:]
