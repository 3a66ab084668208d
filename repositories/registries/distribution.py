"""Reads content by digest from any registry that speaks the distribution protocol (OCI distribution 1.1)."""

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urljoin

from images.digests import InvalidNameError, parse_digest, parse_repository
from repositories.registries.client import TRIES, RegistryHTTP
from repositories.registries.connection import Connection
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    CannotPullError,
    TryLaterError,
)
from repositories.registries.manifests import ACCEPT, parse_manifest, verify, wrong_digest
from repositories.registries.pace import LONGEST_PAUSE_SECONDS
from repositories.registries.protocol import ManifestBody
from repositories.registries.statuses import from_status
from repositories.registries.tokens import Tokens
from tcss.outbound import Reply
from tcss.outbound_addresses import Origin, origin_of
from tcss.outbound_sockets import Limits

MANIFEST_BYTES = 4 * 2**20
BLOB_SECONDS = 2 * 60 * 60.0
_HOPS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Where object storage never is, and where a text that looks like HTTP may be taken for a command.
_NOT_STORAGE = frozenset({2375, 2376, 3306, 3310, 5432, 5672, 6379, 6380, 9042, 11211, 27017})


class _OtherPartError(BadAnswerError):
    """A part of a blob that was not asked for."""


class DistributionClient:
    """The pull side of one registry; only digests and repository names of valid form go into a path."""

    def __init__(self, connection: Connection, *, limits: Limits | None = None, tries: int = TRIES) -> None:
        self._http = RegistryHTTP(connection, limits=limits, tries=tries)
        self._tokens = Tokens(self._http)

    def check_pull(self, repository: str) -> None:
        """Prove the right to pull from a repository without pulling, which would move a pull time."""
        path = f"/v2/{parse_repository(repository)}/tags/list?n=1"
        with self._open(repository, path, {}, hops=0) as reply:
            reply.read(MANIFEST_BYTES)

    def get_manifest(self, repository: str, digest: str) -> ManifestBody:
        """The manifest with that digest, verified against it."""
        path = self._path(repository, "manifests", digest)

        def ask() -> ManifestBody:
            with self._open(repository, path, {"Accept": ACCEPT}, hops=0) as reply:
                raw = reply.read(MANIFEST_BYTES)
                return parse_manifest(raw, digest, reply.header("Content-Type"))

        return self._http.retrying(ask)

    def read_blob(self, repository: str, digest: str, *, limit: int) -> bytes:
        """A small blob, whole and verified; one of more than ``limit`` bytes is refused."""
        path = self._path(repository, "blobs", digest)

        def ask() -> bytes:
            with self._open(repository, path, {}, hops=_HOPS) as reply:
                content = reply.read(limit)
            verify(content, digest)
            return content

        return self._http.retrying(ask)

    @contextlib.contextmanager
    def get_blob(
        self, repository: str, digest: str, size: int, *, offset: int = 0
    ) -> Iterator[Iterator[bytes]]:
        """The blob's bytes from ``offset`` on; see PullClient."""
        chunks = self._chunks(repository, digest, size, offset)
        try:
            yield chunks
        finally:
            chunks.close()

    def _chunks(self, repository: str, digest: str, size: int, offset: int) -> Generator[bytes, None, None]:
        path = self._path(repository, "blobs", digest)
        hasher = hashlib.new(digest.partition(":")[0]) if offset == 0 else None
        position, failures, in_part = offset, 0, True
        while position < size:
            before = position
            try:
                for chunk in self._stretch(repository, path, position, size, in_part=in_part):
                    position += len(chunk)
                    if hasher is not None:
                        hasher.update(chunk)
                    yield chunk
                if position < size:
                    raise TryLaterError("REG_CONNECT", "The registry ended the connection too early.")
            except _OtherPartError:
                if not (position and in_part):
                    raise
                in_part = False
            except TryLaterError as error:
                failures = 1 if position > before else failures + 1
                if failures >= self._http.tries:
                    raise
                self._http.pause(failures, at_least=min(error.retry_after, LONGEST_PAUSE_SECONDS))
        if hasher is not None and hasher.hexdigest() != digest.partition(":")[2]:
            raise wrong_digest()

    def _stretch(
        self, repository: str, path: str, position: int, size: int, *, in_part: bool
    ) -> Iterator[bytes]:
        """The bytes from ``position`` to the end of the blob or of the connection, whichever comes first.

        Without ``in_part`` the whole is asked for and its beginning passed over; a server may know no parts.
        """
        headers = {"Range": f"bytes={position}-"} if position and in_part else {}
        limits = Limits(total=BLOB_SECONDS, body=size + MANIFEST_BYTES)
        limits = replace(limits, connect=self._http.limits.connect, read=self._http.limits.read)
        with self._open(repository, path, headers, hops=_HOPS, limits=limits) as reply:
            first = position if headers else 0
            skip = position if reply.status == 200 else position - first
            # A whole blob sent as a part of itself is whole all the same; its digest proves it.
            if reply.status == 206 and not reply.header("Content-Range").startswith(f"bytes {first}-"):
                raise _OtherPartError(
                    "REG_PROTOCOL", "The registry sent another part than the one asked for."
                )
            left = size - position
            for received in reply.stream(size + MANIFEST_BYTES):
                chunk, skip = received[skip:], max(skip - len(received), 0)
                if len(chunk) > left:
                    raise CannotPullError(
                        "IMG_DIGEST", "The registry sends more bytes than the manifest says the layer has."
                    )
                left -= len(chunk)
                if chunk:
                    yield chunk

    def _path(self, repository: str, what: str, digest: str) -> str:
        try:
            return f"/v2/{parse_repository(repository)}/{what}/{parse_digest(digest)}"
        except InvalidNameError:
            raise CannotPullError("IMG_MALFORMED", "A name or digest is not of valid form.") from None

    @contextlib.contextmanager
    def _open(
        self,
        repository: str,
        path: str,
        headers: Mapping[str, str],
        *,
        hops: int,
        limits: Limits | None = None,
    ) -> Iterator[Reply]:
        """The answer of status 200 or 206, after at most one new token and ``hops`` redirects."""
        url = f"{self._http.origin}{path}"
        for _ in range(3):
            authorization = self._tokens.header(repository)
            with self._http.open(url, {**headers, **authorization}, limits) as reply:
                if reply.status == 401 and self._tokens.refused(
                    repository, reply.header("WWW-Authenticate"), authorization
                ):
                    continue
                if reply.status in _REDIRECTS and hops:
                    target = self._target(url, reply)
                else:
                    yield _checked(reply)
                    return
            with self._follow(target, headers, hops - 1, limits) as final:
                yield final
            return
        raise AccessRefusedError(
            "REG_AUTH",
            "The registry refuses this account: wrong username or password, or no right to pull.",
            "Enter username and password again, and give the account the right to pull.",
        )

    @contextlib.contextmanager
    def _follow(
        self, url: str, headers: Mapping[str, str], hops: int, limits: Limits | None
    ) -> Iterator[Reply]:
        """Where a blob really is, asked without any credentials."""
        with self._http.open(url, headers, limits) as reply:
            if not (reply.status in _REDIRECTS and hops):
                yield _checked(reply)
                return
            target = self._target(url, reply)
        with self._follow(target, headers, hops - 1, limits) as final:
            yield final

    def _target(self, url: str, reply: Reply) -> str:
        """Where a redirect leads, if that is a place where blobs may be."""
        try:
            target = urljoin(url, reply.header("Location"))
        except ValueError:
            target = ""
        origin = origin_of(target)
        if origin is None or not self._may_store(origin):
            raise BadAnswerError(
                "REG_PROTOCOL",
                "The registry sends us for a layer to an address where no storage may be.",
                "Check the registry's storage settings: its redirects must lead to https addresses.",
            )
        return target

    def _may_store(self, origin: Origin) -> bool:
        secure_enough = origin.is_https or not self._http.origin.is_https
        usual = origin.port in {80, 443} or origin.port >= 1024
        return secure_enough and usual and origin.port not in _NOT_STORAGE


def _checked(reply: Reply) -> Reply:
    if reply.status not in {200, 206}:
        raise from_status(reply)
    return reply
