"""Reads an image's config (OCI image specification, "image configuration") into clean, bounded values.

Whoever pushed the image wrote it, so nothing in it is believed: what is missing or odd is left out, and the
image is shown with what remains.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from images.digests import InvalidNameError, parse_digest
from tcss.text import clean_text

HISTORY_ENTRIES = 1000
LAYERS = 1000
LABELS = 200
_INSTRUCTION_LENGTH = 4000
_COMMENT_LENGTH = 500
_LABEL_LENGTH = 1000

# Values of environment variables and build arguments stand in the history in clear, and they hold passwords.
# Kept are only the values of names that base images set and that say nothing secret.
_HARMLESS = re.compile(r"(?:PATH|LANG|LC_ALL|LANGUAGE|HOME|TERM|TZ|DEBIAN_FRONTEND|[A-Z0-9_]*_?VERSION)\Z")
# A name is looked for at its beginning only: read anew from every letter, a long text takes minutes. A quote
# that nobody closes hides the rest.
_ASSIGNMENT = re.compile(
    r"""(?<![^\s="'])([^\s="']+)=
    (?: "(?:[^"\\]|\\.)*(?:"|\\?\Z) | '[^']*(?:'|\Z) | \\(?:.|\Z) | [^\s"'\\] )*""",
    re.DOTALL | re.VERBOSE,
)
_ENV = re.compile(r"(?:/bin/sh -c #\(nop\)\s+)?(?:ENV|ARG)\s", re.IGNORECASE)
_RUN_WITH_ARGS = re.compile(r"(?:RUN )?\|\d+ ")
_OLD_ENV = re.compile(r"((?:/bin/sh -c #\(nop\)\s+)?ENV\s+([A-Za-z_][A-Za-z0-9_]*)\s+)(?!\S*=).*", re.DOTALL)
MASK = "…"
# The classic builder writes a value without its quotes: words after it, up to the next name, belong to it.
_REST = re.compile(rf"(={MASK})(?:\s+(?!# buildkit\Z)(?![^\s=]+=)\S+)+")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself; ``diff_ids`` are its layers, base first."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    built_at: datetime | None = None
    author: str = ""
    diff_ids: tuple[str, ...] = ()
    history: tuple[dict[str, object], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def instructions(self) -> list[str]:
        """The instruction that made each layer, as far as the history tells."""
        made = [str(entry["created_by"]) for entry in self.history if not entry.get("empty_layer")]
        return [*made, *[""] * len(self.diff_ids)][: len(self.diff_ids)]


def parse_config(raw: bytes) -> ImageConfig:
    """The config in ``raw``; one that cannot be read says nothing, which is no error."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return ImageConfig()
    if not isinstance(body, dict):
        return ImageConfig()
    rootfs = _mapping(body.get("rootfs"))
    config = _mapping(body.get("config"))
    labels = _mapping(config.get("Labels"))
    return ImageConfig(
        os=_word(body, "os"),
        architecture=_word(body, "architecture"),
        variant=_word(body, "variant"),
        built_at=_moment(body.get("created")),
        author=clean_text(_string(body.get("author")), 255),
        diff_ids=_diff_ids(rootfs.get("diff_ids")),
        history=tuple(_entry(_mapping(entry)) for entry in _sequence(body.get("history"))[:HISTORY_ENTRIES]),
        labels=tuple(
            (clean_text(key, 255), clean_text(_string(value), _LABEL_LENGTH, multiline=True))
            for key, value in list(labels.items())[:LABELS]
        ),
    )


def mask(instruction: str) -> str:
    """An instruction without the values of environment variables and build arguments."""
    old = _OLD_ENV.match(instruction)
    if old and not _HARMLESS.match(old[2]):
        return old[1] + MASK
    if _ENV.match(instruction):
        return _REST.sub(r"\1", _ASSIGNMENT.sub(_masked, instruction))
    if _RUN_WITH_ARGS.match(instruction):
        arguments, shell, command = instruction.partition("/bin/sh -c")
        masked = _REST.sub(r"\1", _ASSIGNMENT.sub(_masked, arguments))
        return masked + shell + command
    return instruction


def _masked(match: re.Match[str]) -> str:
    return match[0] if _HARMLESS.match(match[1]) else f"{match[1]}={MASK}"


def _entry(entry: Mapping[str, object]) -> dict[str, object]:
    created = _moment(entry.get("created"))
    instruction = _string(entry.get("created_by"))[: 4 * _INSTRUCTION_LENGTH]
    return {
        "created": created.isoformat() if created else "",
        "created_by": clean_text(mask(instruction), _INSTRUCTION_LENGTH, multiline=True),
        "author": clean_text(_string(entry.get("author")), 255),
        "comment": clean_text(_string(entry.get("comment")), _COMMENT_LENGTH),
        "empty_layer": entry.get("empty_layer") is True,
    }


def _diff_ids(value: object) -> tuple[str, ...]:
    """All the diff IDs or none: a list with a hole would give every later layer a wrong place."""
    try:
        return tuple(parse_digest(each) for each in _sequence(value)[: LAYERS + 1])[:LAYERS]
    except InvalidNameError:
        return ()


def _word(body: Mapping[str, object], key: str) -> str:
    return clean_text(_string(body.get(key)), 64)


def _moment(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(_string(value)[:40])
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        moment = aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # Builds without a date use the year 1 or 1970; near the ends of the calendar a time zone overflows.
    return moment if 1970 < moment.year < 9000 else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
