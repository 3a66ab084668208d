"""The ClamAV engine with a real clamd: what is found, what is not seen, and a clamd that stops or dies."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanning.engines.clamav import Clamd, Limits, Session
from scanning.engines.clamav_configuration import check, configuration
from scanning.engines.clamav_connection import ClamdUnreachable, TcpAddress, UnixAddress
from scanning.engines.malware import MalwareKind, Outcome
from scanning.engines.protocol import EngineCancelled, EngineCrash, EngineTimeout
from tests.scanning.clamd import MARK, QUICK, Running, real_clamd
from tests.scanning.samples import EICAR, encrypted, tarred, zipped

WAYS = ["descriptors", "streams", "tcp"]


@pytest.fixture(scope="module")
def clamd() -> Iterator[Running]:
    """One with our own configuration, which no test may stop."""
    with real_clamd() as running:
        yield running


@pytest.fixture(params=WAYS)
def session(clamd: Running, request: pytest.FixtureRequest) -> Iterator[Session]:
    with clamd.over(request.param).session() as session:
        yield session


def test_clamd_says_its_version_and_that_its_signatures_have_none(clamd: Running) -> None:
    reached = clamd.over("streams")
    reached.ping()
    version = reached.version()
    assert version.engine.name == "clamav"
    assert version.engine.version.startswith("1.")
    # Only the official databases carry a number and a date.
    assert (version.signatures, version.updated_at) == ("", None)


def test_every_way_of_sending_finds_the_same(session: Session, tmp_path: Path) -> None:
    contents = {
        b"": Outcome.CLEAN,
        b"hello": Outcome.CLEAN,
        b"x" * 3_000_000: Outcome.CLEAN,
        b"x" * 2_500_000 + MARK: Outcome.INFECTED,
        EICAR: Outcome.INFECTED,
        zipped(EICAR): Outcome.INFECTED,
        tarred(zipped(EICAR)): Outcome.INFECTED,
        zipped(EICAR, depth=20): Outcome.INFECTED,
        zipped(EICAR, "stream: OK FOUND: OK"): Outcome.INFECTED,
        zipped(b"hello", "x: Eicar FOUND"): Outcome.CLEAN,
        encrypted(b"secret"): Outcome.NOT_FULLY_SCANNED,
        zipped(EICAR, depth=70): Outcome.NOT_FULLY_SCANNED,
    }
    path = tmp_path / "content: Eicar FOUND"
    for content, outcome in contents.items():
        path.write_bytes(content)
        judged = [session.judge(content), session.judge(memoryview(content)), session.judge_file(path)]
        assert [verdict.outcome for verdict in judged] == [outcome] * 3, content[:60]


def test_what_is_found_has_a_name_a_kind_and_a_severity(session: Session) -> None:
    (eicar,) = session.judge(EICAR).signatures
    assert eicar.name == "Eicar-Test-Signature.UNOFFICIAL"
    assert eicar.kind is MalwareKind.TEST_FILE
    (marked,) = session.judge(MARK).signatures
    assert (marked.name, marked.kind.label) == ("Unix.Trojan.Marked-1.UNOFFICIAL", "Trojan")


def test_a_file_larger_than_clamd_looks_at_is_not_fully_scanned(clamd: Running, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.seek(3 * 2**30)
        file.write(EICAR)
    with clamd.over("descriptors").session() as session:
        verdict = session.judge_file(path)
    assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
    assert verdict.unscanned == (
        "ClamAV did not see all of it: it, or a file in it, is longer than clamd looks at."
    )


def test_a_content_that_was_given_in_part_is_not_clean(session: Session) -> None:
    assert session.judge(b"head", size=5).outcome is Outcome.NOT_FULLY_SCANNED
    infected = session.judge(EICAR, size=3 * 2**30)
    assert infected.outcome is Outcome.INFECTED
    assert infected.unscanned


def test_many_contents_go_over_one_connection_each_with_its_own_answer(session: Session) -> None:
    infected = {number for number in range(300) if number % 7 == 0}
    judged = {
        number
        for number in range(300)
        if session.judge(b"%d " % number + (MARK if number in infected else b"")).signatures
    }
    assert judged == infected


@pytest.mark.parametrize("way", WAYS)
def test_our_configuration_has_no_shortcoming(clamd: Running, way: str) -> None:
    result = check(clamd.over(way))
    assert (result.tells_excess, result.shortcomings) == (True, ())
    assert "INSTREAM" in result.version.commands


@pytest.mark.parametrize("way", ["streams", "tcp"])
def test_a_clamd_with_its_own_limits_is_told_of_and_its_refusals_are_understood(way: str) -> None:
    own = dict.fromkeys(("MaxScanSize", "MaxFileSize", "MaxFiles", "MaxRecursion"), "")
    with real_clamd(**own, AlertExceedsMax="no", StreamMaxLength="4M") as running:
        result = check(running.over(way))
        assert result.tells_excess is False
        reasons = [shortcoming.reason for shortcoming in result.shortcomings]
        assert "exceed its limits" in reasons[0]
        assert "2000 MiB" in reasons[1]
        with running.over(way).session() as session:
            # What is refused ends the connection; the next content goes over another.
            for content in (bytes(40_000_000), bytes(4 * 2**20 + 1)):
                verdict = session.judge(content)
                assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
                assert "StreamMaxLength" in verdict.unscanned
                assert session.judge(EICAR).outcome is Outcome.INFECTED


def test_a_clamd_that_died_is_an_error_until_it_is_back() -> None:
    with real_clamd() as running, running.over("descriptors").session() as session:
        assert session.judge(b"hello").outcome is Outcome.CLEAN
        running.stop()
        with pytest.raises(ClamdUnreachable) as error:
            session.judge(EICAR)
        assert (error.value.code, str(running.socket) in error.value.reason) == ("ENG_CRASH", True)
        assert error.value.remedy
        running.start()
        assert session.judge(EICAR).outcome is Outcome.INFECTED


def test_a_clamd_that_comes_back_in_time_costs_nothing_but_the_wait() -> None:
    with real_clamd() as running:
        waiting = Limits(pauses=(0, 0.3, 0.3, *(0.3,) * 60))
        with running.over("streams", waiting).session() as session:
            assert session.judge(b"hello").outcome is Outcome.CLEAN
            running.stop()
            restart = threading.Thread(target=running.start)
            restart.start()
            assert session.judge(EICAR).outcome is Outcome.INFECTED
            restart.join()


def test_a_stopped_clamd_is_a_timeout_and_a_cancelled_scan_does_not_wait_for_it() -> None:
    with real_clamd() as running:
        short = Limits(connect_seconds=1, question_seconds=0.5, content_seconds=0.5, pauses=())
        with running.over("streams", short).session() as session:
            session.judge(b"hello")
            running.signal(signal.SIGSTOP)
            with pytest.raises(EngineTimeout) as error:
                session.judge(EICAR)
            assert error.value.code == "ENG_TIMEOUT"
        answers = iter([True] * 3)
        with running.over("streams").session(lambda: next(answers, False)) as session:
            began = time.monotonic()
            with pytest.raises(EngineCancelled):
                session.judge(EICAR)
            assert time.monotonic() - began < 5
        running.signal(signal.SIGCONT)
        with running.over("streams").session() as session:
            assert session.judge(EICAR).outcome is Outcome.INFECTED


def test_new_signatures_count_after_a_reload_in_the_same_session() -> None:
    with real_clamd() as running, running.over("streams").session() as session:
        content = b"something new"
        assert session.judge(content).outcome is Outcome.CLEAN
        more = f"Unix.Coinminer.New-1:0:*:{content.hex()}\n"
        (running.folder / "signatures" / "more.ndb").write_text(more)
        assert running.over("streams").question("RELOAD") == "RELOADING"
        deadline = time.monotonic() + 20
        while (verdict := session.judge(content)).outcome is Outcome.CLEAN:
            assert time.monotonic() < deadline, "the new signature is not in use"
            # clamd answers on with the old ones meanwhile.
            time.sleep(0.05)
        assert verdict.signatures[0].kind is MalwareKind.MINER


@pytest.fixture
def without_rights(tmp_path: Path) -> Iterator[Path]:
    """A folder that whoever runs the test may not look into."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65_534)
    yield folder
    if was_root:
        os.seteuid(0)
    folder.chmod(0o700)


