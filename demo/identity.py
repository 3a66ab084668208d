"""Who is asking: passwords, robots, registry tokens and the session cookie, with Harbor's habits."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import json
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.catalog import Account, Catalog
from demo.exchange import Access, Answer, error, page


class Tokens:
    """Registry tokens: signed, short-lived, and revocable all at once so that tests can let them expire.

    `stranger` is the subject of a token for nobody in particular; None leaves the subject out. `now` is the
    clock by which they end; without one it is the machine's.
    """

    def __init__(
        self,
        *,
        stranger: str | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.stranger = stranger
        self._now = now or functools.partial(datetime.now, UTC)
        self.lifetime = timedelta(minutes=30)
        self._key = secrets.token_bytes(32)
        self._generation = 0

    def issue(
        self, account: Account | None, service: str, access: Sequence[Mapping[str, object]] | None
    ) -> tuple[str, datetime]:
        """A token for these accesses and the time it was made."""
        now = self._now()
        claims: dict[str, Any] = {
            "iss": "harbor-token-issuer",
            "aud": service,
            "exp": (now + self.lifetime).timestamp(),
            "nbf": int(now.timestamp()),
            "iat": int(now.timestamp()),
            "jti": f"{self._generation}-{secrets.token_hex(8)}",
            "access": access,
        }
        subject = account.name if account else self.stranger
        if subject is not None:
            claims["sub"] = subject
        parts = [pack(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims)]
        signed = ".".join(parts)
        return f"{signed}.{self._sign(signed)}", now

    def expire(self) -> None:
        """Make every token issued so far worthless, as if its time had passed."""
        self._generation += 1

    def read(self, token: str) -> Access | None:
        """What a token allows, or None when it is forged, garbled or expired."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            return None
        claims = json.loads(unpack(signed.split(".")[1]))
        current = claims["jti"].startswith(f"{self._generation}-")
        if not current or claims["exp"] <= self._now().timestamp():
            return None
        allowed = {
            each["name"]: frozenset(each["actions"])
            for each in claims["access"] or []
            if each["type"] in ("repository", "registry")
        }
        return Access(subject=claims.get("sub", ""), actions=allowed)

    def _sign(self, text: str) -> str:
        return pack(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


class Logins:
    """Password checks. After a wrong password the name is locked for a while, for everybody who uses it.

    `penalty` is that while in seconds; a real Harbor takes 1.5 and answers no sooner. 0 switches it off.
    """

    def __init__(self) -> None:
        self.penalty = 0.0
        self.stopped = threading.Event()
        self._locked: dict[str, datetime] = {}

    def locked(self, name: str) -> bool:
        """Whether a name is locked now because of a wrong password."""
        return name in self._locked and datetime.now(UTC) < self._locked[name]

    def account(self, catalog: Catalog, authorization: str) -> Account | None:
        """The account of a Basic header, or None: unknown, wrong, disabled, expired and locked look alike."""
        name, password = basic(authorization)
        if not name:
            return None
        now = datetime.now(UTC)
        found = catalog.account(name)
        locked = self.locked(name)
        right = found is not None and hmac.compare_digest(found.password.encode(), password.encode())
        if found is None or not right or found.disabled or (found.expires and found.expires <= now):
            if self.penalty and not locked:
                self._locked[name] = now + timedelta(seconds=self.penalty)
                self.stopped.wait(self.penalty)
            return None
        return None if locked else found


class Sessions:
    """The `sid` cookie. A client that keeps it is asked for a CSRF token on everything but reading."""

    proof_cookie = "_gorilla_csrf"
    proof_header = "x-harbor-csrf-token"
    distrust = error(403, "FORBIDDEN", "CSRF token invalid")

    def __init__(self) -> None:
        self._key = secrets.token_hex(16)

    def signed(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """The answer with a request's number and its cookies: the session first, then the CSRF token."""
        more = {"X-Request-Id": headers.get("x-request-id", str(uuid.uuid4()))}
        sent = _cookies(headers)
        made: tuple[str, ...] = ()
        if "sid" not in sent:
            made = (_session(),)
        else:
            more |= {"X-Harbor-CSRF-Token": self._key, "Vary": "Cookie"}
            if self.proof_cookie not in sent:
                made = (self._proof("Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"),)
        return replace(answer, headers={**answer.headers, **more}, set_cookies=made)

    def refusal(self, method: str, headers: Mapping[str, str]) -> Answer | None:
        """None for reading, for the cookie-less, and for the token beside the cookies."""
        sent = _cookies(headers)
        if method in ("GET", "HEAD", "OPTIONS") or "sid" not in sent:
            return None
        trusted = sent.get(self.proof_cookie) == self._key == headers.get(self.proof_header)
        return None if trusted else self.distrust

    def _proof(self, attributes: str) -> str:
        return f"{self.proof_cookie}={self._key}; {attributes}"


class OlderSessions(Sessions):
    """The cookies of Harbor 1.10: the session and, from all but the page for unknown paths, the token."""

    proof_cookie = "_xsrf"
    proof_header = "x-xsrftoken"
    distrust = page(422, "Unprocessable Entity", cookies=True)
    life = timedelta(hours=1)

    def signed(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """The answer with the cookies the client did not send; requests have no numbers yet."""
        sent = _cookies(headers)
        made = [] if "sid" in sent else [_session()]
        if self.proof_cookie not in sent and answer.known:
            ends = f"{datetime.now(UTC) + self.life:%a, %d %b %Y %H:%M:%S} UTC"
            seconds = int(self.life.total_seconds())
            made.append(self._proof(f"Expires={ends}; Max-Age={seconds}; Path=/"))
        return replace(answer, set_cookies=tuple(made))


def _session() -> str:
    return f"sid={secrets.token_hex(16)}; Path=/; HttpOnly"


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = (piece.strip().partition("=") for piece in headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


def basic(authorization: str) -> tuple[str, str]:
    """Name and password of a Basic header; two empty words for any other."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def pack(content: bytes) -> str:
    """Base 64 as a JSON web token has it, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unpack(text: str) -> bytes:
    """The bytes that `pack` packed."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
