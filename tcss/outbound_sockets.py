"""Sockets that keep a request's budget: total deadline, minimum rate, byte limit, and a way to be stopped.

A read timeout alone is no limit: a server that sends one byte every ten seconds never meets it.
"""

import contextlib
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tcss.outbound_addresses import AddressBlockedError, Network, Service, check_addresses
from tcss.outbound_failures import NO_DNS, NO_DNS_REMEDY, OWN_SERVICE, OWN_SERVICE_REMEDY, OutboundError

# How long an operation blocks before the budget is looked at again.
_SLICE_SECONDS = 1.0
_ADDRESSES_TRIED = 4
_HEADERS_BYTES = 2**20

SocketAddress = tuple[int, Any]
"""Address family and the kernel's address, as getaddrinfo answers them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take: seconds to connect, to wait for the next bytes, and in all; bytes in all.

    ``minimum_rate`` is bytes a second, measured over ``rate_window`` seconds.
    """

    connect: float = 5.0
    read: float = 30.0
    total: float = 60.0
    body: int = 8 * 2**20
    minimum_rate: int = 10_000
    rate_window: float = 60.0


class Budget:
    """What is left of one request's limits."""

    def __init__(self, limits: Limits, alive: Callable[[], None]) -> None:
        self.limits = limits
        self._alive = alive
        self._end = time.monotonic() + limits.total
        self._left = _HEADERS_BYTES
        self._window_start = time.monotonic()
        self._window_bytes = 0

    def next_wait(self) -> float:
        """Seconds the next operation may block; raises OutboundError when the time is used up."""
        self._alive()
        left = self._end - time.monotonic()
        if left <= 0:
            raise OutboundError("REG_TIMEOUT")
        return min(left, _SLICE_SECONDS)

    def begin_body(self) -> None:
        """The headers have come: from here on the body may."""
        self._left += self.limits.body

    def take(self, count: int) -> None:
        """Count received bytes; raises OutboundError when they are too many or come too slowly."""
        self._left -= count
        if self._left < 0:
            raise OutboundError("IMG_TOO_LARGE")
        self._window_bytes += count
        elapsed = time.monotonic() - self._window_start
        if elapsed >= self.limits.rate_window:
            if self._window_bytes < self.limits.minimum_rate * elapsed:
                raise OutboundError("REG_TIMEOUT")
            self._window_start, self._window_bytes = time.monotonic(), 0


def _receive(sock: Any, receive: Callable[[], int]) -> int:
    """Run one receiving call in slices of time, under the budget the socket carries."""
    budget: Budget | None = sock.budget
    if budget is None:
        return receive()
    quiet_since = time.monotonic()
    while True:
        wait = budget.next_wait()
        # Setting it is a system call, at which threads wait for each other; mostly it is the same as before.
        if sock.gettimeout() != wait:
            sock.settimeout(wait)
        try:
            count = receive()
        except TimeoutError:
            if time.monotonic() - quiet_since >= budget.limits.read:
                raise
            continue
        budget.take(count)
        return count


class GuardedSocket(socket.socket):
    """A TCP socket that reads within a budget."""

    budget: Budget | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive within the budget."""
        base = super().recv_into
        return _receive(self, lambda: base(buffer, nbytes, flags))


class GuardedTLSSocket(ssl.SSLSocket):
    """A TLS socket that reads within a budget."""

    budget: Budget | None = None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive within the budget."""
        base = super().recv_into
        return _receive(self, lambda: base(buffer, nbytes, flags))


def resolve(
    host: str,
    port: int,
    allowed_networks: Iterable[Network],
    *,
    own_services: Iterable[Service] = (),
    budget: Budget | None = None,
) -> list[SocketAddress]:
    """Every address of a name, all of them allowed; raises OutboundError (REG_DNS, REG_BLOCKED_ADDR)."""
    answers = _look_up(host, port, budget or Budget(Limits(), _nothing_to_do))
    addresses = {str(answer[1][0]) for answer in answers}
    try:
        check_addresses(addresses, allowed_networks)
    except (AddressBlockedError, ValueError):
        raise OutboundError("REG_BLOCKED_ADDR") from None
    for service in own_services:
        if service.port == port and (
            service.host == host or (not service.shared and addresses & _addresses_of(service, budget))
        ):
            raise OutboundError("REG_BLOCKED_ADDR", OWN_SERVICE, OWN_SERVICE_REMEDY)
    return answers


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


def _addresses_of(service: Service, budget: Budget | None) -> set[str]:
    try:
        answers = _look_up(service.host, service.port, budget or Budget(Limits(), _nothing_to_do))
    except OutboundError:
        return set()
    return {str(answer[1][0]) for answer in answers}


def _look_up(host: str, port: int, budget: Budget) -> list[SocketAddress]:
    """What the resolver answers, within the time for connecting; a lookup cannot be ended, only left alone.

    It then ends by the resolver's own patience, half a minute or so, in a thread that nobody waits for.
    """
    if _is_number(host):
        return _asked(host, port)
    found: queue.SimpleQueue[list[SocketAddress] | OutboundError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(_asked(host, port))
        except OutboundError as error:
            found.put(error)

    threading.Thread(target=ask, name="name lookup", daemon=True).start()
    end = time.monotonic() + budget.limits.connect
    while True:
        wait = budget.next_wait()
        left = end - time.monotonic()
        if left <= 0:
            raise OutboundError("REG_DNS", NO_DNS, NO_DNS_REMEDY)
        with contextlib.suppress(queue.Empty):
            answer = found.get(timeout=min(wait, left))
            if isinstance(answer, OutboundError):
                raise answer
            return answer


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _asked(host: str, port: int) -> list[SocketAddress]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise OutboundError("REG_DNS") from None
    return [(answer[0], answer[4]) for answer in answers]


def connect(addresses: Sequence[SocketAddress], budget: Budget) -> GuardedSocket:
    """A connection to the first address that takes one; raises OutboundError (REG_CONNECT, REG_TIMEOUT)."""
    failure = OutboundError("REG_CONNECT")
    for family, address in addresses[:_ADDRESSES_TRIED]:
        budget.next_wait()
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(GuardedSocket(family, socket.SOCK_STREAM))
            sock.settimeout(budget.limits.connect)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                sock.connect(address)
            except TimeoutError:
                failure = OutboundError("REG_TIMEOUT")
                continue
            except OSError:
                failure = OutboundError("REG_CONNECT")
                continue
            stack.pop_all()
            return sock
    raise failure
