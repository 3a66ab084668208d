"""Calls of Tencent Cloud's TCR API (version 2019-09-24): signed by its SDK, sent through the guarded session.

The SDK's own connections follow redirects, keep cookies, obey the environment's proxies and know no deadline,
and its retryer asks again after success. Only its signatures (TC3-HMAC-SHA256) are used.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from repositories.registries.answers import MalformedError, as_mapping, text
from repositories.registries.client import ASKS_FOR_FEWER, TRIES, RegistryHTTP, read_json
from repositories.registries.connection import Connection, Network
from repositories.registries.failures import (
    BadAnswerError,
    NoLoginError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.pace import Pace
from repositories.registries.statuses import from_outbound, from_status
from repositories.registries.tencent_failures import WrongRegionError, of_code, of_status, unreachable
from tcss.outbound_addresses import Origin, Service
from tcss.outbound_failures import OutboundError
from tcss.outbound_sockets import Limits

SERVICE, VERSION = "tcr", "2019-09-24"
# A region where both editions are, for questions that are about no region.
HOME_REGION = "ap-guangzhou"
_HOSTS = {"china": "tcr.tencentcloudapi.com", "intl": "tcr.intl.tencentcloudapi.com"}
_REGION = re.compile(r"[a-z][a-z0-9-]{1,31}\Z", re.ASCII)
_SECRET_ID = re.compile(r"[A-Za-z0-9_-]{8,128}\Z", re.ASCII)
_CALLS_A_SECOND = 20
# Calls do not arrive at the distance they were begun.
_WINDOW_SECONDS = 1.1
_OTHER_RATES = {
    "DescribeRepositories": 100,
    "DescribeImages": 100,
    "DescribeRepositoryOwnerPersonal": 100,
    "DescribeImagePersonal": 100,
    "CreateInstanceToken": 100,
    "DescribeImageManifests": 10,
}


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


def is_region(name: object) -> bool:
    """Whether ``name`` has the form of a region's name; it becomes part of a header and of a host name."""
    return isinstance(name, str) and _REGION.match(name) is not None


def is_secret_id(text: str) -> bool:
    """Whether ``text`` has the form of a secret ID; it becomes part of a header."""
    return _SECRET_ID.match(text) is not None


@dataclass(frozen=True, slots=True)
class CloudCredentials:
    """Who asks, and where: ``site`` is china or intl; ``endpoint`` an origin instead of the site's hosts.

    ``secret_key`` is called when a call is signed, so that no copy lies about.
    """

    secret_id: str
    secret_key: Callable[[], str] = field(repr=False)
    site: str = "china"
    endpoint: str = ""
    allowed_networks: tuple[Network, ...] = ()
    own_services: tuple[Service, ...] = ()
    pace: Pace | None = None
    alive: Callable[[], None] = field(default=_nothing_to_do, repr=False)

    def get_credential_info(self) -> tuple[str, str, None]:
        """What the SDK asks its credential for: ID, key, and a token that only temporary keys have."""
        return self.secret_id, self.secret_key(), None

    def address(self, region: str) -> str:
        """The origin of the API for a region; finance regions have hosts of their own."""
        if self.endpoint:
            return self.endpoint
        host = f"tcr.{region}.tencentcloudapi.com" if region.endswith("-fsi") else _HOSTS[self.site]
        return f"https://{host}"


class Rate:
    """At most so many starts in any second, for all threads of the process together."""

    def __init__(self, calls: int) -> None:
        self._starts: deque[float] = deque(maxlen=calls)
        self._lock = threading.Lock()

    def take(self) -> float:
        """Reserve the next start, and say in how many seconds it is."""
        with self._lock:
            now = time.monotonic()
            is_full = len(self._starts) == self._starts.maxlen
            start = max(now, self._starts[0] + _WINDOW_SECONDS) if is_full else now
            self._starts.append(start)
            return start - now


# Tencent Cloud counts the calls of an account by action, so every client of it here goes by the same watch.
_rates: dict[tuple[str, str], Rate] = {}
_rates_lock = threading.Lock()


def _rate(secret_id: str, action: str) -> Rate:
    with _rates_lock:
        calls = _OTHER_RATES.get(action, _CALLS_A_SECOND)
        return _rates.setdefault((secret_id, action), Rate(calls))


