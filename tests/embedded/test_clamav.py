"""The virus engine of the zero-setup mode: started where it can run, said where it cannot."""

import os
import signal
from pathlib import Path

import pytest

from scanning.engines.clamav_signatures import ClamavSignatures
from tcss.embedded import host
from tcss.embedded.clamav import Clamd
from tcss.embedded.data_directory import open_data_directory
from tcss.embedded.installation import Installation, read_options
from tcss.embedded.problems import StartError
from tests.embedded.running_console import descendants, started, still_there, within


@pytest.fixture
def clamd(place: Path) -> Clamd:
    directory = open_data_directory(place / "data")
    return Clamd(Installation(directory, read_options({}), {"PATH": os.environ["PATH"]}))


def give_signatures(place: Path) -> None:
    file = place / "marked.ndb"
    file.write_text("Unix.Trojan.Marked-1:0:*:6120776f7264206f66206f7572206f776e\n")
    ClamavSignatures(place / "data" / "clamav").import_file(file)


def test_without_signatures_clamd_is_not_started_and_the_remedy_is_said(clamd: Clamd) -> None:
    with pytest.raises(StartError, match="malware_db"):
        clamd.demand()


def test_with_signatures_it_can_be_started(clamd: Clamd, place: Path) -> None:
    give_signatures(place)
    assert clamd.demand().name == "clamd"
    assert not clamd.ready()


def test_without_memory_for_the_signatures_it_is_not_started(
    clamd: Clamd, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_signatures(place)
    monkeypatch.setattr(host, "available_megabytes", lambda: 50)
    with pytest.raises(StartError, match=r"106 MB of memory .* and 50 MB are free"):
        clamd.demand()


def test_the_memory_of_this_machine_is_known() -> None:
    assert host.available_megabytes() > 50


def test_where_clamav_is_not_installed_the_package_is_named(
    clamd: Clamd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StartError, match="apt-get install clamav-daemon"):
        clamd.demand()


@pytest.mark.faults
def test_clamd_runs_beside_the_workers_who_know_where_and_comes_back_when_it_dies(place: Path) -> None:
    give_signatures(place)
    with started(place / "data", place / "output") as console:
        assert "Only YARA looks" not in console.said()
        address = f"TCSS_CLAMD_ADDRESS={place / 'data' / 'run' / 'clamd.sock'}"
        worker = console.child("--queues malware")
        assert address in Path(f"/proc/{worker}/environ").read_text().split("\0")
        victim = console.child("clamd.conf")
        assert "TCSS" not in Path(f"/proc/{victim}/environ").read_text()
        os.kill(victim, signal.SIGKILL)
        within(30, lambda: "clamd was started again." in console.said(), "clamd again")
        everything = descendants(console.process.pid)
        os.kill(console.process.pid, signal.SIGINT)
        assert console.process.wait(60) == 0
        assert still_there(everything) == set()


@pytest.mark.faults
def test_a_clamd_that_cannot_start_does_not_keep_the_console_from_it(place: Path) -> None:
    give_signatures(place)
    (place / "data" / "clamav" / "current" / "marked.ndb").write_text("garbage\n")
    with started(place / "data", place / "output") as console:
        assert "Only YARA looks for viruses and trojans: clamd ended while starting." in console.said()
        worker = console.child("--queues malware")
        assert "TCSS_CLAMD_ADDRESS" not in Path(f"/proc/{worker}/environ").read_text()
