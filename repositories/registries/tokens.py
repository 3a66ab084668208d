"""Bearer tokens for pulling (distribution specification, "token authentication"), kept for one client's life.

Whoever controls a registry's answers chooses the address of the token service in them. The password goes
there only where that is the registry itself.
"""

import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from repositories.registries.answers import MalformedError, as_mapping
from repositories.registries.client import RegistryHTTP, read_json
from repositories.registries.failures import AccessRefusedError, BadAnswerError, LoginRefusedError
from repositories.registries.statuses import NOT_KNOWN, NOT_KNOWN_REMEDY
from tcss.outbound_addresses import origin_of

# A name is looked for at its beginning only: read anew from every letter, 64 KB of them take a minute.
_PARAMETER = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z][A-Za-z0-9_-]*)="([^"\\]{0,2048})"')
_SCHEME = re.compile(r"(?:^|,)\s*(Bearer|Basic)(?=[\s,]|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}\Z")
TOKEN_ANSWER_BYTES = 2**20
_DEFAULT_LIFE_SECONDS = 60
_LONGEST_LIFE_SECONDS = 24 * 60 * 60
# A token is renewed this long before it ends, so that none ends on its way.
_MARGIN_SECONDS = 10
# A registry may have tens of thousands of repositories; each is read for a while and then no more.
_TOKENS_KEPT = 256
_TURNS = 16


def _offered(challenge: str) -> dict[str, str]:
    """The ways to log in that a 401 offers and that we speak, each with the text of its parameters."""
    found = list(_SCHEME.finditer(challenge))
    ends = [*(match.start() for match in found), len(challenge)][1:]
    return {match[1].lower(): challenge[match.end() : end] for match, end in zip(found, ends, strict=True)}


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    good_until: float


class Tokens:
    """The tokens of one registry, one for each repository that was asked for."""

    def __init__(self, http: RegistryHTTP) -> None:
        self._http = http
        self._service: tuple[str, str] | None = None
        self._basic = False
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._lock = threading.Lock()
        # Threads that need the same token ask for it once; those that need others seldom wait for them.
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        self._first = threading.Lock()
        self._is_accepted = False
        self._is_refused = False

    def header(self, repository: str) -> dict[str, str]:
        """The Authorization header to ask with: none until the registry has said what it wants."""
        if self._basic:
            return self._http.basic()
        token = self._tokens.get(repository)
        if token is None or token.good_until <= time.monotonic():
            if self._service is None:
                return {}
            token = self._renewed(repository)
        return {"Authorization": f"Bearer {token.text}"}

    def _renewed(self, repository: str) -> _Token:
        with self._turns[hash(repository) % len(self._turns)]:
            token = self._tokens.get(repository)
            if token is None or token.good_until <= time.monotonic():
                token = self._ask(repository)
                with self._lock:
                    self._tokens[repository] = token
                    self._tokens.move_to_end(repository)
                    while len(self._tokens) > _TOKENS_KEPT:
                        self._tokens.popitem(last=False)
            return token

    def refused(self, repository: str, challenge: str, sent: Mapping[str, str]) -> bool:
        """Learn from a 401 to a question with the header ``sent``; True when it is worth being asked again.

        Harbor answers a bearer token that has ended with the challenge Basic, so the service it named before
        is remembered.
        """
        with self._lock:
            return self._learn(repository, challenge, sent)

    def _learn(self, repository: str, challenge: str, sent: Mapping[str, str]) -> bool:
        authorization = sent.get("Authorization", "")
        if authorization.startswith("Bearer "):
            token = self._tokens.get(repository)
            # Another thread may have renewed it meanwhile.
            if token is not None and authorization == f"Bearer {token.text}":
                del self._tokens[repository]
            return True
        if not sent and (self._basic or self._service is not None):
            return True
        offered = _offered(challenge)
        if "bearer" in offered and self._service is None:
            parameters = {key.lower(): value for key, value in _PARAMETER.findall(offered["bearer"])}
            self._service = self._checked(parameters.get("realm", "")), parameters.get("service", "")
            return True
        if "basic" in offered and not self._basic and self._service is None:
            self._basic = True
            return True
        if not sent:
            raise BadAnswerError(
                "REG_PROTOCOL",
                "The registry asks for a way to log in that this console does not speak.",
                "Let the registry take a username and password, or tokens, from API clients.",
            )
        return False

    def _checked(self, realm: str) -> str:
        if not realm:
            raise BadAnswerError("REG_PROTOCOL", "The registry does not say where its token service is.")
        if origin_of(realm) != self._http.origin:
            raise BadAnswerError(
                "REG_PROTOCOL",
                "The token service is on another host, port or scheme than the registry.",
                "Set the registry's external address to the one entered here, so that both are the same.",
            )
        return realm

    def _ask(self, repository: str) -> _Token:
        """A new token; one thread alone asks for the first, and none asks after the account was refused."""
        with contextlib.nullcontext() if self._is_accepted else self._first:
            if self._is_refused:
                raise LoginRefusedError("REG_AUTH", NOT_KNOWN, NOT_KNOWN_REMEDY)
            try:
                token = self._ask_as_known(repository)
            except AccessRefusedError as error:
                # A token service answers 401 to a wrong password; what an account may not do is no 401 there.
                if error.status != 401:
                    raise
                self._is_refused = True
                raise LoginRefusedError("REG_AUTH", NOT_KNOWN, NOT_KNOWN_REMEDY) from None
            self._is_accepted = True
            return token

    def _ask_as_known(self, repository: str) -> _Token:
        try:
            return self._ask_once(repository)
        except AccessRefusedError as error:
            # A temporary account may end before its time.
            if error.status != 401 or not self._http.connection.forget_credentials():
                raise
            return self._ask_once(repository)

    def _ask_once(self, repository: str) -> _Token:
        assert self._service is not None  # noqa: S101 - header() asks only then
        realm, service = self._service
        query = urlencode({"service": service, "scope": f"repository:{repository}:pull"})
        # The realm may write our own origin in another way, so only its path is taken.
        path = urlsplit(realm).path or "/"
        # Whoever pulls asks again after passing errors; asking again here too would multiply the attempts.
        with self._http.open(f"{self._http.origin}{path}?{query}", self._http.basic()) as reply:
            answer = read_json(reply, limit=TOKEN_ANSWER_BYTES)
        try:
            body = as_mapping(answer.value)
        except MalformedError:
            body = {}
        text = body.get("token") or body.get("access_token")
        if not isinstance(text, str) or not _TOKEN.match(text):
            raise BadAnswerError("REG_PROTOCOL", "The registry's token service gave no token.")
        life = body.get("expires_in")
        if not isinstance(life, int) or isinstance(life, bool) or life <= 0:
            life = _DEFAULT_LIFE_SECONDS
        seconds = max(min(life, _LONGEST_LIFE_SECONDS) - _MARGIN_SECONDS, 1)
        return _Token(text, time.monotonic() + seconds)
