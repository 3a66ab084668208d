"""The supervisor: starts an installation in order, restarts what crashes, stops all of it cleanly."""

import functools
import signal
import socket
import time
from dataclasses import dataclass

from tcss.embedded import children, host
from tcss.embedded.children import Child, run_to_end, wait_until
from tcss.embedded.clamav import NAME as CLAMD, START_SECONDS as CLAMD_START_SECONDS, Clamd
from tcss.embedded.data_directory import lock, open_data_directory, room_warning
from tcss.embedded.demo_registry import DemoCloud, DemoRegistry, allow_loopback, install_demo_vulnerabilities
from tcss.embedded.health import web_serves
from tcss.embedded.installation import (
    ADMINISTRATOR,
    OPERATOR,
    Installation,
    Options,
    own_servers_wanted,
)
from tcss.embedded.parent import adopt_orphans
from tcss.embedded.problems import StartError, Terminal
from tcss.embedded.processes import TABLE
from tcss.embedded.services import Services

_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_TEND_SECONDS = 0.5
_LOG_CHECK_SECONDS = 20.0
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 30.0
# A process that ran this long was well: its next crash is a first crash again.
_STEADY_SECONDS = 60.0
_PORT_SECONDS = 5.0


class StopRequested(Exception):  # noqa: N818 - a wish, not an error
    """Somebody asked the supervisor to stop."""


@dataclass
class Kept:
    """A process the supervisor keeps running."""

    child: Child
    crashes: int = 0
    # When it is to be started again; 0 while it runs.
    due: float = 0.0


