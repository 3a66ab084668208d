"""`make run` as it is used: real processes, real signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from tcss.embedded import host
from tests.embedded.running_console import (
    ROOT,
    Console,
    descendants,
    environment_for,
    started,
    still_there,
    within,
)

pytestmark = pytest.mark.faults


def refusal(data: Path, **variables: str) -> str:
    """What a console that cannot start says."""
    ended = subprocess.run(
        [sys.executable, "-m", "tcss.embedded", "run"],
        cwd=ROOT,
        env=environment_for(data, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def database_address(data: Path) -> str:
    return (data / "secrets" / "database-url").read_text()


def look_at_rights(data: Path, processes: set[tuple[int, str]]) -> None:
    """Secrets and sockets are their owner's alone, and no secret is in an argument."""
    assert (data / "secrets").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (data / "secrets").iterdir()} == {0o600}
    assert (data / "run" / "postgres").stat().st_mode & 0o777 == 0o700
    assert (data / "run" / "valkey.sock").stat().st_mode & 0o777 == 0o700
    secrets = [file.read_text() for file in (data / "secrets").iterdir()]
    for pid, _ in processes:
        arguments = Path(f"/proc/{pid}/cmdline").read_text()
        assert not [secret for secret in secrets if secret in arguments]


def test_a_first_start_serves_pages_and_ctrl_c_ends_every_process(place: Path) -> None:
    data = place / "data"
    with started(data, place / "output") as console:
        assert console.status_of("/readyz") == 200
        assert console.status_of("/login/") == 200
        assert console.said().count("Log in as admin with the password") == 1
        everything = descendants(console.process.pid)
        assert len(everything) > 12
        look_at_rights(data, everything)
        os.kill(console.process.pid, signal.SIGINT)
        assert console.process.wait(60) == 0
        assert still_there(everything) == set()
    assert console.said().rstrip().endswith("Stopped.")


def test_kill_nine_of_the_supervisor_leaves_nothing_and_the_data_is_there_again(place: Path) -> None:
    data = place / "data"
    with started(data, place / "output") as console:
        with psycopg2.connect(database_address(data)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        everything = descendants(console.process.pid)
        console.process.kill()
        within(10, lambda: not still_there(everything), "every process has ended")
        assert host.listener_on(console.port) is None
    with started(data, place / "again") as console:
        assert console.status_of("/readyz") == 200
        assert "Log in as admin" not in console.said()
        with psycopg2.connect(database_address(data)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT answer FROM kept")
            assert cursor.fetchone() == (42,)


def test_what_crashes_is_started_again_and_takes_its_children_along(place: Path) -> None:
    with started(place / "data", place / "output") as console:
        for words, name in (
            ("-m gunicorn", "web"),
            ("--queues scan", "worker-scan"),
            ("valkey-server", "valkey"),
            ("postgres -D", "postgres"),
        ):
            victim = console.child(words)
            below = descendants(victim)
            os.kill(victim, signal.SIGKILL)
            within(30, lambda name=name: f"{name} was started again." in console.said(), f"{name} again")
            within(10, lambda below=below: not still_there(below), f"the children of {name} have ended")
        within(60, lambda: console.status_of("/readyz") == 200, "pages are served again")


def test_a_second_ctrl_c_ends_at_once_what_would_not_stop(place: Path) -> None:
    with started(place / "data", place / "output") as console:
        everything = descendants(console.process.pid)
        # A worker that hears nothing would be waited for.
        os.kill(console.child("--queues scan"), signal.SIGSTOP)
        os.kill(console.process.pid, signal.SIGINT)
        within(10, lambda: "Ctrl-C again" in console.said(), "the stop has begun")
        os.kill(console.process.pid, signal.SIGINT)
        assert console.process.wait(8) == 0
        assert "Stopping at once." in console.said()
        within(5, lambda: not still_there(everything), "every process has ended")


def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing(place: Path) -> None:
    console = Console(place / "data", place / "output")
    try:
        within(60, lambda: "Database tables" in console.said(), "the tables are being made")
        everything = descendants(console.process.pid)
        assert everything
        os.kill(console.process.pid, signal.SIGINT)
        assert console.process.wait(60) == 0
        assert still_there(everything) == set()
    finally:
        console.end()


def test_a_second_console_on_the_same_data_is_told_which_process_has_it(place: Path) -> None:
    data = place / "data"
    first = Console(data, place / "output")
    try:
        within(
            60, lambda: (data / "lock").exists() and (data / "lock").read_text().strip(), "the lock is taken"
        )
        told = refusal(data)
        assert f"process {first.process.pid}" in told
        assert "TCSS_DATA_DIR" in told
    finally:
        first.end()


def test_a_taken_port_is_said_with_its_holder_and_the_way_out(place: Path) -> None:
    with host.listen(0) as listener:
        port = listener.getsockname()[1]
        told = refusal(place / "data", TCSS_PORT=str(port))
    assert f"Port {port} is taken by process {os.getpid()}" in told
    assert f"TCSS_PORT={port + 1} make run" in told


def test_a_data_directory_that_cannot_be_made_is_said_before_anything_starts(place: Path) -> None:
    (place / "file").touch()
    told = refusal(place / "file" / "data")
    assert "cannot be written (Not a directory)" in told
    assert "TCSS_DATA_DIR" in told


@pytest.mark.parametrize("port", ["eighty", "-1", "65536", "８０"])
def test_a_port_that_is_no_port_is_refused_by_name(place: Path, port: str) -> None:
    assert "TCSS_PORT must be a whole number" in refusal(place / "data", TCSS_PORT=port)


def test_an_address_of_a_database_that_does_not_answer_is_said(place: Path) -> None:
    told = refusal(place / "data", DATABASE_URL=f"postgres://nobody:hidden@/none?host={place}")
    assert "DATABASE_URL cannot be used" in told
    assert "hidden" not in told
