"""Log lines: nothing that comes from outside begins a line of its own or reaches the terminal."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tcss.log import LineFormatter

FORGED = "2026-01-01T00:00:00+0000 ERROR root: nothing happened"
HOSTILE = f"name\r\n{FORGED}\x1b[31m\x9b31m"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logging.getLogger("hostile").addHandler(handler)
    yield stream
    logging.getLogger("hostile").removeHandler(handler)


def test_a_name_with_a_newline_cannot_forge_an_event(written: io.StringIO) -> None:
    logging.getLogger("hostile").warning("A layer was left out: %s", HOSTILE, extra={"layer": HOSTILE})
    assert len(written.getvalue().splitlines()) == 1
    assert written.getvalue().rstrip("\n").isprintable()


def test_an_error_with_a_newline_cannot_forge_an_event(written: io.StringIO) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("hostile").exception("A scan failed")
    first, *rest = written.getvalue().splitlines()
    assert first.endswith("ERROR hostile: A scan failed")
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    assert FORGED in written.getvalue()


def test_a_worker_writes_its_events_with_their_fields_and_on_one_line() -> None:
    program = (
        "import django, logging; django.setup()\n"
        "from tcss.celery import app\n"
        "app.log.setup(loglevel='INFO')\n"
        "logging.getLogger('hostile').warning('A layer was left out', extra={'layer': 'a\\nb'})\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tcss.settings"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = [line for line in ran.stderr.splitlines() if "A layer was left out" in line]
    assert line.endswith("WARNING hostile: A layer was left out layer=a\\x0ab")