def test_a_socket_that_this_user_may_not_reach_is_told_apart(without_rights: Path) -> None:
    with pytest.raises(EngineCrash, match="may not be reached by this user") as error:
        Clamd(UnixAddress(without_rights / "clamd.socket"), QUICK).ping()
    assert not isinstance(error.value, ClamdUnreachable)
    assert "group" in error.value.remedy


@pytest.mark.parametrize(
    "address", [UnixAddress(Path("/nonexistent/clamd")), TcpAddress("127.0.0.1", 1), TcpAddress("::1", 1)]
)
def test_where_nothing_listens_the_failure_names_the_address(address: UnixAddress | TcpAddress) -> None:
    with pytest.raises(ClamdUnreachable) as error, Clamd(address, QUICK).session() as session:
        session.judge(b"hello")
    assert str(address) in error.value.reason


def test_a_path_that_cannot_stand_in_the_configuration_is_refused(tmp_path: Path) -> None:
    good = {"database": tmp_path, "temporary": tmp_path, "threads": 2}
    assert f"LocalSocket {tmp_path}/s\n" in configuration(tmp_path / "s", **good)
    for bad in ("relative", "/with\nAllowSupplementaryGroups yes", "/with#comment", '/with"quote'):
        with pytest.raises(ValueError, match="LocalSocket"):
            configuration(Path(bad), **good)
