"""Log lines: one event a line, its sentence constant, its ids beside it, control characters escaped."""

import logging
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}


class LineFormatter(logging.Formatter):
    """``time level logger: sentence key=value ...``; a forged newline in a value cannot start a new line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Add the record's own fields behind its sentence."""
        line = super().formatMessage(record)
        fields = [f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD]
        return " ".join([line, *fields]).translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """The traceback, set in: an error's text is often from outside, and must not look like an event."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  | {line.translate(_ESCAPES)}" for line in lines)
