"""ClamAV's signatures on disk: versions side by side, each checked by ClamAV before it is used."""

import errno
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from scanning.engines import freshclam, process
from scanning.engines.clamav_configuration import configuration
from scanning.engines.protocol import EngineDatabaseError, EngineDiskFull, EngineError
from scanning.engines.version_folders import VersionFolders
from tcss.text import clean_text

SUFFIXES = (".cvd", ".cld", ".ndb", ".hdb", ".hsb", ".ldb")
# Signed ones and their locally updated form: two of the same name would both be loaded.
_OFFICIAL = (".cvd", ".cld")
_CONFIGURATION = "clamd.conf"
OWN = "tcss-test-file.hdb"
# The harmless file that virus scanners are tried out with (eicar.org), by its MD5 and length.
_OWN_SIGNATURE = "44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature\n"
_TEST_FILE = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_HEADER_BYTES = 512
_CHECK_SECONDS = 600
GIBIBYTE = 2**30
MAX_BYTES = 8 * GIBIBYTE


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """One file of signatures; only official ones have a version and a date (UTC) in their header."""

    name: str
    size: int
    version: int | None
    made_at: datetime | None


class ClamavSignatures(VersionFolders):
    """A folder of signature versions with a link `current` to the one clamd reads and `previous` to the last.

    A file of our own with one signature is in every version: ClamAV is tried out with it.
    """

    def directory(self) -> Path | None:
        """The folder that clamd reads, by a path that stays when versions change; None when there is none."""
        current = self.root / "current"
        return current if (current / OWN).is_file() else None

    def files(self) -> tuple[SignatureFile, ...]:
        """What is in use besides our own file."""
        directory = self.directory()
        if directory is None:
            return ()
        paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.name != OWN)
        return tuple(_described(path) for path in paths)

    def configure(self, socket: Path, *, threads: int) -> Path:
        """Write the file of a clamd that reads these signatures and listens on that socket."""
        temporary = self.root / "tmp"
        temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.root / _CONFIGURATION
        text = configuration(socket, database=self.root / "current", temporary=temporary, threads=threads)
        file.write_text(text)
        return file

    def socket(self) -> Path | None:
        """Where the clamd that was configured here listens; None when none was, or it does not run."""
        try:
            lines = (self.root / _CONFIGURATION).read_text().splitlines()
        except OSError:
            return None
        named = [line.partition(" ")[2].strip('"') for line in lines if line.startswith("LocalSocket ")]
        return Path(named[0]) if named and Path(named[0]).is_socket() else None

    def import_file(self, file: Path, *, keep_going: Callable[[], bool] = lambda: True) -> None:
        """Add a file of signatures, or those of a tar, to the ones in use; same names are replaced.

        Raises EngineDatabaseError when there are none in it or ClamAV refuses them, and EngineError; what
        is in use then stays.
        """

        def fill(staging: Path) -> None:
            before = {path.name: path.stat().st_ino for path in staging.iterdir()}
            if file.suffix in SUFFIXES:
                shutil.copyfile(file, _place(file.name, staging))
            else:
                _unpack(file, staging)
            after = {path.name: path.stat().st_ino for path in staging.iterdir()}
            if before == after:
                raise EngineDatabaseError(f"There are no signatures in {clean_text(file.name, 200)}.", _FORMS)

        self._install(fill, keep_going)

    def download(self, source: freshclam.Source, *, keep_going: Callable[[], bool] = lambda: True) -> None:
        """Fetch what is new with freshclam. Raises EngineError; what is in use then stays."""
        self._install(lambda staging: freshclam.run(source, staging, self.root, keep_going), keep_going)

    def _install(self, fill: Callable[[Path], None], keep_going: Callable[[], bool]) -> None:
        try:
            with self._locked():
                staging = Path(tempfile.mkdtemp(prefix="version-", dir=self._versions))
                try:
                    _link_all(self.root / "current", staging)
                    (staging / OWN).write_text(_OWN_SIGNATURE)
                    fill(staging)
                    self._try(staging, keep_going)
                except BaseException:
                    shutil.rmtree(staging, ignore_errors=True)
                    raise
                staging.chmod(0o755)
                self._flip(staging)
        except OSError as error:
            raise _file_failure(error) from error

    def _try(self, staging: Path, keep_going: Callable[[], bool]) -> None:
        """Let ClamAV load them all and recognise the test file. Raises EngineError when it does not."""
        program = find_program("clamscan", "clamav")
        with tempfile.TemporaryDirectory(prefix="try-", dir=self.root) as name:
            probe = Path(name) / "probe"
            probe.write_bytes(_TEST_FILE)
            ended = process.run(
                (str(program), f"--database={staging}", "--no-summary", "--stdout", str(probe)),
                directory=Path(name),
                environment={"PATH": os.defpath, "TMPDIR": name, "LC_ALL": "C"},
                output=Path(name) / "answer",
                limits=process.Limits(_CHECK_SECONDS, 8 * GIBIBYTE, 2**20, 4 * GIBIBYTE),
                keep_going=keep_going,
            )
            answer = (Path(name) / "answer").read_text(errors="replace")
        if ended.exit_code != 1 or " FOUND" not in answer:
            raise EngineDatabaseError(
                "ClamAV cannot use these signatures.",
                "Fetch them again; they may be damaged, or for another version of ClamAV.",
                detail=(ended.complaint + answer)[-2000:],
            )

    def _flip(self, staging: Path) -> None:
        current = self.root / "current"
        if current.is_dir():
            self._point("previous", current.resolve())
        self._point("current", staging)
        kept = {(self.root / link).resolve() for link in ("current", "previous")}
        for version in self._versions.iterdir():
            if version.resolve() not in kept:
                shutil.rmtree(version, ignore_errors=True)


