"""GET requests to one registry: its origin, its errors, and retries that respect its wishes."""

import base64
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from repositories.registries.answers import MalformedError, parse_json
from repositories.registries.connection import Connection
from repositories.registries.failures import (
    BadAnswerError,
    CannotPullError,
    NotTrustedError,
    TooLargeError,
    TryLaterError,
)
from repositories.registries.pace import LONGEST_PAUSE_SECONDS, Turn
from repositories.registries.statuses import (
    WEB_PAGE,
    WEB_PAGE_REMEDY,
    from_outbound,
    from_status,
    retry_after,
)
from tcss.outbound import OutboundSession, Reply
from tcss.outbound_addresses import AddressFormError, parse_origin
from tcss.outbound_failures import OutboundError
from tcss.outbound_sockets import Limits

TRIES = 5
# A damaged answer may be the network's fault, but it is more often what the server always answers.
_TRIES_OF_BAD_ANSWERS = 3
_FIRST_PAUSE_SECONDS = 0.5
ASKS_FOR_FEWER = frozenset({408, 425, 429, 503})

Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class JSONAnswer:
    """A decoded answer, and the total count where the registry gave one that makes sense."""

    value: object
    total: int | None


class RegistryHTTP:
    """The GET verb against one registry; raises RegistryError."""

    def __init__(self, connection: Connection, *, limits: Limits | None = None, tries: int = TRIES) -> None:
        try:
            self.origin = parse_origin(connection.address)
        except AddressFormError as error:
            raise NotTrustedError("REG_BLOCKED_ADDR", str(error), "Edit the address.") from None
        self.connection = connection
        self.limits = limits or Limits()
        self.tries = tries
        self.session = OutboundSession(
            verify=connection.verify_tls,
            custom_ca=connection.custom_ca,
            allowed_networks=connection.allowed_networks,
            own_services=connection.own_services,
            alive=connection.alive,
            connections=connection.pace.most if connection.pace else 4,
        )

    def basic(self) -> dict[str, str]:
        """The Authorization header of the account; none where there is no account."""
        username, password = self.connection.credentials()
        if not username:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}

    @contextlib.contextmanager
    def open(self, url: str, headers: Mapping[str, str], limits: Limits | None = None) -> Iterator[Reply]:
        """One request, whatever its status; what transport raises becomes a RegistryError."""
        with self.turn() as turn:
            try:
                with self.session.get(url, headers=dict(headers), limits=limits or self.limits) as reply:
                    if turn is not None and reply.status in ASKS_FOR_FEWER:
                        turn.was_too_much(retry_after(reply))
                    yield reply
            except OutboundError as error:
                if turn is not None and error.code == "REG_TIMEOUT":
                    turn.was_too_much()
                raise from_outbound(error) from None

    def turn(self) -> contextlib.AbstractContextManager[Turn | None]:
        """One request's turn at the registry; None where nobody counts them."""
        pace = self.connection.pace
        return pace.turn(self.connection.alive) if pace else contextlib.nullcontext()

    def get_json(
        self, path: str, query: Mapping[str, object] | None = None, *, headers: Mapping[str, str]
    ) -> JSONAnswer:
        """The JSON a path of the registry answers with status 200; asked again where that makes sense."""
        url = f"{self.origin}{path}" + (f"?{urlencode(query)}" if query else "")

        def ask() -> JSONAnswer:
            with self.open(url, {"Accept": "application/json", **headers}) as reply:
                return read_json(reply, limit=self.limits.body)

        return self.retrying(ask)

    def retrying(self, ask: Callable[[], Answered]) -> Answered:
        """Ask; after a passing error or a damaged answer ask again, with growing pauses of random length."""
        for attempt in range(1, self.tries + 1):
            try:
                return ask()
            except TryLaterError as error:
                if attempt == self.tries or error.retry_after > LONGEST_PAUSE_SECONDS:
                    raise
                self.pause(attempt, at_least=error.retry_after)
            except (CannotPullError, TooLargeError):
                raise
            except BadAnswerError as error:
                if attempt >= min(self.tries, _TRIES_OF_BAD_ANSWERS) or error.status is not None:
                    raise
                self.pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def pause(self, attempt: int, *, at_least: float = 0.0) -> None:
        """Wait before the next attempt: exponential with full jitter, so that clients do not come in step."""
        longest: float = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
        self.session.pause(at_least + random.uniform(0, longest))  # noqa: S311 - not a secret


def read_json(reply: Reply, *, limit: int) -> JSONAnswer:
    """The JSON of an answer of status 200; raises the error behind any other."""
    if reply.status != 200:
        raise from_status(reply)
    try:
        body = reply.read(limit)
    except OutboundError as error:
        if error.code != "IMG_TOO_LARGE":
            raise
        raise TooLargeError("REG_PROTOCOL", error.reason, error.remedy) from None
    if "html" in reply.header("Content-Type").lower() or body.lstrip()[:1] == b"<":
        raise BadAnswerError("REG_PROTOCOL", WEB_PAGE, WEB_PAGE_REMEDY)
    try:
        value = parse_json(body)
    except MalformedError:
        raise BadAnswerError("REG_PROTOCOL", "The registry's answer is damaged or is not JSON.") from None
    total = reply.header("X-Total-Count")
    return JSONAnswer(
        value, int(total) if total.isascii() and total.isdecimal() and len(total) < 19 else None
    )