class Supervisor:
    """Runs one installation in the foreground until it is told to stop."""

    def __init__(self, options: Options, environment: dict[str, str], terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._environment = environment
        self._kept: dict[str, Kept] = {}
        self._services: Services | None = None
        self._tending = False
        self._login = ""
        self._tended = self._logs_checked = 0.0

    def run(self, *, demo: bool) -> None:
        """Starts everything, watches it, and returns when it was asked to stop; raises StartError."""
        # From here on signals are only heard where this process waits for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, children.OWN_SIGNALS)
        adopt_orphans()
        directory = open_data_directory(self._options.data_directory)
        with lock(directory), self._listen() as listener:
            warning = room_warning(directory.path)
            if warning:
                self._terminal.say(warning)
            installation = Installation(directory, self._options, self._environment)
            installation.use_port(listener.getsockname()[1], listener.fileno())
            try:
                self._start(installation, demo=demo)
                while True:
                    self._pause(_TEND_SECONDS)
            except StopRequested:
                self._terminal.say(
                    "Stopping; a running scan gets 10 seconds to end. Ctrl-C again stops at once."
                )
            finally:
                self._stop()

    def _listen(self) -> socket.socket:
        deadline = time.monotonic() + _PORT_SECONDS
        while True:
            try:
                return host.listen(self._options.port)
            except PermissionError:
                raise StartError(
                    f"Port {self._options.port} needs root; choose another, as in: TCSS_PORT=8080 make run"
                ) from None
            except OSError:
                # What an earlier run left may be on its way out.
                if time.monotonic() > deadline:
                    owner = host.listener_on(self._options.port) or "another program"
                    raise StartError(
                        f"Port {self._options.port} is taken by {owner}; "
                        f"choose another, as in: TCSS_PORT={self._options.port + 1} make run"
                    ) from None
                self._pause(0.2)

    def _pause(self, seconds: float) -> None:
        """Waits while looking after what runs; raises StopRequested when a signal asks for it."""
        heard = signal.sigtimedwait(children.OWN_SIGNALS, seconds)
        self._terminal.tick()
        if heard is not None:
            children.collect()
            if heard.si_signo in _STOP_SIGNALS:
                raise StopRequested
        if self._tending and time.monotonic() - self._tended > _TEND_SECONDS:
            self._tended = time.monotonic()
            self._tend()

    def _start(self, installation: Installation, *, demo: bool) -> None:
        terminal, directory = self._terminal, installation.directory
        terminal.say(f"Starting the console; its data is in {directory.path}.")
        with_postgres, with_valkey = own_servers_wanted(self._environment)
        self._services = Services(
            directory, self._environment, with_postgres=with_postgres, with_valkey=with_valkey
        )
        if with_postgres:
            self._explain_account(self._services)
        self._services.start(self._pause, terminal)
        for child in self._services.children:
            self._keep(child)
        installation.use_services(self._services)
        installation.demand_given_servers()
        terminal.begin("Database tables")
        run_to_end(installation.table_process("migrate"), self._pause, seconds=1800)
        terminal.done()
        installation.prepare_administrator()
        make = installation.manage("create_administrator", "--username", ADMINISTRATOR)
        run_to_end(make, self._pause, seconds=120)
        if "was made" not in children.tail(make.log, 1):
            # A given database had the account already, with a password this installation does not know.
            installation.forget_generated_password()
        if demo:
            registry = self._start_demo_registries(installation)
        elif installation.has_cloud_account:
            run_to_end(installation.manage("set_cloud_account", "--if-absent"), self._pause, seconds=120)
        self._start_clamd(installation)
        terminal.begin("Web and workers")
        for process in TABLE.processes:
            if not process.one_shot:
                self._keep(Child(installation.launch(process)))
        serves = functools.partial(web_serves, installation.port, installation.host_name)
        wait_until(serves, self._kept["web"].child, self._pause, seconds=120)
        terminal.done()
        self._announce(installation)
        self._tending = True
        if demo:
            self._prepare_demo(installation, registry)
            self._announce(installation)
        terminal.say(f"Running: {', '.join(self._kept)}. Ctrl-C stops them all.")

    def _explain_account(self, services: Services) -> None:
        """Says where PostgreSQL runs when the supervisor is root and it therefore cannot."""
        postgres = services.postgres
        if postgres is None or postgres.directory.account is None:
            return
        where = ""
        if postgres.directory.service_root != postgres.directory.path:
            where = f", with its data in {postgres.directory.cluster}, which that user can reach"
        self._terminal.say(f"You are root: PostgreSQL runs as user {postgres.directory.account.name}{where}.")

    def _start_clamd(self, installation: Installation) -> None:
        """Starts the virus engine where it can run; where it cannot, says why and that YARA looks alone."""
        if self._environment.get("TCSS_CLAMD_ADDRESS"):
            return
        clamd = Clamd(installation)
        try:
            program = clamd.demand()
            self._terminal.begin("ClamAV and its signatures")
            self._keep(clamd.start(program, self._pause))
            wait_until(clamd.ready, self._kept[CLAMD].child, self._pause, seconds=CLAMD_START_SECONDS)
        except StartError as problem:
            if CLAMD in self._kept:
                self._kept.pop(CLAMD).child.kill()
            self._terminal.say(f"Only YARA looks for viruses and trojans: {problem}")
            return
        self._terminal.done()
        installation.set("TCSS_CLAMD_ADDRESS", str(clamd.socket))

    def _start_demo_registries(self, installation: Installation) -> DemoRegistry:
        allow_loopback(installation, self._environment.get("TCSS_ALLOWED_NETWORKS", ""))
        registry, cloud = DemoRegistry(installation), DemoCloud(installation)
        self._terminal.begin("Demo registries")
        for server in (registry, cloud):
            self._keep(server.start(self._pause))
        self._terminal.done()
        installation.set("TCSS_TENCENT_ENDPOINT", cloud.url)
        return registry

    def _prepare_demo(self, installation: Installation, registry: DemoRegistry) -> None:
        """Fills the console; what goes wrong here is said, and the console runs on to show the rest."""
        try:
            self._terminal.begin("Demo vulnerability database")
            install_demo_vulnerabilities(installation, self._pause)
            self._terminal.done()
            self._prepare_operator(installation)
            command = installation.manage("demo", "--registry", registry.url, "--cloud", to_terminal=True)
            run_to_end(command, self._pause, seconds=3600)
        except StartError as problem:
            self._terminal.complain(f"The demo is not complete: {problem}")

    def _announce(self, installation: Installation) -> None:
        self._terminal.say(f"The console is ready: http://127.0.0.1:{installation.port}/")
        if self._login:
            self._terminal.say(self._login)
        if installation.generated_password:
            file = installation.directory.secrets / "admin-password"
            self._terminal.say(
                f"Log in as {ADMINISTRATOR} with the password {installation.generated_password} "
                f"(shown at the first start only; also in {file})."
            )

    def _prepare_operator(self, installation: Installation) -> None:
        """Makes the account the demo is looked at with; its password is said with the address at the end."""
        file = installation.operator_password()
        make = ("create_user", OPERATOR, "--role", "operator", "--password-file", str(file), "--if-absent")
        run_to_end(installation.manage(*make), self._pause, seconds=120)
        self._login = f"Log in as {OPERATOR} with the password {file.read_text(encoding='utf-8')} ({file})."

    def _keep(self, child: Child) -> None:
        self._kept[child.launch.name] = Kept(child)

    def _tend(self) -> None:
        """Starts again what ended, ends what dead processes left behind, caps the logs."""
        for name, kept in self._kept.items():
            self._look_after(name, kept)
        children.end_orphans()
        if time.monotonic() - self._logs_checked > _LOG_CHECK_SECONDS:
            self._logs_checked = time.monotonic()
            for kept in self._kept.values():
                children.cap_log(kept.child.launch.log)

    def _look_after(self, name: str, kept: Kept) -> None:
        now = time.monotonic()
        if kept.due:
            if now >= kept.due:
                kept.child, kept.due = Child(kept.child.launch), 0.0
                self._terminal.say(f"{name} was started again.")
            return
        code = kept.child.exit_code()
        if code is None:
            return
        if now - kept.child.started > _STEADY_SECONDS:
            kept.crashes = 0
        delay = min(_FIRST_BACK_OFF * 2**kept.crashes, _LONGEST_BACK_OFF)
        kept.crashes += 1
        kept.due = now + delay
        cause = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        self._terminal.say(
            f"{name} ended by itself ({cause}), starts again in {delay:.1f} s; see {kept.child.launch.log}."
        )

    def _stop(self) -> None:
        """Stops all in order; a second request to stop kills what is left."""
        self._tending = False
        try:
            for names in TABLE.stop_order:
                children.stop([self._kept[name].child for name in names if name in self._kept], self._pause)
            if self._services is not None:
                self._services.stop(self._pause)
        except StopRequested:
            self._terminal.say("Stopping at once.")
        for kept in self._kept.values():
            kept.child.kill()
        children.end_orphans()
        self._terminal.say("Stopped.")
