"""Reads what clamd answers, strictly: what is not one of the few known sentences is an error, never clean.

The sentences are those of clamd's own source (clamd/session.c, clamd/scanner.c, clamd/others.c) and of the
manual page clamd(8).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from scanning.engines.malware import ContentVerdict, Signature, SignatureVersion
from scanning.engines.malware_names import kind_of
from scanning.engines.protocol import EngineCrash, EngineVersion
from tcss.text import clean_text

NAME = "clamav"
MAX_ANSWER_BYTES = 8_192

_NUMBERED = re.compile(r"(\d{1,10}): (.*)", re.DOTALL)
# Contents have no file names here: what stands before the verdict is clamd's own word for a stream or a
# descriptor, and only that. A signature's name may hold anything, so what counts is how the answer ends.
_ABOUT = re.compile(r"(?:stream|fd\[\d{1,10}\]): (.*)", re.DOTALL)
_FOUND = " FOUND"
_ERROR = " ERROR"
# With ExtendedDetectionInfo the content's MD5 and size stand behind the name.
_EXTENDED = re.compile(r"\([0-9a-f]{32}:\d{1,20}\)$")
_EXCEEDED = "Heuristics.Limits.Exceeded"
_ENCRYPTED = "Heuristics.Encrypted."
_TOO_LONG = "INSTREAM size limit exceeded."
_OUT_OF_TIME = ("Time limit reached", "CL_ETIMEOUT", "Scan aborted due to time limit")
_LIMITS = {
    "MaxFileSize": "it, or a file in it, is longer than clamd looks at",
    "MaxScanSize": "there is more in it than clamd looks at",
    "MaxFiles": "there are more files in it than clamd looks at",
    "MaxRecursion": "archives are nested in it deeper than clamd looks",
    "MaxScanTime": "clamd gave up on it when its time for one content was over",
}

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VERSION = re.compile(
    r"ClamAV ([0-9][\w.+~-]{0,40})"
    r"(?:/(\d{1,10})/\w{3} (\w{3}) +(\d{1,2}) (\d{2}):(\d{2}):(\d{2}) (\d{4}))?"
    r"(?:\| COMMANDS:((?: [A-Z]+)*))?"
)


class UnexpectedAnswer(EngineCrash):
    """What answers is not a clamd, or one that refuses the command."""

    def __init__(self, answer: str) -> None:
        super().__init__(
            "The virus engine clamd gave an answer that is not understood.",
            "Check that the address is that of a clamd of version 1.0 or newer, then scan again.",
            detail=clean_text(answer, 500),
        )


@dataclass(frozen=True, slots=True)
class Version:
    """What clamd says of itself: its version, its signatures' number and date, and the commands it knows."""

    engine: EngineVersion
    signatures: str
    updated_at: datetime | None
    commands: frozenset[str]

    @property
    def of_signatures(self) -> SignatureVersion:
        """The part that a verdict is kept for."""
        return SignatureVersion(self.engine, self.signatures, self.updated_at)


def text_of(answer: bytes) -> str:
    """An answer as text; bytes that are not UTF-8 are shown, not lost."""
    return answer.decode("utf-8", "backslashreplace")


def in_session(answer: str, number: int) -> str:
    """The answer to the request of this number of a session. Raises UnexpectedAnswer for any other."""
    found = _NUMBERED.fullmatch(answer)
    if found is None or int(found[1]) != number:
        raise UnexpectedAnswer(answer)
    return found[2]


def read_version(answer: str) -> Version:
    """What VERSION or VERSIONCOMMANDS answered. Raises UnexpectedAnswer.

    Without an official database there is neither a number nor a date. clamd writes its machine's local time
    and not the zone; it is taken for UTC, which is close enough for an age in days.
    """
    found = _VERSION.fullmatch(answer)
    if found is None:
        raise UnexpectedAnswer(answer)
    version, signatures, month, day, hour, minute, second, year, commands = found.groups()
    updated_at = None
    if signatures is not None:
        try:
            updated_at = datetime(
                int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
        except ValueError as error:
            raise UnexpectedAnswer(answer) from error
    return Version(
        EngineVersion(NAME, version), signatures or "", updated_at, frozenset((commands or "").split())
    )


def read_verdict(answer: str) -> ContentVerdict:
    """What clamd says of one content. Raises EngineCrash for its errors and UnexpectedAnswer."""
    if answer == _TOO_LONG + _ERROR:
        return not_seen("it is longer than clamd accepts (StreamMaxLength)")
    about = _ABOUT.fullmatch(answer)
    if about is None:
        raise UnexpectedAnswer(answer)
    said = about[1]
    if said == "OK":
        return ContentVerdict(NAME)
    if said.endswith(_FOUND):
        return _recognised(_EXTENDED.sub("", said.removesuffix(_FOUND)), answer)
    if said.endswith(_ERROR):
        complaint = said.removesuffix(_ERROR).strip()
        if complaint.startswith(_OUT_OF_TIME):
            return not_seen(_LIMITS["MaxScanTime"])
        raise EngineCrash(
            "The virus engine clamd could not look at a file of the image.",
            "See clamd's own log; often its disk for temporary files is full or its memory short.",
            detail=clean_text(complaint, 500),
        )
    raise UnexpectedAnswer(answer)


def _recognised(name: str, answer: str) -> ContentVerdict:
    if not name.strip():
        raise UnexpectedAnswer(answer)
    if name == _EXCEEDED or name.startswith(_EXCEEDED + "."):
        limit = name.removeprefix(_EXCEEDED).strip(".").removesuffix(".UNOFFICIAL")
        return not_seen(_LIMITS.get(limit, "it exceeds one of clamd's limits"))
    if name.startswith(_ENCRYPTED):
        return not_seen("an archive or document in it is encrypted")
    return ContentVerdict(NAME, (Signature.of(name, kind_of(name)),))


def not_seen(cause: str) -> ContentVerdict:
    """The verdict on a content that clamd did not look at, or not all of it."""
    return ContentVerdict(NAME, unscanned=f"ClamAV did not see all of it: {cause}.")
