"""How a clamd has to be set for images: its configuration, and what can be learned of a running one.

clamd's own limits are made for mail. What exceeds them it calls OK unless `AlertExceedsMax` is set, and no
command tells how a running clamd is set: it is asked to judge harmless contents that exceed a limit.
"""

import io
import os
import struct
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scanning.engines.clamav import Clamd
from scanning.engines.clamav_answers import UnexpectedAnswer, Version, read_version
from scanning.engines.clamav_connection import ClamdUnreachable
from scanning.engines.protocol import EngineCrash

MEBIBYTE = 2**20
# clamd itself goes no further than 2 GiB less two bytes.
FILE_BYTES = 2_000 * MEBIBYTE
STREAM_BYTES = FILE_BYTES
_NESTING = 128  # clamd's MaxRecursion can be 100 at most

# Detection stays as clamd has it, so that `clamscan` by hand says the same, but for what is not in images:
# mail, and phishing, which is looked for in mail.
_CONSTANT = f"""\
Foreground yes
FixStaleSocket yes
LocalSocketMode 660
AlertExceedsMax yes
AlertEncryptedArchive yes
MaxFileSize {FILE_BYTES // MEBIBYTE}M
MaxScanSize {FILE_BYTES // MEBIBYTE}M
StreamMaxLength {STREAM_BYTES // MEBIBYTE}M
MaxFiles 100000
MaxRecursion 50
MaxScanTime 120000
MaxQueue 200
CommandReadTimeout 60
ReadTimeout 120
IdleTimeout 300
ScanMail no
PhishingSignatures no
PhishingScanURLs no
ConcurrentDatabaseReload yes
SelfCheck 600
ExtendedDetectionInfo no
LogTime yes
"""


def configuration(socket: Path, *, database: Path, temporary: Path, threads: int) -> str:
    """The text of a clamd.conf for a clamd of our own, which logs to where it was started.

    `temporary` is best in memory; a content that came as a stream and every unpacked file goes through it.
    Raises ValueError for a path that cannot stand in the file.
    """
    paths = {"LocalSocket": socket, "DatabaseDirectory": database, "TemporaryDirectory": temporary}
    lines = []
    for option, path in paths.items():
        value = str(path)
        if not path.is_absolute() or not value.isprintable() or "#" in value or '"' in value:
            raise ValueError(f"{option}: {value!r} cannot stand in clamd's configuration")
        lines.append(f'{option} "{value}"' if " " in value else f"{option} {value}")
    return "\n".join(lines) + f"\nMaxThreads {threads}\n{_CONSTANT}"


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """What is not right with a running clamd, and what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was learned of a running clamd.

    `tells_excess` is False when it says OK of contents it did not look into: no clean verdict of its can be
    relied on. MaxFileSize and the like cannot be asked for; a clamd that tells excess says when they matter.
    """

    version: Version
    tells_excess: bool
    shortcomings: tuple[Shortcoming, ...]


def check(clamd: Clamd) -> Check:
    """Ask a running clamd for its version and commands, and try its limits. Raises EngineError."""
    version = _version(clamd)
    shortcomings = []
    if version.commands:
        needed = {"INSTREAM", "IDSESSION"} | ({"FILDES"} if clamd.takes_descriptors else set())
        missing = sorted(needed - version.commands)
        if missing:
            raise EngineCrash(
                f"This clamd does not know the command {missing[0]}.", "Install ClamAV 1.0 or newer."
            )
    if clamd.takes_descriptors:
        _try_descriptor(clamd)
    with clamd.session() as session:
        verdict = session.judge(_nested())
    tells_excess = bool(verdict.unscanned)
    if not tells_excess:
        shortcomings.append(
            Shortcoming(
                "clamd says OK of files that it does not look into because they exceed its limits.",
                "Set `AlertExceedsMax yes` and `ScanArchive yes` in clamd.conf and restart clamd.",
            )
        )
    if not clamd.takes_descriptors and not _accepts_stream(clamd, STREAM_BYTES):
        shortcomings.append(
            Shortcoming(
                f"clamd refuses files of {STREAM_BYTES // MEBIBYTE} MiB: larger ones are not fully scanned.",
                f"Set `StreamMaxLength {STREAM_BYTES // MEBIBYTE}M` in clamd.conf and restart clamd.",
            )
        )
    return Check(version, tells_excess, tuple(shortcomings))


def _version(clamd: Clamd) -> Version:
    try:
        return read_version(clamd.question("VERSIONCOMMANDS"))
    except UnexpectedAnswer:
        # An administrator can switch the list of commands off.
        return clamd.version()


def _try_descriptor(clamd: Clamd) -> None:
    descriptor = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        with clamd.connect(lambda: True) as connection:
            connection.begin()
            connection.send(b"zFILDES\0")
            connection.send_descriptor(descriptor)
            answer = connection.answer()
    finally:
        os.close(descriptor)
    if not answer.endswith(": OK"):
        raise EngineCrash(
            "This clamd cannot take open files over its socket.",
            "Allow it in its security module's profile, or have contents sent as streams.",
            detail=answer[:500],
        )


def _accepts_stream(clamd: Clamd, size: int) -> bool:
    """Whether a stream may be so long: it is announced only, and then nothing is sent."""
    with clamd.connect(lambda: True) as connection:
        connection.begin()
        connection.send(b"zINSTREAM\0", struct.pack("!L", size))
        connection.end_sending()
        try:
            return "size limit exceeded" not in connection.answer()
        except ClamdUnreachable:
            return True


@cache
def _nested() -> bytes:
    """A harmless archive nested deeper than any clamd looks."""
    content = b"harmless"
    for _ in range(_NESTING):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr(zipfile.ZipInfo("a"), content, zipfile.ZIP_DEFLATED)
        content = archive.getvalue()
    return content
