"""The engines for viruses and trojans behind one verb: judge a content that lies in a file, such as a tar."""

import dataclasses
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scanning.engines.clamav import Clamd, Session
from scanning.engines.clamav_answers import NAME as CLAMAV, not_seen
from scanning.engines.clamav_configuration import FILE_BYTES, Check, Shortcoming, check
from scanning.engines.malware import ContentVerdict, SignatureVersion
from scanning.engines.protocol import EngineCancelled, EngineCrash
from scanning.engines.yara import NAME as YARA, Yara

# What is as long as this is read, what is longer is mapped.
_READ_BYTES = 2**20
# What is longer goes to clamd as a file and not through memory.
_MEMORY_BYTES = 16 * 2**20
_COPY_BYTES = 32 * 2**20

Alive = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Content:
    """One file's content: so many bytes of a file on disk, from an offset on."""

    sha256: str
    path: Path
    offset: int
    size: int

    @contextmanager
    def seen(self, most: int) -> Iterator[memoryview]:
        """The content, or its beginning where it is longer than `most`. Raises OSError."""
        size = min(self.size, most)
        with self.path.open("rb", buffering=0) as file:
            if size <= _READ_BYTES:
                yield memoryview(os.pread(file.fileno(), size, self.offset))
                return
            before = self.offset % mmap.ALLOCATIONGRANULARITY
            # A map for each content: pages that were looked at count as this process's own while it lasts.
            with (
                mmap.mmap(
                    file.fileno(), before + size, access=mmap.ACCESS_READ, offset=self.offset - before
                ) as mapped,
                memoryview(mapped) as whole,
                whole[before:] as view,
            ):
                yield view


# Says what an engine thinks of a content. Raises EngineError and OSError.
Ask = Callable[[Content], ContentVerdict]


class Judge(Protocol):
    """One engine with its signatures."""

    @property
    def name(self) -> str:
        """The engine's name, as findings have it."""

    @property
    def version(self) -> SignatureVersion:
        """What a verdict is kept for."""

    @property
    def threads(self) -> int:
        """How many contents it can look at side by side."""

    @property
    def limits_may_change(self) -> bool:
        """Whether what it did not see now it may see later with the same signatures."""

    def session(self, scratch: Path, alive: Alive) -> AbstractContextManager[Ask]:
        """Ask about many contents, in one thread; `scratch` is a folder for its files."""


@dataclass(frozen=True, slots=True)
class YaraJudge:
    """YARA: our own rules and the operators', in this process."""

    yara: Yara
    name: str = YARA
    threads: int = 1
    limits_may_change: bool = False

    @property
    def version(self) -> SignatureVersion:
        """The rules' hash."""
        return self.yara.version

    @contextmanager
    def session(self, scratch: Path, alive: Alive) -> Iterator[Ask]:  # noqa: ARG002 - writes no files
        """One content takes YARA's own time limit at most."""

        def ask(content: Content) -> ContentVerdict:
            _ask_whether(alive)
            with content.seen(self.yara.limits.content_bytes) as view:
                return self.yara.judge(view, size=content.size)

        yield ask


@dataclass(frozen=True, slots=True)
class ClamdJudge:
    """A running clamd, and what is not right with it."""

    clamd: Clamd
    checked: Check
    name: str = CLAMAV
    threads: int = 2
    limits_may_change: bool = True

    @property
    def version(self) -> SignatureVersion:
        """The signatures' number; one that says OK of what it did not look into has verdicts of its own."""
        version = self.checked.version.of_signatures
        if self.checked.tells_excess:
            return version
        return dataclasses.replace(version, signatures=f"{version.signatures} without limits".strip())

    @property
    def shortcoming(self) -> Shortcoming | None:
        """Why nothing that it calls clean may be called clean."""
        return None if self.checked.tells_excess else self.checked.shortcomings[0]

    @contextmanager
    def session(self, scratch: Path, alive: Alive) -> Iterator[Ask]:
        """Small contents go as they are, large ones as a file or as a stream of their pieces."""
        with self.clamd.session(alive) as session:
            yield _ClamdAsk(session, self.clamd.takes_descriptors, scratch, alive)


@dataclass(frozen=True, slots=True)
class _ClamdAsk:
    session: Session
    takes_descriptors: bool
    scratch: Path
    alive: Alive = field(repr=False)

    def __call__(self, content: Content) -> ContentVerdict:
        if content.size > FILE_BYTES:
            return not_seen("it is longer than clamd looks at")
        if content.size <= _MEMORY_BYTES or not self.takes_descriptors:
            with content.seen(FILE_BYTES) as view:
                return self.session.judge(view)
        with self._copy(content) as path:
            return self.session.judge_file(path)

    @contextmanager
    def _copy(self, content: Content) -> Iterator[Path]:
        """The content as a file of its own: clamd reads what it is handed from the beginning to the end."""
        with tempfile.NamedTemporaryFile(dir=self.scratch, prefix="content-") as copy:
            with content.path.open("rb", buffering=0) as file:
                offset, left = content.offset, content.size
                while left:
                    _ask_whether(self.alive)
                    done = os.sendfile(copy.fileno(), file.fileno(), offset, min(left, _COPY_BYTES))
                    if not done:
                        break
                    offset, left = offset + done, left - done
            yield Path(copy.name)


def reach(clamd: Clamd) -> ClamdJudge:
    """A running clamd, asked what it is and how it is set. Raises EngineError.

    One that cannot take open files, as a security module may have it, gets contents as streams.
    """
    try:
        return ClamdJudge(clamd, check(clamd))
    except EngineCrash:
        if not clamd.takes_descriptors:
            raise
    streams = dataclasses.replace(clamd, descriptors=False)
    return ClamdJudge(streams, check(streams))


def _ask_whether(alive: Alive) -> None:
    if not alive():
        raise EngineCancelled("The scan was cancelled.", "Scan again when the result is wanted.")
