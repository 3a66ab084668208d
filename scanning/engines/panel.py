"""Several engines look at many contents side by side; one that fails is left out from then on."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from scanning.engines.judges import Alive, Content, Judge
from scanning.engines.malware import ContentVerdict
from scanning.engines.protocol import EngineCancelled, EngineError

# How long nobody asks whether the work is still wanted.
_WAIT_SECONDS = 0.2

_Result = TypeVar("_Result")

# Engine -> SHA-256 of a content -> what the engine says of it.
Verdicts = dict[str, dict[str, ContentVerdict]]


def beside(work: Callable[[], _Result], check: Callable[[], None]) -> _Result:
    """What `work` gives, done in a thread; `check` is called meanwhile and may raise what gives it up."""
    pool = ThreadPoolExecutor(1)
    try:
        return _awaited([pool.submit(work)], check)[0].result()
    finally:
        pool.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class Round:
    """Contents that are being looked at."""

    parts: tuple[tuple[str, Future[dict[str, ContentVerdict]]], ...]


@dataclass(slots=True)
class Panel:
    """A context in which engines can be asked; `lost` says which of them failed, and of what."""

    judges: tuple[Judge, ...]
    scratch: Path
    keep_going: Alive
    check: Callable[[], None]
    lost: dict[str, EngineError] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(init=False)
    _is_over: bool = False

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, sum(judge.threads for judge in self.judges)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        # What is being looked at now comes to its end by itself, unheard.
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def at_work(self) -> tuple[str, ...]:
        """The engines that have not failed."""
        names = [judge.name for judge in self.judges]
        return tuple(name for name in names if name not in self.lost)

    def begin(self, contents: Mapping[str, Sequence[Content]]) -> Round:
        """Let each engine look at the contents under its name."""
        parts = []
        for judge in self.judges:
            name = judge.name
            asked = contents.get(name, ()) if name in self.at_work else ()
            shares = [asked[start :: judge.threads] for start in range(judge.threads)]
            parts += [(name, self._pool.submit(self._look, judge, share)) for share in shares if share]
        return Round(tuple(parts))

    def finish(self, begun: Round) -> Verdicts:
        """What the engines say; one that fails is lost. Raises OSError and what `check` raises."""
        _awaited([future for _, future in begun.parts], self.check)
        verdicts: Verdicts = {name: {} for name in self.at_work}
        for name, future in begun.parts:
            try:
                verdicts.setdefault(name, {}).update(future.result())
            except EngineCancelled:
                self.check()
                raise
            except EngineError as error:
                self.lost.setdefault(name, error)
        return {name: told for name, told in verdicts.items() if name not in self.lost}

    def _look(self, judge: Judge, contents: Sequence[Content]) -> dict[str, ContentVerdict]:
        with judge.session(self.scratch, self._alive) as ask:
            return {content.sha256: ask(content) for content in contents}

    def _alive(self) -> bool:
        return not self._is_over and self.keep_going()


def _awaited(futures: list[Future[_Result]], check: Callable[[], None]) -> list[Future[_Result]]:
    while wait(futures, timeout=_WAIT_SECONDS).not_done:
        check()
    return futures
