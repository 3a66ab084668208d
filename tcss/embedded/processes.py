"""The process table of an installation: the supervisor runs it, docker-compose.yml is held against it."""

import signal
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of the console. `{name}` in an argument stands for a value of the installation.

    `command` begins with the word python, which the supervisor replaces by its own interpreter.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    queue: str = ""
    one_shot: bool = False
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One database server: `container` is its name in the compose file."""

    name: str
    container: str


@dataclass(frozen=True, kw_only=True)
class ProcessTable:
    """Everything an installation runs in the order it starts; `stop_order` is the order its groups end in."""

    services: tuple[Service, ...]
    processes: tuple[Process, ...]
    stop_order: tuple[tuple[str, ...], ...]
    # Every application process gets these; secrets come by file.
    environment: tuple[str, ...] = field(default=())
    secret_files: tuple[str, ...] = field(default=())

    def process(self, name: str) -> Process:
        """The application process of that name; raises KeyError."""
        return {process.name: process for process in self.processes}[name]


def _worker(queue: str, *options: str, stop_seconds: float) -> Process:
    return Process(
        name=f"worker-{queue}",
        command=(
            *("python", "-m", "celery", "-A", "tcss", "worker", "--queues", queue),
            *("--hostname", f"{queue}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
            *options,
        ),
        needs=("migrate",),
        queue=queue,
        # The first asks it to finish what runs, the second to stop now; the database takes the rest up again.
        stop_signals=(signal.SIGTERM, signal.SIGQUIT),
        stop_seconds=stop_seconds,
    )


TABLE = ProcessTable(
    services=(Service(name="postgres", container="postgres"), Service(name="valkey", container="redis")),
    processes=(
        Process(
            name="migrate",
            command=("python", "manage.py", "migrate", "--no-input"),
            needs=("postgres", "valkey"),
            one_shot=True,
        ),
        Process(
            name="web",
            command=("python", "-m", "gunicorn", "--config", "python:tcss.embedded.web", "tcss.wsgi"),
            needs=("migrate",),
        ),
        _worker("scan", "--concurrency", "{scan_concurrency}", stop_seconds=10.0),
        _worker("malware", "--concurrency", "{scan_concurrency}", stop_seconds=10.0),
        _worker("sync", "--concurrency", "2", stop_seconds=10.0),
        _worker("control", "--pool", "solo", stop_seconds=5.0),
        Process(
            name="beat",
            command=(
                *("python", "-m", "celery", "-A", "tcss", "beat", "--loglevel", "INFO"),
                *("--schedule", "{data_dir}/beat/schedule"),
            ),
            needs=("migrate",),
        ),
    ),
    stop_order=(
        ("web", "beat"),
        ("worker-control", "worker-sync", "worker-malware", "worker-scan", "demo-registry", "demo-cloud"),
        ("clamd",),
        ("valkey",),
        ("postgres",),
    ),
    environment=(
        "REDIS_URL",
        "TCSS_ALLOWED_HOSTS",
        "TCSS_BIND",
        "TCSS_DATA_DIR",
        "TCSS_PUBLIC_URL",
        "TCSS_SCAN_CONCURRENCY",
    ),
    secret_files=("DATABASE_URL_FILE", "TCSS_FIELD_KEYS_FILE", "TCSS_SECRET_KEY_FILE"),
)
