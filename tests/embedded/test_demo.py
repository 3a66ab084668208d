"""`make demo` from an empty data directory, cut off in the middle of a scan and started again."""

import re
from pathlib import Path

import pytest

from tests.embedded.running_console import Console, descendants, still_there, within

pytestmark = pytest.mark.faults

_ROW = re.compile(r"^(\S+:\S+) +(Scanned|Scan exception|Not scanned|Scanning|Cancelled)(.*)$", re.MULTILINE)


def engine_runs(processes: set[tuple[int, str]]) -> bool:
    """Whether one of the processes is the scan engine."""
    for pid, _ in processes:
        command = Path(f"/proc/{pid}/comm")
        try:
            if command.read_text().strip() == "trivy":
                return True
        except OSError:
            continue
    return False


def test_the_demo_cut_off_in_a_scan_leaves_nothing_and_ends_scanned_when_started_again(place: Path) -> None:
    data = place / "data"
    first = Console(data, place / "first", verb="demo")
    try:
        within(
            150,
            lambda: "Scanning [" in first.said() and engine_runs(descendants(first.process.pid)),
            "the engine runs",
        )
        everything = descendants(first.process.pid)
        first.process.kill()
        within(10, lambda: not still_there(everything), "every process has ended")
    finally:
        first.end()

    second = Console(data, place / "second", verb="demo")
    try:
        within(
            300, lambda: "Running: " in second.said() or second.process.poll() is not None, "the demo is done"
        )
        said = second.said()
        assert "The demo is not complete" not in said
        # Said only once, at the start that made the account.
        assert "Log in as admin" in first.said()
        assert "Log in as admin" not in said
        # The demo is looked at as an operator, whose login is said each time.
        (login,) = re.findall(r"Log in as operator with the password (\S+) \(", said)
        assert login == (data / "secrets" / "operator-password").read_text()
        rows = _ROW.findall(said)
        assert len(rows) >= 20
        unscanned = [(image, status, cause) for image, status, cause in rows if status != "Scanned"]
        assert [image for image, _, _ in unscanned] == ["payments/gateway:5.0.1"]
        _, status, cause = unscanned[0]
        assert status == "Scan exception"
        assert "IMG_DIGEST" in cause
        second.end()
        assert second.process.returncode == 0
    finally:
        second.end()
