"""One installation on this machine: its environment, its commands, how its processes are started."""

import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis

from tcss.embedded.children import Launch
from tcss.embedded.data_directory import DataDirectory
from tcss.embedded.health import answering_name
from tcss.embedded.problems import StartError
from tcss.embedded.processes import TABLE, Process
from tcss.embedded.services import Services

ROOT = Path(__file__).resolve().parents[2]
ADMINISTRATOR = "admin"
OPERATOR = "operator"
# Easily confused letters and digits are left out: the password is read from a screen once.
_PASSWORD_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # noqa: S105
_FOR_THE_START = frozenset(
    {
        "TCSS_ADMIN_PASSWORD",
        "TCSS_ADMIN_PASSWORD_FILE",
        "TCSS_TENCENT_SECRET_KEY",
        "TCSS_TENCENT_SECRET_KEY_FILE",
        "DEMO_OPERATOR_PASSWORD",
        "DEMO_ROBOT_SECRET",
        "DEMO_TENCENT_SECRET_KEY",
        "DEMO_TENCENT_PASSWORD",
    }
)
_CLOUD_ACCOUNT = ("TCSS_TENCENT_SECRET_ID", "TCSS_TENCENT_SECRET_ID_FILE")


@dataclass(frozen=True)
class Options:
    """What the person who starts the console may choose, read from the environment."""

    data_directory: Path
    port: int
    scan_concurrency: int


def read_options(environment: dict[str, str]) -> Options:
    """The options in an environment; raises StartError for a value that cannot be meant."""
    return Options(
        data_directory=Path(environment.get("TCSS_DATA_DIR", "").strip() or ROOT / ".data"),
        port=_number(environment, "TCSS_PORT", 8000, maximum=65535),
        scan_concurrency=_number(environment, "TCSS_SCAN_CONCURRENCY", 2, maximum=64) or 1,
    )


def _number(environment: dict[str, str], name: str, default: int, *, maximum: int) -> int:
    text = environment.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise StartError(f"{name} must be a whole number from 0 to {maximum}, not {text!r}.")
    return int(text)


def own_servers_wanted(environment: dict[str, str]) -> tuple[bool, bool]:
    """Whether PostgreSQL and Valkey are ours to start: not where an address was given."""
    return (
        not (environment.get("DATABASE_URL") or environment.get("DATABASE_URL_FILE")),
        not (environment.get("REDIS_URL") or environment.get("REDIS_URL_FILE")),
    )


