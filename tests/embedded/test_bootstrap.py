"""What `make` does before there is an environment: the lock files and the bootstrap script."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "id", "cat", "sha256sum", "cut", "grep", "awk", "tee", "tail", "rm")


def pins(lock: str) -> dict[str, str]:
    """Name and exact version of everything a lock file installs."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but what the script reads, and a PATH folder without any Python."""
    (tmp_path / "tcss/embedded").mkdir(parents=True)
    shutil.copy(ROOT / "tcss/embedded/bootstrap", tmp_path / "tcss/embedded/bootstrap")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    return tmp_path


def refusal(checkout: Path) -> str:
    """What the script says when it gives up."""
    ended = subprocess.run(
        ["sh", "tcss/embedded/bootstrap", "runtime"],
        cwd=checkout,
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert not (checkout / ".venv").exists()
    return ended.stderr


def python_that(checkout: Path, script: str) -> None:
    """Puts a program named python3 on the PATH."""
    program = checkout / "bin" / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_development_lock_installs_what_the_console_runs_with() -> None:
    console, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert len(console) > 40
    assert {name: development.get(name) for name in console} == console


def test_every_pin_has_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        entries = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
        assert len(entries) == len(pins(lock))
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_no_python_is_said_with_the_packages_to_install(checkout: Path) -> None:
    assert "no python3 was found; on Debian: apt-get install python3 python3-venv" in refusal(checkout)


def test_an_old_python_is_said_with_its_version_and_how_to_name_another(checkout: Path) -> None:
    python_that(checkout, 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi')
    told = refusal(checkout)
    assert "Python 3.11 or newer is needed, and this is Python 3.9.2" in told
    assert "make PYTHON=" in told


def test_a_python_without_its_venv_module_is_said_with_the_package(checkout: Path) -> None:
    python_that(checkout, 'case "$2" in *ensurepip*) exit 1;; *print*) echo python3.11-venv;; esac')
    told = refusal(checkout)
    assert "Python's own module venv is missing" in told
    assert "python3.11-venv on Debian" in told
