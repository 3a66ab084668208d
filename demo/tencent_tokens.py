"""Access tokens of TCR instances: what `CreateInstanceToken` gives and the instance's registry takes.

Established by the definition and its examples: three parts as in a JSON web token, the claims, one hour for a
temporary one. A real token is signed with RS256; this one has HS256, which the standard library can do. That
a token opens only the instance that gave it is inferred.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from demo.identity import pack, unpack
from demo.tencent_model import CloudAccount, Instance

TEMPORARY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class InstanceToken:
    """A token, when it ends, and the id that only a lasting one has."""

    text: str = field(repr=False)
    ends: datetime
    id: str = ""


class InstanceTokens:
    """Gives tokens and knows them again, until their end by the cloud's clock or until `expire`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.lifetime = TEMPORARY
        self._now = now
        self._key = secrets.token_bytes(32)
        self._expired_before = 0

    def issue(self, account: CloudAccount, instance: Instance, *, lasting: bool = False) -> InstanceToken:
        """A token for one instance: a temporary one, or one that lasts as long as the instance says."""
        now = self._now()
        life = timedelta(hours=instance.token_hours) if lasting else self.lifetime
        token_id = secrets.token_hex(10) if lasting else ""
        claims = {
            "ownerUin": account.uin,
            "operatorUin": account.uin,
            "exp": (now + life).timestamp(),
            "nbf": int(now.timestamp()),
            "iat": int(now.timestamp()),
            "generation": self._expired_before,
            **({"tokenId": token_id} if lasting else {}),
        }
        parts = [pack(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": instance.id}, claims)]
        signed = ".".join(parts)
        return InstanceToken(f"{signed}.{self._sign(instance.id, signed)}", now + life, token_id)

    def opens(self, instance_id: str, uin: str, token: str) -> bool:
        """Whether a token, sent as the password of `uin`, is one of this instance and has not ended."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(instance_id, signed).encode()):
            return False
        claims = json.loads(unpack(signed.split(".")[1]))
        current = claims["generation"] == self._expired_before and claims["exp"] > self._now().timestamp()
        return current and bool(claims["operatorUin"] == uin)

    def expire(self) -> None:
        """Make every token given so far worthless, as if its time had passed."""
        self._expired_before += 1

    def _sign(self, instance_id: str, text: str) -> str:
        return pack(hmac.digest(self._key + instance_id.encode(), text.encode(), "sha256"))
