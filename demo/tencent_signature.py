"""TC3-HMAC-SHA256 as the cloud checks it: written from the published algorithm, not from any client's code.

Established by the API's manual: the algorithm, that time and server may differ by five minutes, that the date
is that of the timestamp in UTC, and the error codes. The words of SecretIdNotFound and SignatureFailure were
seen in answers of the real service; the other words, and the order of the checks, are inferred.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from demo.exchange import Request
from demo.tencent_calls import ApiError

ALGORITHM = "TC3-HMAC-SHA256"
TOLERANCE = timedelta(minutes=5)
AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<id>[^/\s,]+)/(?P<date>\d{{4}}-\d\d-\d\d)/(?P<service>[a-z]+)/tc3_request, ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
ALWAYS_SIGNED = frozenset({"content-type", "host"})


@dataclass(frozen=True, slots=True)
class Claim:
    """What an Authorization header says of itself."""

    secret_id: str
    date: str
    service: str
    signed_headers: str
    signature: str


def check(request: Request, keys: Mapping[str, str], service: str, now: datetime) -> str:
    """The secret id that signed a request. Raises ApiError for everything but a right and fresh signature.

    `keys` are the secret keys by secret id.
    """
    claim = _claim(request.headers)
    if claim.secret_id not in keys:
        raise ApiError(
            "AuthFailure.SecretIdNotFound",
            "The SecretId is not found, please ensure that your SecretId is correct.",
        )
    if "x-tc-token" in request.headers:
        raise ApiError("AuthFailure.TokenFailure", "The token is not valid for this SecretId.")
    sent = _timestamp(request.headers)
    if abs(now - sent) > TOLERANCE:
        raise ApiError(
            "AuthFailure.SignatureExpire",
            f"Signature expired: the timestamp {int(sent.timestamp())} differs from the server time "
            f"{int(now.timestamp())} by more than five minutes.",
        )
    expected = sign(keys[claim.secret_id], f"{sent:%Y-%m-%d}", service, text_to_sign(request, claim, sent))
    same_scope = (claim.date, claim.service) == (f"{sent:%Y-%m-%d}", service)
    if not same_scope or not hmac.compare_digest(expected, claim.signature):
        raise ApiError(
            "AuthFailure.SignatureFailure",
            "The provided credentials could not be validated. Please check your signature is correct.",
        )
    return claim.secret_id


def text_to_sign(request: Request, claim: Claim, sent: datetime) -> str:
    """The four lines that are signed: algorithm, time, scope and the digest of the whole request."""
    payload = request.body
    if request.headers.get("x-tc-content-sha256") == "UNSIGNED-PAYLOAD":
        payload = b"UNSIGNED-PAYLOAD"
    names = claim.signed_headers.split(";")
    headers = "".join(f"{name}:{request.headers.get(name, '').strip().lower()}\n" for name in names)
    parts = urlsplit(request.target)
    lines = [request.method, parts.path, parts.query, headers, claim.signed_headers, _digest(payload)]
    scope = f"{claim.date}/{claim.service}/tc3_request"
    canonical = "\n".join(lines).encode("utf-8", "surrogateescape")
    return "\n".join([ALGORITHM, str(int(sent.timestamp())), scope, _digest(canonical)])


def sign(secret_key: str, date: str, service: str, text: str) -> str:
    """The signature in hexadecimal, by the key that is derived from secret key, date and service."""
    key = f"TC3{secret_key}".encode()
    for step in (date, service, "tc3_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _claim(headers: Mapping[str, str]) -> Claim:
    found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None or ALWAYS_SIGNED - set(found["headers"].split(";")):
        raise ApiError(
            "AuthFailure.InvalidAuthorization",
            "The Authorization in the request header does not comply with the standard.",
            unexpected=True,
        )
    return Claim(found["id"], found["date"], found["service"], found["headers"], found["signature"])


def _timestamp(headers: Mapping[str, str]) -> datetime:
    text = headers.get("x-tc-timestamp", "")
    if not text:
        raise ApiError.missing("Timestamp")
    if not re.fullmatch(r"[0-9]{1,11}", text):
        raise ApiError.wrong_type("Timestamp")
    return datetime.fromtimestamp(int(text), UTC)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
