"""The settings gunicorn reads: threads, the address it listens on, and workers that die with their master."""

import os
import signal
from typing import Any

from tcss.embedded.parent import die_with_parent

# The supervisor hands an open socket over (fd://3); a container listens by itself.
bind = [os.environ.get("TCSS_BIND", "127.0.0.1:8000")]
worker_class = "gthread"
workers = 2
threads = 4
preload_app = False
timeout = 60
graceful_timeout = 8
keepalive = 5
# A worker is replaced now and then, at different times, so that a leak cannot grow for weeks.
max_requests = 20_000
max_requests_jitter = 2_000
accesslog = None
errorlog = "-"
# Its default place is one file in the home directory, shared by every gunicorn of this user.
control_socket_disable = True
# gunicorn's heartbeat files: on a disk that stalls they would make it kill healthy workers.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def post_fork(_server: Any, worker: Any) -> None:
    """A worker whose master is killed does not outlive it."""
    die_with_parent(signal.SIGTERM, parent=worker.ppid)
