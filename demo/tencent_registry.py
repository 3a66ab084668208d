"""The registries behind the demo Tencent API, one for each TCR instance and CCR region, and the storage.

Established: the token flow of the registry protocol, that pulls log in with the account's number and a token
of the instance (TCR) or the fixed password (CCR), and that an opened entry lets nobody in until the allowlist
has an entry. Inferred: that realm and service are Harbor's, that wrong passwords are refused at the token
service, that the allowlist answers 403, and that blobs come by a redirect from another host (COS).
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from demo.blobs import DIGEST, BlobStore
from demo.catalog import PULL, Account, Catalog, Grant
from demo.distribution import BLOB, Distribution, Pull, stored
from demo.exchange import Answer, Request, error, page
from demo.identity import Tokens, basic
from demo.listener import Listener
from demo.tencent_model import Instance

SIGNED_FOR = timedelta(minutes=20)
"""How long the signed address of a blob holds."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a registry offers at this moment.

    One without an entry does not talk to anybody; one that is `forbidden` talks and refuses everything.
    """

    catalog: Catalog
    anonymous: bool = False
    has_entry: bool = True
    forbidden: bool = False


def shelf_of(instance: Instance | None, *, private: bool) -> Shelf:
    """The registry of an instance, from the internet or from a private network; None was deleted."""
    if instance is None:
        return Shelf(Catalog(), has_entry=False)
    here = ip_address("127.0.0.1")
    listed = any(here in ip_network(each.network, strict=False) for each in instance.allowlist)
    return Shelf(
        instance.catalog,
        anonymous=instance.anonymous,
        has_entry=bool(instance.networks) if private else instance.entry == "Opened",
        forbidden=instance.status != "Running" or not (private or listed),
    )


class RegistryFace(Listener):
    """The registry of one instance, or of one region's personal edition; read-only.

    `login` says whether a name and a password are right. `redirect` gives the address a blob's content is
    fetched from, or None when the registry sends it itself.
    """

    unannounced = ("application/json",)

    def __init__(
        self,
        blobs: BlobStore,
        shelf: Callable[[], Shelf],
        login: Callable[[str, str], bool],
        redirect: Callable[[str], str | None],
        now: Callable[[], datetime],
        *,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(certificate=certificate)
        self.pulls: list[Pull] = []
        self.tokens = Tokens(now=now)
        self._shelf = shelf
        self._login = login
        self._redirect = redirect
        self._distribution = Distribution(blobs, self.tokens, self.pulls.append)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Drop a connection by a reset when there is no entry, as if nobody listened."""
        if self._shelf().has_entry:
            return True
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def answer(self, request: Request) -> Answer:
        """The answer to a pull or to a request for a token."""
        shelf = self._shelf()
        if shelf.forbidden or not shelf.has_entry:
            return page(403, "403 Forbidden")
        authorization = request.headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            request = replace(request, access=self.tokens.read(token))
        elif authorization:
            name, password = basic(authorization)
            if self._login(name, password):
                known = Account(name, password, grants=(Grant("*", PULL),))
                request = replace(request, account=known)
            elif request.path == "/service/token":
                return error(401, "UNAUTHORIZED", "authentication required")
        catalog = shelf.catalog if shelf.anonymous else _closed_to_strangers(shelf.catalog)
        if request.path == "/service/token":
            return self._distribution.token(catalog, request)
        if not request.path.startswith("/v2/"):
            return replace(page(404, "404 Not Found"), known=False)
        return self._redirected(request, self._distribution.answer(catalog, request))

    def expire_tokens(self) -> None:
        """Make every registry token given so far worthless; the passwords stay good."""
        self.tokens.expire()

    def _redirected(self, request: Request, answer: Answer) -> Answer:
        blob = BLOB.fullmatch(request.path)
        if blob is None or answer.status not in (200, 206, 416):
            return answer
        address = self._redirect(blob["reference"])
        if address is None:
            return answer
        return Answer(307, {"Location": address, "Content-Type": "application/octet-stream"})


class StorageFace(Listener):
    """The object storage (COS): gives a blob to whoever has its signed address, and wants no credentials.

    A request with an Authorization header is refused and noted: a client carried its secret to another host.
    """

    def __init__(
        self,
        blobs: BlobStore,
        now: Callable[[], datetime],
        *,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(certificate=certificate)
        self._blobs = blobs
        self._now = now
        self._key = secrets.token_bytes(32)

    def signed(self, digest: str) -> str:
        """An address of a blob that holds for twenty minutes."""
        path = f"/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
        start = int(self._now().timestamp())
        span = f"{start};{start + int(SIGNED_FOR.total_seconds())}"
        query = f"q-sign-algorithm=sha256&q-sign-time={span}&q-signature={self._sign(path, span)}"
        return f"{self.url}{path}?{query}"

    def answer(self, request: Request) -> Answer:
        """A blob, or the stretch of it that was asked for."""
        if request.credentials_sent:
            return replace(_storage_error(400, "InvalidRequest"), known=False)
        span = request.parameter("q-sign-time") or ""
        if not hmac.compare_digest(self._sign(request.path, span), request.parameter("q-signature") or ""):
            return _storage_error(403, "SignatureDoesNotMatch")
        if int(span.rpartition(";")[2]) <= self._now().timestamp():
            return _storage_error(403, "AccessDenied")
        digest = f"sha256:{request.path.split('/')[-2]}"
        if not DIGEST.fullmatch(digest) or digest not in self._blobs:
            return _storage_error(404, "NoSuchKey")
        answer = stored(self._blobs, digest, request)
        headers = {name: text for name, text in answer.headers.items() if not name.startswith("Docker-")}
        return replace(answer, headers=headers)

    def _sign(self, path: str, span: str) -> str:
        return hmac.digest(self._key, f"{path}\n{span}".encode(), "sha256").hex()


def _closed_to_strangers(catalog: Catalog) -> Catalog:
    return replace(catalog, projects=tuple(replace(each, public=False) for each in catalog.projects))


def _storage_error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n</Error>\n"
    return Answer(status, {"Content-Type": "application/xml"}, body.encode())
