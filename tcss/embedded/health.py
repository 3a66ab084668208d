"""`python -m tcss.embedded.health web | worker QUEUE | beat`: whether a container's process does its work."""

import argparse
import http.client
import os
import platform
import sys
import time
from pathlib import Path

from tcss import celery_app

# Beat writes its schedule down every three minutes.
_BEAT_SECONDS = 10 * 60


def answering_name(allowed_hosts: str) -> str:
    """A host name the console answers to, of the names it is allowed."""
    first = allowed_hosts.split(",", maxsplit=1)[0].strip().lstrip(".")
    return first if first and first != "*" else "127.0.0.1"


def web_serves(port: int, host_name: str) -> bool:
    """Whether the web process on this port of this machine says that it can serve."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    try:
        connection.request("GET", "/readyz", headers={"Host": host_name})
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def worker_answers(queue: str) -> bool:
    """Whether the worker of that queue on this machine answers through the broker."""
    node = f"{queue}@{platform.node()}"
    answers = celery_app.control.ping(destination=[node], timeout=15)
    return any(node in answer for answer in answers)


def beat_ticks(data_directory: Path) -> bool:
    """Whether beat has written its schedule down lately; the file's ending depends on the system's dbm."""
    files = (data_directory / "beat").glob("schedule*")
    return any(time.time() - file.stat().st_mtime < _BEAT_SECONDS for file in files)


def main(arguments: list[str] | None = None) -> int:
    """0 when the process is well."""
    parser = argparse.ArgumentParser(prog="python -m tcss.embedded.health", description=__doc__)
    parser.add_argument("process", choices=["web", "worker", "beat"])
    parser.add_argument("queue", nargs="?", default="")
    chosen = parser.parse_args(arguments)
    if chosen.process == "web":
        port = int(os.environ.get("TCSS_BIND", "127.0.0.1:8000").rpartition(":")[2])
        well = web_serves(port, answering_name(os.environ.get("TCSS_ALLOWED_HOSTS", "127.0.0.1")))
    elif chosen.process == "worker":
        well = worker_answers(chosen.queue)
    else:
        well = beat_ticks(Path(os.environ["TCSS_DATA_DIR"]))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
