"""What clamd answers is read strictly: whatever a fake says, nothing becomes clean by mistake."""

import dataclasses
import select
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from scanning.engines.clamav_answers import UnexpectedAnswer, in_session, read_verdict, read_version
from scanning.engines.clamav_configuration import check
from scanning.engines.clamav_connection import ClamdUnreachable
from scanning.engines.malware import MalwareKind, Outcome
from scanning.engines.protocol import EngineCrash, Severity
from tests.scanning.clamd import QUICK, Conversation, Peer, fake_clamd


def session_of(*exchanges: Callable[[Peer], None]) -> Conversation:
    """A connection that begins a session, holds these exchanges, and hangs up."""

    def converse(peer: Peer) -> None:
        peer.expect(b"zIDSESSION\0")
        for exchange in exchanges:
            exchange(peer)

    return converse


def content(wanted: bytes, *answers: str) -> Callable[[Peer], None]:
    """Takes this content and says these answers."""

    def exchange(peer: Peer) -> None:
        assert peer.stream() == wanted
        peer.say(*answers)

    return exchange


def console_hangs_up(peer: Peer) -> None:
    assert peer.connection.recv(1) == b"", "the console goes on over this connection"


def hang_up_in_the_middle(peer: Peer) -> None:
    peer.expect(b"zIDSESSION\0zINSTREAM\0")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("stream: Win.Trojan.Agent-1 FOUND", "Win.Trojan.Agent-1"),
        ("fd[12]: Win.Trojan.Agent-1 FOUND", "Win.Trojan.Agent-1"),
        ("stream: Eicar(44d88612fea8a8f36de82e1278abb02f:68) FOUND", "Eicar"),
        ("stream: OK FOUND", "OK"),
        ("stream: /tmp/x: OK FOUND", "/tmp/x: OK"),
        ("stream: a: FOUND FOUND", "a: FOUND"),
        ("stream: No.ERROR FOUND", "No.ERROR"),
        ("stream: <script>alert(1)</script> FOUND", "<script>alert(1)</script>"),
        ("stream: a\x1b[2Jb\n FOUND", "a\\x1b[2Jb\\x0a"),
    ],
)
def test_a_signature_is_recognised_by_how_the_answer_ends(answer: str, name: str) -> None:
    verdict = read_verdict(answer)
    assert verdict.outcome is Outcome.INFECTED
    assert [signature.name for signature in verdict.signatures] == [name]


def test_a_very_long_name_fits_its_column() -> None:
    (signature,) = read_verdict(f"stream: {'Win.Trojan.' * 90} FOUND").signatures
    assert len(signature.name) == 255
    assert (signature.kind, signature.severity) == (MalwareKind.TROJAN, Severity.HIGH)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND", "longer than clamd looks at"),
        ("stream: Heuristics.Limits.Exceeded.MaxScanSize FOUND", "more in it than"),
        ("stream: Heuristics.Limits.Exceeded.MaxFiles FOUND", "more files"),
        ("fd[7]: Heuristics.Limits.Exceeded.MaxRecursion FOUND", "nested"),
        ("stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND", "time"),
        ("stream: Heuristics.Limits.Exceeded.Another FOUND", "one of clamd's limits"),
        ("stream: Heuristics.Limits.Exceeded FOUND", "one of clamd's limits"),
        ("stream: Heuristics.Encrypted.Zip FOUND", "encrypted"),
        ("INSTREAM size limit exceeded. ERROR", "StreamMaxLength"),
        ("stream: Time limit reached ERROR", "time"),
    ],
)
def test_what_was_not_seen_is_neither_clean_nor_infected(answer: str, words: str) -> None:
    verdict = read_verdict(answer)
    assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
    assert verdict.signatures == ()
    assert words in verdict.unscanned