class Installation:
    """What is true for one data directory while the supervisor runs it."""

    def __init__(self, directory: DataDirectory, options: Options, environment: dict[str, str]) -> None:
        self.directory = directory
        self.options = options
        self.generated_password = ""
        self.port = options.port
        self._listener: tuple[int, ...] = ()
        self._environment = {
            # A library's settings for other databases are not meant for ours.
            **{name: value for name, value in environment.items() if not name.startswith("PG")},
            "TCSS_EMBEDDED": "1",
            "TCSS_DATA_DIR": str(directory.path),
            "TCSS_SCAN_CONCURRENCY": str(options.scan_concurrency),
            "PYTHONUNBUFFERED": "1",
        }
        self._environment.setdefault("TCSS_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
        for name, file in (("TCSS_SECRET_KEY", "secret-key"), ("TCSS_FIELD_KEYS", "field-keys")):
            if not (environment.get(name) or environment.get(f"{name}_FILE")):
                self._environment[f"{name}_FILE"] = str(directory.secret(file))

    def set(self, name: str, value: str) -> None:
        """Gives every process started from now on another variable."""
        self._environment[name] = value

    @property
    def host_name(self) -> str:
        """A host name the web process answers to."""
        return answering_name(self._environment["TCSS_ALLOWED_HOSTS"])

    def use_services(self, services: Services) -> None:
        """Points every process at the servers this installation runs itself."""
        if services.postgres is not None:
            self.set(
                "DATABASE_URL_FILE", str(self.directory.replace_secret("database-url", services.database_url))
            )
        if services.valkey is not None:
            self.set("REDIS_URL", services.redis_url)

    def use_port(self, port: int, listener: int) -> None:
        """Has the web process serve the listening socket of that number."""
        self.port = port
        self._listener = (listener,)
        self.set("TCSS_BIND", f"fd://{listener}")
        self._environment.setdefault("TCSS_PUBLIC_URL", f"http://127.0.0.1:{port}")

    def prepare_administrator(self) -> None:
        """Sees to a password for the first administrator: the given one, else one generated once."""
        if self._environment.get("TCSS_ADMIN_PASSWORD") or self._environment.get("TCSS_ADMIN_PASSWORD_FILE"):
            return
        file = self.directory.secrets / "admin-password"
        if not file.exists():
            self.generated_password = _readable_password()
            self.directory.secret("admin-password", value=self.generated_password)
        self.set("TCSS_ADMIN_PASSWORD_FILE", str(file))

    @property
    def has_cloud_account(self) -> bool:
        """Whether a Tencent Cloud account is given, to be stored once."""
        return any(self._environment.get(name) for name in _CLOUD_ACCOUNT)

    def forget_generated_password(self) -> None:
        """Drops a password that became nobody's."""
        if self.generated_password:
            self.generated_password = ""
            (self.directory.secrets / "admin-password").unlink()

    def operator_password(self) -> Path:
        """The file of the demo's operator's password, generated once."""
        return self.directory.secret("operator-password", value=_readable_password())

    def launch(self, process: Process) -> Launch:
        """How a process of the table is started here."""
        values = {
            "data_dir": str(self.directory.path),
            "scan_concurrency": str(self.options.scan_concurrency),
        }
        command = [part.format_map(values) for part in process.command]
        return self._launch(
            process.name,
            command[1:],
            # What lasts for weeks need not know what only the commands of the start are for.
            without=_FOR_THE_START,
            stop_signals=process.stop_signals,
            stop_seconds=process.stop_seconds,
        )

    def table_process(self, name: str) -> Launch:
        """How the process of that name is started here."""
        return self.launch(TABLE.process(name))

    def manage(self, *arguments: str, to_terminal: bool = False) -> Launch:
        """How a management command is run here."""
        return self._launch(arguments[0], ["manage.py", *arguments], to_terminal=to_terminal)

    def module(self, name: str, module: str, *arguments: str) -> Launch:
        """How another module of this checkout is run here."""
        return self._launch(name, ["-m", module, *arguments])

    def _launch(
        self,
        name: str,
        arguments: list[str],
        *,
        stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
        stop_seconds: float = 10.0,
        to_terminal: bool = False,
        without: frozenset[str] = frozenset(),
    ) -> Launch:
        return Launch(
            name=name,
            command=[sys.executable, *arguments],
            environment={name: text for name, text in self._environment.items() if name not in without},
            log=self.directory.logs / f"{name}.log",
            directory=ROOT,
            stop_signals=stop_signals,
            stop_seconds=stop_seconds,
            inherited=self._listener if name == "web" else (),
            to_terminal=to_terminal,
        )

    def demand_given_servers(self) -> None:
        """Looks whether servers that were given by address answer; raises StartError naming the variable."""
        environment = self._environment
        own_postgres, own_valkey = own_servers_wanted(environment)
        if not own_postgres:
            try:
                psycopg2.connect(_given(environment, "DATABASE_URL"), connect_timeout=10).close()
            except psycopg2.Error as error:
                raise StartError(
                    f"The database of DATABASE_URL cannot be used: {str(error).strip()}"
                ) from None
        if not own_valkey:
            try:
                redis.Redis.from_url(_given(environment, "REDIS_URL"), socket_connect_timeout=10).ping()
            except (redis.RedisError, ValueError) as error:
                raise StartError(f"The broker of REDIS_URL cannot be used: {error}") from None


def _given(environment: dict[str, str], name: str) -> str:
    file = environment.get(f"{name}_FILE")
    if not file:
        return environment[name]
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(f"{name}_FILE cannot be read: {error.strerror}.") from error


def _readable_password() -> str:
    return "-".join("".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(5)) for _ in range(4))
