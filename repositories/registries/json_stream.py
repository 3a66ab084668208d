"""Reads a long JSON array of objects as it comes, so that its text is never in memory as a whole."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping

from repositories.registries.answers import MalformedError, as_mapping, refuse_constant, unique_keys

ENTRY_CHARACTERS = 2**20
_PIECE_BYTES = 64 * 1024
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=refuse_constant)


def read_objects(chunks: Iterable[bytes]) -> Iterator[Mapping[str, object]]:
    """Each object of an array in UTF-8; none for ``null``, which is how Go writes an empty list.

    Raises MalformedError for whatever else it is, at the end of it or in the middle, and for one object of
    more than ENTRY_CHARACTERS.
    """
    return _Text(chunks).objects()


class _Text:
    """The part of the text that was received and not yet read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text = ""
        self._at = 0
        self._ended = False

    def objects(self) -> Iterator[Mapping[str, object]]:
        """The objects between the brackets; nothing but whitespace may follow them."""
        first = self._next()
        if self._ended:
            # All of it came at once, as most lists do: reading it object by object takes twice the time.
            yield from self._whole()
            return
        if first == "n":
            while self._more():
                pass
            if self._text[self._at :].rstrip(" \t\n\r") != "null":
                raise MalformedError("no list")
            return
        self._take("[")
        if self._next() != "]":
            yield self._object()
            while self._next() == ",":
                self._take(",")
                yield self._object()
        self._take("]")
        if self._next():
            raise MalformedError("something follows the list")

    def _whole(self) -> Iterator[Mapping[str, object]]:
        try:
            value = _DECODER.decode(self._text)
        except MalformedError:
            raise
        except (ValueError, RecursionError):
            raise MalformedError("not JSON") from None
        if value is not None and not isinstance(value, list):
            raise MalformedError("not a list")
        yield from map(as_mapping, value or ())

    def _next(self) -> str:
        """The next character that is no whitespace, which stays; an empty text at the end."""
        while True:
            found = _WHITESPACE.match(self._text, self._at)
            assert found is not None  # noqa: S101 - it matches an empty text too
            self._at = found.end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _take(self, sign: str) -> None:
        if self._next() != sign:
            raise MalformedError(f"no {sign}")
        self._at += 1

    def _object(self) -> Mapping[str, object]:
        if self._next() != "{":
            raise MalformedError("not an object")
        while True:
            try:
                value, self._at = _DECODER.raw_decode(self._text, self._at)
                return as_mapping(value)
            except MalformedError:
                raise
            except RecursionError:
                raise MalformedError("nested too deeply") from None
            except ValueError:
                # It may be whole with the next piece.
                if len(self._text) - self._at > ENTRY_CHARACTERS or not self._more():
                    raise MalformedError("not JSON") from None

    def _more(self) -> bool:
        """Receive another piece; small ones are gathered, or an object would be tried once for each."""
        pieces: list[bytes] = []
        size = 0
        while not self._ended and size < _PIECE_BYTES:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            pieces.append(chunk or b"")
            size += len(pieces[-1])
        if not pieces:
            return False
        try:
            fresh = self._decoder.decode(b"".join(pieces), self._ended)
        except UnicodeDecodeError:
            raise MalformedError("not UTF-8") from None
        self._text, self._at = self._text[self._at :] + fresh, 0
        return True
