"""The one way out: HTTP to a checked address, with deadlines, byte limits, no cookies and no redirects.

Every session belongs to one registry and to one choice of certificate rules, so that no choice leaks into
another's connections. What the environment says about proxies and passwords is ignored.
"""

import contextlib
import http.client
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tcss.outbound_addresses import Network, Service
from tcss.outbound_certificates import refusal
from tcss.outbound_failures import OutboundError, classify
from tcss.outbound_sockets import Budget, GuardedTLSSocket, Limits, connect, resolve

# The operator sees a lasting warning at the registry instead of a line of log at every request.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

USER_AGENT = "tcss-repository-images/0.1"
_CHUNK = 64 * 1024
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}

# The budget of the request being sent; the socket keeps it until the answer is read.
_budget: ContextVar[Budget] = ContextVar("budget")


def tls_context(*, verify: bool, custom_ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer; verified against the public authorities and ``custom_ca``, or not at all.

    Raises ssl.SSLError when ``custom_ca`` holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = GuardedTLSSocket
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if custom_ca:
        context.load_verify_locations(cadata=custom_ca)
        # An installation may know only the authority in the middle.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


# The same rules make the same context, and reading all authorities takes a while.
_context = lru_cache(maxsize=16)(tls_context)


class _GuardedConnection:
    """What our connections do differently: connect to checked addresses and carry the request's budget."""

    allowed_networks: tuple[Network, ...] = ()
    own_services: tuple[Service, ...] = ()
    sock: Any

    def _new_conn(self) -> Any:
        budget = _budget.get()
        addresses = resolve(
            self._dns_host,  # type: ignore[attr-defined]
            self.port,  # type: ignore[attr-defined]
            self.allowed_networks,
            own_services=self.own_services,
            budget=budget,
        )
        return connect(addresses, budget)

    def request(self, *args: Any, **fields: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.sock.budget = _budget.get()
        super().request(*args, **fields)  # type: ignore[misc]


class _GuardedTLSConnection(_GuardedConnection):
    """A guarded connection that says of a certificate it refuses when that was or will be valid."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except ssl.SSLError as error:
            raise refusal(error, self._new_conn, self.host) from None  # type: ignore[attr-defined]


def _pools(
    context: ssl.SSLContext,
    allowed_networks: tuple[Network, ...],
    own_services: tuple[Service, ...],
    connections: int,
) -> urllib3.PoolManager:
    """Pools of guarded connections, which keep so many of them open to one server."""
    marks = {"allowed_networks": allowed_networks, "own_services": own_services}
    plain = type("GuardedHTTPConnection", (_GuardedConnection, HTTPConnection), marks)
    secure = type("GuardedHTTPSConnection", (_GuardedTLSConnection, HTTPSConnection), marks)
    pools = urllib3.PoolManager(num_pools=4, maxsize=connections, retries=False, ssl_context=context)
    pools.pool_classes_by_scheme = {
        "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return pools


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and headers of an answer, and its body to be read within the request's budget."""

    status: int
    _response: urllib3.BaseHTTPResponse

    def header(self, name: str) -> str:
        """A header's text, or an empty one."""
        return str(self._response.headers.get(name, ""))

    def stream(self, limit: int) -> Iterator[bytes]:
        """The body as it comes, never decoded; raises OutboundError, IMG_TOO_LARGE beyond ``limit`` bytes."""
        received = 0
        chunks = self._response.stream(_CHUNK, decode_content=False)
        while True:
            try:
                chunk = next(chunks, None)
            except (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
                raise self._failure(error, limit) from None
            if chunk is None:
                return
            received += len(chunk)
            if received > limit:
                raise OutboundError("IMG_TOO_LARGE")
            yield chunk

    def _failure(self, error: BaseException, limit: int) -> OutboundError:
        """The failure behind an error; a chunk announced as larger than all may be did not end too early."""
        announced = getattr(self._response, "chunk_left", None) or 0
        failure = classify(error)
        return OutboundError("REG_PROTOCOL") if failure.is_passing and announced > limit else failure

    def read(self, limit: int) -> bytes:
        """The whole body; raises OutboundError, IMG_TOO_LARGE beyond ``limit`` bytes."""
        return b"".join(self.stream(limit))


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


class OutboundSession:
    """Connections to one server and to where it sends us, under one set of rules.

    Several threads may ask at once. ``alive`` is called at least every second while we wait; what it raises
    ends the request. ``connections`` are kept open to one server; more may be open for a moment.
    """

    def __init__(
        self,
        *,
        verify: bool = True,
        custom_ca: str = "",
        allowed_networks: Iterable[Network] = (),
        own_services: Iterable[Service] = (),
        alive: Callable[[], None] = _nothing_to_do,
        connections: int = 4,
    ) -> None:
        self.allowed_networks = tuple(allowed_networks)
        self.context = _context(verify=verify, custom_ca=custom_ca)
        self._alive = alive
        self._pools = _pools(self.context, self.allowed_networks, tuple(own_services), connections)

    def get(
        self, url: str, *, headers: dict[str, str] | None = None, limits: Limits
    ) -> AbstractContextManager[Reply]:
        """Ask once; raises OutboundError when no answer came. Redirects are answers like any other."""
        return self._send("GET", url, headers, None, limits)

    def post(
        self, url: str, body: bytes, *, headers: dict[str, str] | None = None, limits: Limits
    ) -> AbstractContextManager[Reply]:
        """Ask once with a body, under the same rules."""
        return self._send("POST", url, headers, body, limits)

    @contextlib.contextmanager
    def _send(
        self, method: str, url: str, headers: dict[str, str] | None, body: bytes | None, limits: Limits
    ) -> Iterator[Reply]:
        budget = Budget(limits, self._alive)
        mark = _budget.set(budget)
        try:
            response = self._pools.urlopen(
                method,
                url,
                body=body,
                headers={**_HEADERS, **(headers or {})},
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=limits.connect, read=limits.read),
                redirect=False,
                retries=False,
            )
        except (
            OSError,
            OutboundError,
            ValueError,
            http.client.HTTPException,
            urllib3.exceptions.HTTPError,
        ) as error:
            # The original holds the request, and with it the password.
            failure = classify(error)
            # Nothing that is asked for was in it yet.
            raise OutboundError("REG_PROTOCOL") if failure.code == "IMG_TOO_LARGE" else failure from None
        finally:
            _budget.reset(mark)
        budget.begin_body()
        try:
            yield Reply(response.status, response)
        finally:
            # Of an answer that was not read to its end nothing more is wanted: its connection is closed.
            response.close()
            response.release_conn()

    def pause(self, seconds: float) -> None:
        """Wait, and stop waiting when ``alive`` says so."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._alive()
            time.sleep(min(left, 0.5))

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()