@pytest.mark.parametrize(
    "answer",
    ["stream: Can't allocate memory ERROR", "fd[9]: lstat() failed: No such file or directory. ERROR"],
)
def test_an_error_of_clamd_is_an_error_whose_own_words_are_for_the_log(answer: str) -> None:
    with pytest.raises(EngineCrash) as error:
        read_verdict(answer)
    assert error.value.code == "ENG_CRASH"
    assert error.value.detail in answer
    assert error.value.detail not in error.value.reason + error.value.remedy


@pytest.mark.parametrize(
    "answer",
    [
        "", "OK", "stream:OK", "stream: ok", "stream: OK ", " stream: OK", "stream: OK\n", "PONG", "x: OK",
        "/tmp/x: Eicar FOUND", "stream:  FOUND", "stream: FOUND", "fd[]: OK", "fd[1: OK",
        "stream: OK stream: OK",
        "UNKNOWN COMMAND", "COMMAND UNAVAILABLE", "HTTP/1.1 400 Bad Request", "stream: Eicar FOUND and more",
    ],
)  # fmt: skip
def test_anything_else_is_not_understood(answer: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        read_verdict(answer)


@given(st.text(max_size=80))
def test_no_answer_but_one_is_clean(text: str) -> None:
    for answer in (text, f"stream: {text}", f"{text}stream: OK", f"stream: OK{text}"):
        try:
            verdict = read_verdict(answer)
        except EngineCrash:
            continue
        assert verdict.outcome is not Outcome.CLEAN or answer == "stream: OK"


@pytest.mark.parametrize(
    "answer", ["2: stream: OK", "stream: OK", "1:stream: OK", "1", ": x", "-1: stream: OK"]
)
def test_an_answer_to_another_request_is_not_taken(answer: str) -> None:
    assert in_session("1: stream: OK", 1) == "stream: OK"
    with pytest.raises(UnexpectedAnswer):
        in_session(answer, 1)


def test_the_version_of_the_signatures_and_its_date_are_read() -> None:
    version = read_version("ClamAV 1.4.6/27850/Mon Nov  2 08:25:12 2026| COMMANDS: SCAN PING INSTREAM")
    assert (version.engine.version, version.signatures) == ("1.4.6", "27850")
    assert version.updated_at == datetime(2026, 11, 2, 8, 25, 12, tzinfo=UTC)
    assert version.commands == {"SCAN", "PING", "INSTREAM"}
    assert version.of_signatures.age_days(datetime(2026, 11, 12, 8, 25, 12, tzinfo=UTC)) == 10
    assert read_version("ClamAV 1.0.7-beta").updated_at is None


@pytest.mark.parametrize(
    "answer",
    ["", "ClamAV", "Sophos 1.0", "ClamAV 1.4.6/27850/yesterday", "ClamAV 1.4.6/1/Mon Foo  2 08:25:12 2026",
     "ClamAV 1.4.6/1/Mon Feb 31 08:25:12 2026", "COMMAND UNAVAILABLE", "ClamAV 1.4.6\nmore"],
)  # fmt: skip
def test_a_version_that_is_none_is_not_understood(answer: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        read_version(answer)


def test_contents_of_a_session_are_numbered_on_one_connection() -> None:
    conversation = session_of(
        content(b"one", "1: stream: OK"),
        content(b"", "2: stream: Php.Webshell.X FOUND"),
        content(b"x" * 2_500_000, "3: stream: OK"),
    )
    with fake_clamd(conversation) as clamd, clamd.session() as session:
        judged = [session.judge(each).outcome for each in (b"one", b"", b"x" * 2_500_000)]
    assert judged == [Outcome.CLEAN, Outcome.INFECTED, Outcome.CLEAN]


@pytest.mark.parametrize("farewell", [(), ("COMMAND READ TIMED OUT",)])
def test_a_session_that_clamd_ended_while_idle_goes_on_over_another_connection(farewell: tuple[str]) -> None:
    first = session_of(content(b"one", "1: stream: OK"), lambda peer: peer.say(*farewell))
    second = session_of(content(b"two", "1: stream: X FOUND"))
    with fake_clamd(first, second) as clamd, clamd.session() as session:
        assert session.judge(b"one").outcome is Outcome.CLEAN
        # Until the hanging up has arrived.
        select.select([session._connection._socket], [], [], 10)
        assert session.judge(b"two").outcome is Outcome.INFECTED


def test_a_content_is_sent_again_when_clamd_hangs_up_in_the_middle() -> None:
    whole = session_of(content(b"x" * 3_000_000, "1: stream: OK"))
    broken = hang_up_in_the_middle
    with fake_clamd(broken, broken, whole) as clamd, clamd.session() as session:
        assert session.judge(b"x" * 3_000_000).outcome is Outcome.CLEAN


def test_after_three_more_tries_it_is_an_error() -> None:
    four = [hang_up_in_the_middle] * 4
    with (
        fake_clamd(*four) as clamd,
        clamd.session() as session,
        pytest.raises(ClamdUnreachable, match="hung up"),
    ):
        session.judge(b"content")


def test_an_answer_that_comes_before_its_content_ends_the_connection() -> None:
    # Else the next content would get the answer of the one before.
    early = session_of(content(b"one", "1: stream: OK", "2: stream: OK"))
    second = session_of(content(b"two", "1: stream: X FOUND"))
    with fake_clamd(early, second) as clamd, clamd.session() as session:
        assert session.judge(b"one").outcome is Outcome.CLEAN
        assert session.judge(b"two").outcome is Outcome.INFECTED


@pytest.mark.parametrize("answer", ["2: stream: OK", "stream: OK", "1: /tmp/x: OK", "1: PONG"])
def test_a_wrong_answer_is_an_error_and_ends_the_connection(answer: str) -> None:
    wrong = session_of(content(b"one", answer), console_hangs_up)
    right = session_of(content(b"two", "1: stream: OK"))
    with fake_clamd(wrong, right) as clamd, clamd.session() as session:
        with pytest.raises(UnexpectedAnswer):
            session.judge(b"one")
        assert session.judge(b"two").outcome is Outcome.CLEAN


def test_an_answer_without_an_end_is_cut_off() -> None:
    def flood(peer: Peer) -> None:
        peer.stream()
        hung_up = False
        while not hung_up:
            try:
                peer.connection.sendall(b"1: stream: " * 1_000)
            except (BrokenPipeError, ConnectionResetError):
                hung_up = True

    with (
        fake_clamd(session_of(flood)) as clamd,
        clamd.session() as session,
        pytest.raises(UnexpectedAnswer),
    ):
        session.judge(b"one")


def test_a_content_that_takes_too_long_is_not_fully_scanned_while_clamd_itself_answers() -> None:
    def wait(peer: Peer) -> None:
        peer.stream()
        console_hangs_up(peer)

    def pong(peer: Peer) -> None:
        peer.expect(b"zPING\0")
        peer.say("PONG")

    with fake_clamd(session_of(wait), pong) as clamd:
        hurried = dataclasses.replace(clamd, limits=dataclasses.replace(QUICK, content_seconds=0.3))
        with hurried.session() as session:
            verdict = session.judge(b"one")
    assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
    assert "not done with it after 0.3 seconds" in verdict.unscanned


def test_a_clamd_without_sessions_is_refused() -> None:
    def commands(peer: Peer) -> None:
        peer.expect(b"zVERSIONCOMMANDS\0")
        peer.say("ClamAV 0.95| COMMANDS: SCAN PING INSTREAM")

    with fake_clamd(commands) as clamd, pytest.raises(EngineCrash, match="IDSESSION"):
        check(clamd)


def test_what_is_no_clamd_is_not_understood() -> None:
    def http(peer: Peer) -> None:
        peer.expect(b"zPING\0")
        peer.say("HTTP/1.1 400 Bad Request\r\n")

    with fake_clamd(http) as clamd, pytest.raises(UnexpectedAnswer) as error:
        clamd.ping()
    assert "HTTP" not in error.value.reason + error.value.remedy
