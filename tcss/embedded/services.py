"""PostgreSQL and Valkey together: started for an installation by the supervisor, or alone for tests."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tcss.embedded import host
from tcss.embedded.children import Child, Launch, Pause, stop, wait_until
from tcss.embedded.data_directory import DataDirectory, open_data_directory
from tcss.embedded.postgresql import PostgreSQL
from tcss.embedded.problems import StartError, Terminal
from tcss.embedded.valkey import Valkey

# Crash recovery after a power cut may replay a good deal.
_START_SECONDS = 120.0
_STALE_SECONDS = 30.0
_OURS = ("TCSS_", "DEMO_", "DATABASE_URL", "REDIS_URL")


class Services:
    """The two servers of one data directory; `durable=False` trades safety after a power cut for speed."""

    def __init__(
        self,
        directory: DataDirectory,
        environment: dict[str, str],
        *,
        durable: bool = True,
        with_postgres: bool = True,
        with_valkey: bool = True,
    ) -> None:
        self._directory = directory
        # Programs of others, one of which runs as another user: no secret of ours is theirs.
        environment = {name: text for name, text in environment.items() if not name.startswith(_OURS)}
        self.postgres = PostgreSQL(directory, environment, durable=durable) if with_postgres else None
        self.valkey = Valkey(directory, environment, durable=durable) if with_valkey else None
        self.children: list[Child] = []

    def start(self, pause: Pause, terminal: Terminal | None = None) -> None:
        """Starts both and waits until they answer; raises StartError, with nothing left running."""
        try:
            self._start(pause, terminal or _Silent())
        except BaseException:
            self.stop(time.sleep)
            raise

    def _start(self, pause: Pause, terminal: Terminal) -> None:
        if self.valkey is not None:
            _end_left_over(
                self._directory.valkey, "valkey", (signal.SIGTERM, signal.SIGKILL), terminal, pause
            )
            terminal.begin("Valkey")
            self._launch(self.valkey.launch(), self.valkey.ready, pause)
            terminal.done()
        if self.postgres is not None:
            self._start_postgres(self.postgres, pause, terminal)

    def _launch(self, launch: Launch, ready: Callable[[], bool], pause: Pause) -> None:
        child = Child(launch)
        self.children.append(child)
        wait_until(ready, child, pause, seconds=_START_SECONDS)

    def _start_postgres(self, postgres: PostgreSQL, pause: Pause, terminal: Terminal) -> None:
        # Fast shutdown first, then immediate shutdown.
        _end_left_over(self._directory.cluster, "postgres", (signal.SIGINT, signal.SIGQUIT), terminal, pause)
        postgres.copy_where_reachable()
        if postgres.new:
            terminal.begin(f"{postgres.binaries}: new cluster")
            postgres.make_cluster(pause)
            terminal.done()
        # Nobody works in the cluster (that was looked at above), so a pid file is left from a crash;
        # its number may belong to a stranger by now, for whose sake PostgreSQL would refuse to start.
        (self._directory.cluster / "postmaster.pid").unlink(missing_ok=True)
        terminal.begin(str(postgres.binaries))
        self._launch(postgres.launch(), postgres.ready, pause)
        postgres.make_role_and_database()
        terminal.done()

    @property
    def database_url(self) -> str:
        """Where the application's database is; raises LookupError when the server is somebody else's."""
        if self.postgres is None:
            raise LookupError("this PostgreSQL is not ours")
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Where the broker is; raises LookupError when the server is somebody else's."""
        if self.valkey is None:
            raise LookupError("this Redis is not ours")
        return self.valkey.url

    def stop_now(self) -> None:
        """Stops both, for a caller without an event loop of its own."""
        self.stop(time.sleep)

    def stop(self, pause: Pause) -> None:
        """Stops both; clients must be gone by now."""
        stop(self.children, pause)
        self.children.clear()


def _end_left_over(
    directory: Path, program: str, stop_signals: Sequence[signal.Signals], terminal: Terminal, pause: Pause
) -> None:
    """Ends servers of an earlier run that still work in this directory, asking with each signal in turn."""
    for stop_signal in stop_signals:
        left_over = host.processes_working_in(directory, program)
        if left_over:
            terminal.say(f"Stopping what an earlier run left behind: {left_over[0]}.")
        for process in left_over:
            host.send(process, stop_signal)
        deadline = time.monotonic() + _STALE_SECONDS
        while host.processes_working_in(directory, program) and time.monotonic() < deadline:
            pause(0.1)
    left_over = host.processes_working_in(directory, program)
    if left_over:
        raise StartError(f"An earlier {program} does not end: {left_over[0]}; end it and start again.")


class _Silent(Terminal):
    """Says nothing: for tests."""

    def say(self, sentence: str) -> None:
        """Drops the sentence."""

    def begin(self, step: str) -> None:
        """Drops the step."""


def start_throwaway_services(path: Path) -> Services:
    """Starts both servers in an empty directory for a test run, fast and without care for power cuts."""
    directory = open_data_directory(path)
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR"}}
    services = Services(directory, environment, durable=False)
    services.start(time.sleep)
    return services


def serve_until_stopped(path: Path, terminal: Terminal) -> None:
    """Runs both servers in the foreground for a developer, and prints what to put into the environment."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    services = start_throwaway_services(path)
    try:
        terminal.say(f"export DATABASE_URL='{services.database_url}'")
        terminal.say(f"export REDIS_URL='{services.redis_url}'")
        signal.pause()
    except KeyboardInterrupt:
        terminal.say("Stopping.")
    finally:
        services.stop_now()
