"""Bearer tokens for pulling (distribution specification, "token authentication"), kept for one client's life.

Whoever controls a registry's answers chooses the address of the token service in them. The password goes
there only where that is the registry itself.
"""

import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from repositories.registries.answers import MalformedError, as_mapping
from repositories.registries.client import RegistryHTTP, read_json
from repositories.registries.failures import BadAnswerError
from tcss.outbound_addresses import origin_of

# A name is looked for at its beginning only: read anew from every letter, 64 KB of them take a minute.
_PARAMETER = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z][A-Za-z0-9_-]*)="([^"\\]{0,2048})"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}\Z")
TOKEN_ANSWER_BYTES = 2**20
_DEFAULT_LIFE_SECONDS = 60
_LONGEST_LIFE_SECONDS = 24 * 60 * 60
# A token is renewed this long before it ends, so that none ends on its way.
_MARGIN_SECONDS = 10


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
        self._tokens: dict[str, _Token] = {}

    def header(self, repository: str) -> dict[str, str]:
        """The Authorization header to ask with: none until the registry has said what it wants."""
        if self._basic:
            return self._http.basic()
        token = self._tokens.get(repository)
        if token is None or token.good_until <= time.monotonic():
            if self._service is None:
                return {}
            token = self._tokens[repository] = self._ask(repository)
        return {"Authorization": f"Bearer {token.text}"}

    def refused(self, repository: str, challenge: str) -> bool:
        """Learn from a 401; True when the question is worth being asked again.

        Harbor answers a bearer token that has ended with the challenge Basic, so the service it named before
        is remembered.
        """
        if self._tokens.pop(repository, None) is not None:
            return True
        scheme, _, rest = challenge.strip().partition(" ")
        if scheme.lower() == "bearer" and self._service is None:
            parameters = {key.lower(): value for key, value in _PARAMETER.findall(rest)}
            self._service = self._checked(parameters.get("realm", "")), parameters.get("service", "")
            return True
        if scheme.lower() == "basic" and not self._basic and self._service is None:
            self._basic = True
            return True
        return False

    def _checked(self, realm: str) -> str:
        if origin_of(realm) != self._http.origin:
            raise BadAnswerError(
                "REG_PROTOCOL",
                "The token service is on another host, port or scheme than the registry.",
                "Set the registry's external address to the one entered here, so that both are the same.",
            )
        return realm

    def _ask(self, repository: str) -> _Token:
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
