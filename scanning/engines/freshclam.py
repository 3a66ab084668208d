"""Debian's freshclam with a configuration of our own: fetches ClamAV's signatures into a folder."""

import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from scanning.engines import process
from scanning.engines.protocol import EngineDatabaseError, EngineDiskFull, EngineError

PUBLIC_MIRROR = "database.clamav.net"
GIBIBYTE = 2**30
_SECONDS = 1_800
_FAILED = re.compile(r"Download failed \((\d+)\)|[Rr]esponse code:? (\d{3})|HTTP code:? (\d{3})")
# The numbers are curl's (curl.se/libcurl/c/libcurl-errors.html) and HTTP's.
_CAUSES = {
    5: ("the proxy's name is not known", "Check the proxy's name."),
    6: ("the server's name is not known", "Check the name, or use a mirror or a proxy."),
    7: ("the server does not answer", "Check the network, use a mirror or a proxy, or import a file."),
    28: (
        "the server does not answer in time",
        "Check the network, use a mirror or a proxy, or import a file.",
    ),
    60: ("the server's certificate is not trusted", "Add its certificate authority to this machine."),
    403: ("the server refuses access", "Wait a day, and use a mirror where several machines ask."),
    404: ("there are no signatures on that server", "Check the mirror's address."),
    429: ("the server asks for fewer requests", "Wait a day, and use a mirror where several machines ask."),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where signatures come from: a private mirror, else ClamAV's own; by a proxy where one is given.

    Both are addresses such as http://mirror.example.org:8080; accounts cannot be given.
    """

    mirror: str = ""
    proxy: str = ""

    def __str__(self) -> str:
        return self.mirror or PUBLIC_MIRROR


def run(source: Source, target: Path, work: Path, keep_going: Callable[[], bool]) -> None:
    """Bring the signatures in the folder `target` up to date. Raises EngineError."""
    program = shutil.which("freshclam")
    if program is None:
        raise EngineDatabaseError(
            "ClamAV's program freshclam is not installed.",
            "On Debian: apt-get install clamav-freshclam; or import a file of signatures.",
        )
    with tempfile.TemporaryDirectory(prefix="freshclam-", dir=work) as name:
        directory = Path(name)
        file = directory / "freshclam.conf"
        file.write_text(configuration(source, target))
        answer = directory / "answer"
        ended = process.run(
            (program, f"--config-file={file}", "--stdout"),
            directory=directory,
            environment={"PATH": os.defpath, "TMPDIR": name, "LC_ALL": "C"},
            output=answer,
            limits=process.Limits(_SECONDS, 8 * GIBIBYTE, 16 * 2**20, 8 * GIBIBYTE),
            keep_going=keep_going,
        )
        said = answer.read_text(errors="replace")[-process.TAIL_BYTES :] + ended.complaint
    for left_over in target.glob("tmp*"):
        shutil.rmtree(left_over, ignore_errors=True)
    if ended.exit_code != 0:
        raise _failure(source, said)


def configuration(source: Source, target: Path) -> str:
    """The text of a freshclam.conf. Raises EngineDatabaseError for an address that cannot stand in it."""
    lines = [
        f"DatabaseDirectory {target}",
        # Without it freshclam would become another user, who may not write there.
        f"DatabaseOwner {pwd.getpwuid(os.geteuid()).pw_name}",
        f"PrivateMirror {_address(source.mirror)}" if source.mirror else f"DatabaseMirror {PUBLIC_MIRROR}",
        "MaxAttempts 2",
        "ConnectTimeout 30",
        "ReceiveTimeout 300",
        # They are tried out together with all others afterwards.
        "TestDatabases no",
    ]
    if source.proxy:
        url = urlsplit(_address(source.proxy))
        lines += [f"HTTPProxyServer {url.scheme}://{url.hostname}", f"HTTPProxyPort {url.port or 3128}"]
    return "\n".join(lines) + "\n"


def _address(text: str) -> str:
    try:
        url = urlsplit(text)
        has_place = url.scheme in {"http", "https"} and url.hostname and (url.port or True)
    except ValueError:
        has_place = False
    if not has_place or "@" in text or not text.isprintable() or set(text) & set(' "#'):
        raise EngineDatabaseError(
            "The address of the mirror or proxy cannot be used.",
            "Give it as http://host:port or https://host:port, without an account.",
        )
    return text


def _failure(source: Source, said: str) -> EngineError:
    if "No space left on device" in said:
        return EngineDiskFull(
            "There is no room for the signatures on the disk.",
            "Free space on the data directory's disk, then try again.",
            detail=said,
        )
    numbers = [int(next(filter(None, found))) for found in _FAILED.findall(said)]
    for number in numbers:
        if number in _CAUSES:
            cause, remedy = _CAUSES[number]
            return EngineDatabaseError(
                f"The signatures could not be fetched from {source}: {cause}.", remedy, detail=said
            )
    return EngineDatabaseError(
        f"The signatures could not be fetched from {source}.",
        "See freshclam's last words in the log, or import a file of signatures instead.",
        detail=said,
    )