_FORMS = f"Import a file that ends in {', '.join(SUFFIXES)}, or a tar of such files."


def find_program(name: str, package: str) -> Path:
    """A program of ClamAV; Debian puts some where only root looks. Raises EngineDatabaseError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise EngineDatabaseError(
            f"ClamAV's program {name} is not installed.", f"On Debian: apt-get install {package}"
        )
    return Path(found)


def _described(path: Path) -> SignatureFile:
    version = made_at = None
    if path.suffix in _OFFICIAL:
        with path.open("rb") as file:
            fields = file.read(_HEADER_BYTES).decode("ascii", "replace").strip().split(":")
        try:
            # ClamAV-VDB:date:version:signatures:level:MD5:signature:builder:seconds, says cvd.h of libclamav.
            version, made_at = int(fields[2]), datetime.fromtimestamp(int(fields[8]), UTC)
        except (IndexError, ValueError, OverflowError, OSError):
            version = made_at = None
    return SignatureFile(path.name, path.stat().st_size, version, made_at)


def _link_all(current: Path, staging: Path) -> None:
    """What is in use, without a copy; whoever changes one of them puts a new file in its place."""
    if current.is_dir():
        for path in current.iterdir():
            if path.suffix in SUFFIXES and path.name != OWN:
                os.link(path, staging / path.name)


def _place(name: str, staging: Path) -> Path:
    """Where a file of that name goes, with what it takes the place of gone."""
    target = staging / name
    for suffix in _OFFICIAL if target.suffix in _OFFICIAL else (target.suffix,):
        target.with_suffix(suffix).unlink(missing_ok=True)
    return target


def _unpack(file: Path, staging: Path) -> None:
    """Copy the files of signatures out of a tar, by their last names only: nothing else is ever written."""
    left = MAX_BYTES
    try:
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isreg() or Path(name).suffix not in SUFFIXES or name == OWN:
                    continue
                left -= member.size
                content = archive.extractfile(member)
                if left < 0 or content is None:
                    raise EngineDatabaseError("There is more in the tar than signatures can be.", _FORMS)
                with content:
                    _copy(content, _place(name, staging))
    except (tarfile.TarError, EOFError, FileNotFoundError, zlib.error) as error:
        raise EngineDatabaseError(
            f"{clean_text(file.name, 200)} is neither a file of signatures nor a readable tar.", _FORMS
        ) from error


def _copy(content: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 2**20)


def _file_failure(error: OSError) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineDiskFull(
            "There is no room for the signatures on the disk.",
            "Free space on the data directory's disk, then try again.",
        )
    return EngineDatabaseError(
        f"The signatures could not be read or written: {error.strerror or error}.",
        "Check that the file may be read and that the data directory may be written.",
    )
