"""Tries a connection to a registry step by step, so that a failure names the step it is in."""

import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from repositories.registries.certificates import read_certificate
from repositories.registries.client import RegistryHTTP
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import (
    NotThereError,
    NotTrustedError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.protocol import CertificateItem, CheckReport, CheckStep, Registry, StepState
from repositories.registries.statuses import from_outbound
from tcss.outbound import tls_context
from tcss.outbound_addresses import AddressFormError, parse_origin
from tcss.outbound_certificates import refusal
from tcss.outbound_failures import OutboundError, classify
from tcss.outbound_sockets import Budget, GuardedSocket, Limits, connect, resolve

# Somebody waits for the page.
TEST_SECONDS = 9.0
TEST_LIMITS = Limits(connect=3.0, read=6.0, total=7.0)
CERTIFICATE = "Certificate"
_PROJECTS_TRIED = 5

Outcome = tuple[StepState, str]
Step = tuple[str, Callable[[], Outcome]]
"""A step's name, and what tries it; it raises RegistryError or OutboundError where it fails."""
_PASSED, _WARNED, _SKIPPED = StepState.PASSED, StepState.WARNED, StepState.SKIPPED
_WHO = {"user": "a person's account", "robot": "a robot account"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one kind of registry is asked in its own way; each verb raises RegistryError.

    ``version`` answers with a sentence about the interface. ``log_in`` proves that the account is known and
    says what it is: ``user`` or ``robot``. ``adapter`` makes what the right to list is tried with.
    """

    version: Callable[[RegistryHTTP], str]
    log_in: Callable[[RegistryHTTP], str]
    adapter: Callable[[Connection], Registry]


def check(connection: Connection, dialect: Dialect) -> CheckReport:
    """Every step up to the first that fails; raises nothing but what ``connection.alive`` raises."""
    test = _DialectTest(in_time(connection), dialect)
    return run_steps([*test.host_steps(), *test.dialect_steps(), *test.right_steps()], test)


def in_time(connection: Connection) -> Connection:
    """The same connection, which gives up when somebody has waited long enough for the page."""
    return replace(connection, alive=within(TEST_SECONDS, connection.alive))


def run_steps(named: Sequence[Step], test: "HostTest") -> CheckReport:
    """Try the steps in their order up to the first that fails."""
    steps: list[CheckStep] = []
    failed = False
    for name, step in named:
        if failed:
            steps.append(CheckStep(name, _SKIPPED, "Not tried, because a step before it failed."))
            continue
        try:
            state, sentence = step()
            steps.append(CheckStep(name, state, sentence))
        except OutboundError as error:
            failed = True
            steps.append(_failed(name, from_outbound(error)))
        except RegistryError as error:
            failed = True
            steps.append(_failed(name, error))
        if name == CERTIFICATE:
            steps[-1] = replace(steps[-1], certificate=test.certificate)
    return CheckReport(tuple(steps))


def _failed(name: str, error: RegistryError) -> CheckStep:
    return CheckStep(name, StepState.FAILED, error.reason, error)


def within(seconds: float, alive: Callable[[], None]) -> Callable[[], None]:
    """``alive`` that also raises OutboundError (REG_TIMEOUT) after so many seconds."""
    end = time.monotonic() + seconds

    def still_alive() -> None:
        alive()
        if time.monotonic() > end:
            raise OutboundError("REG_TIMEOUT")

    return still_alive


class HostTest:
    """The steps that every registry has; each may rely on those before it."""

    def __init__(self, connection: Connection, adapter: Callable[[Connection], Registry]) -> None:
        self._connection = connection
        self._adapter = adapter
        self._repository = ""
        self.certificate: CertificateItem | None = None

    def host_steps(self) -> list[Step]:
        """From the address's form to the certificate."""
        return [
            ("Address", self._address),
            ("Host name", self._host_name),
            ("Connection", self._connect),
            (CERTIFICATE, self._certificate),
        ]

    def right_steps(self) -> list[Step]:
        """What the account may do."""
        return [("Right to list", self._list), ("Right to pull", self._pull)]

    def _address(self) -> Outcome:
        try:
            self._origin = parse_origin(self._connection.address)
        except AddressFormError as error:
            raise NotTrustedError("REG_BLOCKED_ADDR", str(error), "Edit the address.") from None
        self._http = RegistryHTTP(self._connection, limits=TEST_LIMITS, tries=1)
        return _PASSED, "The address has the form of one."

    def _host_name(self) -> Outcome:
        self._addresses = resolve(
            self._origin.host,
            self._origin.port,
            self._connection.allowed_networks,
            own_services=self._connection.own_services,
            budget=Budget(TEST_LIMITS, self._connection.alive),
        )
        return _PASSED, "The host is known, and this console may connect to it."

    def _connect(self) -> Outcome:
        self._dial().close()
        return _PASSED, "The server takes connections."

    def _dial(self) -> GuardedSocket:
        return connect(self._addresses, Budget(TEST_LIMITS, self._connection.alive))

    def _certificate(self) -> Outcome:
        if not self._origin.is_https:
            return _WARNED, "The address begins with http://: the password travels unencrypted."
        try:
            self.certificate = self._handshake(self._http.session.context)
        except OutboundError as error:
            if not error.code.startswith("REG_TLS"):
                raise
            with contextlib.suppress(OutboundError):
                self.certificate = self._handshake(tls_context(verify=False))
            raise
        if not self._connection.verify_tls:
            return _WARNED, "The certificate is not validated: anybody in between could read the password."
        return _PASSED, "The certificate is valid for this host."

    def _handshake(self, context: ssl.SSLContext) -> CertificateItem | None:
        """The server's certificate; nothing is sent beyond the handshake."""
        sock = self._dial()
        try:
            with context.wrap_socket(sock, server_hostname=self._origin.host) as secured:
                return read_certificate(secured.getpeercert(binary_form=True) or b"")
        except ssl.SSLError as error:
            raise refusal(error, self._dial, self._origin.host) from None
        except (OSError, ValueError) as error:
            raise classify(error) from None
        finally:
            sock.close()

    def _list(self) -> Outcome:
        registry = self._adapter(self._connection)
        projects = list(islice(registry.list_projects(), _PROJECTS_TRIED))
        if not projects:
            return _WARNED, "The account sees no project."
        found = False
        for project in projects:
            for repository in islice(registry.list_repositories(project), 1):
                found = True
                try:
                    artifact = next(registry.list_artifacts(repository), None)
                except TryLaterError as error:
                    # Harbor 1.x looks up all of ten thousand tags before it answers.
                    if error.code != "REG_TIMEOUT":
                        raise
                    return _WARNED, "Projects and repositories can be listed; images take longer than a test."
                if artifact is not None:
                    self._repository = repository.name
                    return _PASSED, "Projects, repositories and images can be listed."
        return _WARNED, "The projects hold no image yet." if found else "The projects hold no repository yet."

    def _pull(self) -> Outcome:
        if not self._repository:
            return _SKIPPED, "There is no image to try it with."
        client = DistributionClient(self._connection, limits=TEST_LIMITS, tries=1)
        try:
            client.check_pull(self._repository)
        except NotThereError:
            return _SKIPPED, "The image to try it with has just gone."
        return _PASSED, "Images can be pulled."


class _DialectTest(HostTest):
    """The steps of a registry whose API is asked at its own address."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        super().__init__(connection, dialect.adapter)
        self._dialect = dialect

    def dialect_steps(self) -> list[Step]:
        """What the server is, and whether it knows the account."""
        return [("API version", self._version), ("Login", self._login)]

    def _version(self) -> Outcome:
        return _PASSED, self._dialect.version(self._http)

    def _login(self) -> Outcome:
        who = _WHO[self._dialect.log_in(self._http)]
        return _PASSED, f"Username and password are right; this is {who}."