@dataclass(frozen=True, slots=True)
class _Accepted:
    """An answer as the SDK looks at one: it finds nothing left to check, and hands ``content`` on."""

    content: Mapping[str, object]
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def _asks_for_fewer(error: RegistryError) -> bool:
    """Whether the API, or what stands before it, is asked too much."""
    return error.code == "REG_RATE" or error.status in ASKS_FOR_FEWER


class _Door:
    """Takes the place of the SDK's connections: sends a signed request, and reads its answer strictly."""

    def __init__(self, http: RegistryHTTP, region: str) -> None:
        self._http = http
        self._region = region

    def send_request(self, request: Any) -> _Accepted:
        """The answer's Response object, when there is a turn; raises RegistryError."""
        with self._http.turn() as turn:
            try:
                return self._send(request)
            except RegistryError as error:
                if turn is not None and (error.code == "REG_TIMEOUT" or _asks_for_fewer(error)):
                    turn.was_too_much(error.retry_after if isinstance(error, TryLaterError) else 0.0)
                raise

    def _send(self, request: Any) -> _Accepted:
        url, body = f"{self._http.origin}/", str(request.data).encode()
        action = str(request.header["X-TC-Action"])
        try:
            with self._http.session.post(
                url, body, headers=dict(request.header), limits=self._http.limits
            ) as reply:
                if reply.status != 200:
                    raise of_status(from_status(reply), self._http.origin.host)
                answer = read_json(reply, limit=self._http.limits.body)
                date = reply.header("Date")
        except OutboundError as error:
            raise unreachable(from_outbound(error), self._http.origin.host) from None
        try:
            response = as_mapping(as_mapping(answer.value).get("Response"))
            if "Error" in response:
                code = text(as_mapping(response["Error"]), "Code", limit=200)
                raise of_code(code, action, self._region, date)
        except MalformedError:
            raise BadAnswerError(
                "REG_PROTOCOL", "The answer is not of the form of Tencent Cloud's API."
            ) from None
        return _Accepted(response)


class TencentAPI:
    """The API for one account; may be used from several threads."""

    def __init__(
        self, credentials: CloudCredentials, *, limits: Limits | None = None, tries: int = TRIES
    ) -> None:
        self._credentials = credentials
        self._limits = limits
        self._tries = tries
        self._clients: dict[str, tuple[RegistryHTTP, CommonClient]] = {}
        self._lock = threading.Lock()

    def call(self, action: str, region: str, **parameters: object) -> Mapping[str, object]:
        """What ``action`` answers in ``region``; asked again after passing errors. Raises RegistryError."""
        http, client = self._client(region)
        rate = _rate(self._credentials.secret_id, action)

        def ask() -> Mapping[str, object]:
            http.session.pause(rate.take())
            try:
                return as_mapping(client.call(action, parameters))
            except TencentCloudSDKException:
                # The SDK found something wrong before anything was sent; its text may hold what it looked at.
                raise NoLoginError(
                    "REG_AUTH", "The secret ID or key is not of valid form.", "Enter both again."
                ) from None

        return http.retrying(ask)

    def hurried(self, limits: Limits, alive: Callable[[], None]) -> "TencentAPI":
        """The same account's API for somebody who waits: each call once, and ``alive`` may end it."""
        return TencentAPI(replace(self._credentials, alive=alive), limits=limits, tries=1)

    def origin(self, region: str) -> Origin:
        """Where the calls for a region go."""
        return self._client(region)[0].origin

    def _client(self, region: str) -> tuple[RegistryHTTP, CommonClient]:
        with self._lock:
            if region not in self._clients:
                self._clients[region] = self._new_client(region)
            return self._clients[region]

    def _new_client(self, region: str) -> tuple[RegistryHTTP, CommonClient]:
        if not is_region(region):
            raise WrongRegionError("REG_NOT_FOUND", "The name of the region is not of valid form.")
        account = self._credentials
        http = RegistryHTTP(
            Connection(
                address=account.address(region),
                username="",
                password=str,
                allowed_networks=account.allowed_networks,
                own_services=account.own_services,
                pace=account.pace,
                alive=account.alive,
            ),
            limits=self._limits,
            tries=self._tries,
        )
        profile = ClientProfile(
            httpProfile=HttpProfile(endpoint=http.origin.netloc, protocol=http.origin.scheme),
            language="en-US",
        )
        client = CommonClient(SERVICE, VERSION, account, region, profile)
        client.request = _Door(http, region)
        return http, client
