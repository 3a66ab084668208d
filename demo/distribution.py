"""The registry's own face: `/v2/` with manifests, blobs and tags, and `/service/token` that opens it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from demo.blobs import DIGEST, BlobMissingError, BlobStore
from demo.catalog import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Account, Artifact, Catalog
from demo.exchange import JSON_UTF8, Answer, FilePart, Request, error, json_answer
from demo.identity import Tokens
from demo.name_lists import Shape, listed, repository_names

NAME = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
MANIFEST = re.compile(rf"/v2/(?P<name>{NAME})/manifests/(?P<reference>[^/]+)")
BLOB = re.compile(rf"/v2/(?P<name>{NAME})/blobs/(?P<reference>[^/]+)")
TAGS = re.compile(rf"/v2/(?P<name>{NAME})/tags/list")
RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
SERVICES = ("harbor-registry", "harbor-notary")
PUSH_ACTIONS = {"push": "repository:push", "delete": "repository:delete"}
NEEDS_ACCEPT = {OCI_MANIFEST: "OCI manifest", OCI_INDEX: "OCI index"}


@dataclass(frozen=True, slots=True)
class Pull:
    """A manifest that was fetched whole; this is what moves `pull_time`."""

    repository: str
    digest: str
    at: datetime


class Distribution:
    """Answers registry requests out of a catalog and a blob store, and tells `pulled` of every pull."""

    def __init__(self, blobs: BlobStore, tokens: Tokens, pulled: Callable[[Pull], None]) -> None:
        self._blobs = blobs
        self._tokens = tokens
        self._pulled = pulled
        self._named: dict[str, frozenset[str]] = {}

    def answer(self, catalog: Catalog, request: Request) -> Answer:
        """The answer to a request whose path begins with `/v2/`."""
        if request.path == "/v2/":
            return self._base(request)
        if request.path == "/v2/_catalog":
            return self._catalog(catalog, request)
        for pattern, serve in ((MANIFEST, self._manifest), (BLOB, self._blob), (TAGS, self._tags)):
            found = pattern.fullmatch(request.path)
            if found is not None:
                refusal = self._refusal(catalog, request, found["name"])
                return refusal or serve(catalog, request, found.groupdict())
        return self._unrecognized(request)

    def _unrecognized(self, request: Request) -> Answer:
        return _refused(f"un-recognized request: {request.method} {request.target}", "", known=False)

    def _base(self, request: Request) -> Answer:
        if request.account or request.access:
            return Answer(200, {"Content-Type": JSON_UTF8, **VERSION}, b"{}")
        return _refused("unauthorized", _challenge(request, ""))

    def _refusal(self, catalog: Catalog, request: Request, name: str) -> Answer | None:
        """Why this request may not touch the repository, or None. Only reading is served."""
        if "/" not in name:
            refusal = error(400, "BAD_REQUEST", f"bad request: invalid repository name: {name}")
            return Answer(refusal.status, refusal.headers, refusal.body, cookies=False)
        actions = ",".join(needed(request.method))
        if not request.credentials_sent:
            reason = "authorize header needed to send HEAD to repository"
            return _refused(reason, _challenge(request, f"repository:{name}:{actions}"))
        project = name.partition("/")[0]
        if catalog.project(project) is None:
            return _refused(f"project {project} not found", "")
        wanted = needed(request.method)[-1]
        granted = request.access.actions.get(name, frozenset()) if request.access else None
        if granted is None:
            granted = frozenset(self._granted(catalog, request.account, name))
        if wanted not in granted:
            return _refused(
                f"unauthorized to access repository: {name}, action: {wanted}", _challenge(request, "")
            )
        if wanted != "pull":
            return error(405, "UNSUPPORTED", "the demo registry is read-only")
        if catalog.repository(name) is None:
            return error(404, "NOT_FOUND", f"repository {name} not found")
        return None

    def _manifest(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        repository = catalog.repository(names["name"])
        artifact = repository.find(names["reference"]) if repository else None
        if artifact is None:
            return self._missing(names["name"], names["reference"])
        asked = request.headers.get("if-none-match", "").strip('"')
        if asked == artifact.digest:
            return Answer(status=304, headers={**VERSION, "Etag": f'"{artifact.digest}"'})
        try:
            content = self._blobs.read(artifact.digest)
        except BlobMissingError:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if not _acceptable(artifact, content, request.headers.get("accept", "")):
            kind = NEEDS_ACCEPT[artifact.manifest_media_type]
            plural = "indexes" if artifact.manifest_media_type == OCI_INDEX else "manifests"
            reason = f"{kind} found, but accept header does not support OCI {plural}"
            return error(404, "MANIFEST_UNKNOWN", reason).with_headers(**_keywords(VERSION))
        if request.method == "GET":
            self._pulled(Pull(names["name"], artifact.digest, datetime.now(UTC)))
        return Answer(
            status=200,
            headers={
                **VERSION,
                "Content-Type": artifact.manifest_media_type,
                "Docker-Content-Digest": artifact.digest,
                "Etag": f'"{artifact.digest}"',
            },
            body=content,
        )

    def _missing(self, name: str, reference: str) -> Answer:
        """What is said of a manifest that is not there."""
        joint = "@" if DIGEST.fullmatch(reference) else ":"
        return error(404, "NOT_FOUND", f"artifact {name}{joint}{reference} not found")

    def _blob(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        digest = names["reference"]
        if not DIGEST.fullmatch(digest):
            if request.method == "HEAD":
                return error(404, "NOT_FOUND", f"blob {digest} not found")
            reason = "provided digest did not match uploaded content"
            return error(400, "DIGEST_INVALID", reason, detail={}).with_headers(**_keywords(VERSION))
        if digest not in self._held(catalog, names["name"]) or digest not in self._blobs:
            missing = error(404, "BLOB_UNKNOWN", "blob unknown to registry", detail=digest)
            if request.method == "HEAD" and digest not in self._blobs:
                return missing
            return missing.with_headers(**_keywords(VERSION))
        return stored(self._blobs, digest, request)

    def _held(self, catalog: Catalog, name: str) -> frozenset[str]:
        """Digests of the blobs that some manifest of the repository names: one cannot read others' blobs."""
        repository = catalog.repository(name)
        artifacts = repository.artifacts if repository else ()
        return frozenset().union(*(self._names(artifact.digest) for artifact in artifacts))

    def _names(self, digest: str) -> frozenset[str]:
        """A manifest's digest and those of its config and layers; read once, for a digest never changes."""
        if digest not in self._named and digest in self._blobs:
            content = json.loads(self._blobs.read(digest))
            parts = [content.get("config"), *(content.get("layers") or ())]
            self._named[digest] = frozenset({digest, *(each["digest"] for each in parts if each)})
        return self._named.get(digest, frozenset())

    def _tags(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        repository = catalog.repository(names["name"])
        artifacts = repository.artifacts if repository else ()
        found = sorted(tag.name for artifact in artifacts for tag in artifact.tags)
        return _listed(request, found, lambda shown: {"name": names["name"], "tags": shown})

    def _catalog(self, catalog: Catalog, request: Request) -> Answer:
        """All repository names: by password of an administrator only, never by token."""
        if request.account is None or not request.account.admin:
            return _refused("unauthorized to list catalog", 'Basic realm="harbor"')
        found = repository_names(catalog)
        return _listed(request, found, lambda shown: {"repositories": shown})

    def token(self, catalog: Catalog, request: Request) -> Answer:
        """`/service/token`: a token for everybody; what it allows says whether you may."""
        if request.method != "GET":
            return Answer(405, {"Content-Type": "text/plain; charset=utf-8"}, b"Method Not Allowed\n")
        service = request.parameter("service") or ""
        if service not in SERVICES:
            reason = f"Unable to handle service: {service}".encode()
            return Answer(400, {"Content-Type": "text/plain; charset=utf-8"}, reason)
        scopes = [scope for value in request.parameters("scope") for scope in value.split(" ") if scope]
        if not scopes and request.account is None:
            return Answer(status=401)
        access = [self._scope(catalog, request.account, service, scope) for scope in scopes] or None
        token, issued = self._tokens.issue(request.account, service, access)
        life = int(self._tokens.lifetime.total_seconds())
        body = {
            "token": token,
            "access_token": "",
            "expires_in": life,
            "issued_at": f"{issued:%Y-%m-%dT%H:%M:%SZ}",
        }
        return json_answer(body, content_type=JSON_UTF8)

    def _scope(self, catalog: Catalog, account: Account | None, service: str, scope: str) -> dict[str, Any]:
        kind, _, rest = scope.partition(":")
        name, _, _wanted = rest.rpartition(":")
        allowed: list[str] = []
        if kind == "repository" and service == "harbor-registry":
            allowed = self._granted(catalog, account, name)
        elif (kind, name) == ("registry", "catalog") and account and account.admin:
            allowed = ["*"]
        return {"type": kind, "name": name, "actions": allowed}

    def _granted(self, catalog: Catalog, account: Account | None, name: str) -> list[str]:
        """All an account may do there, whatever it asked for."""
        project = catalog.project(name.partition("/")[0])
        if project is None or "/" not in name:
            return []
        if account and account.admin:
            return ["pull", "push", "delete", "*"]
        pull = project.public or (account is not None and account.may("repository:pull", project.name))
        others = [
            action for action, right in PUSH_ACTIONS.items() if account and account.may(right, project.name)
        ]
        return [*(["pull"] if pull else []), *others]


def stored(blobs: BlobStore, digest: str, request: Request) -> Answer:
    """A blob, or the stretch of it that the request asks for."""
    size = blobs.size(digest)
    headers = {
        **VERSION,
        "Cache-Control": "max-age=31536000",
        "Docker-Content-Digest": digest,
        "Etag": f'"{digest}"',
    }
    start, end = _stretch(request.headers.get("range", ""), size)
    if start >= end and size:
        more = {"Content-Type": "text/plain; charset=utf-8", "Content-Range": f"bytes */{size}"}
        return Answer(status=416, headers=headers | more, body=b"invalid range: failed to overlap\n")
    headers |= {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if (start, end) != (0, size) or "range" in request.headers:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if "Content-Range" in headers else 200
    return Answer(status=status, headers=headers, body=FilePart(blobs.path(digest), start, end - start))


def needed(method: str) -> tuple[str, ...]:
    """The actions a request's method asks a token for."""
    if method == "DELETE":
        return ("delete",)
    return ("pull",) if method in ("GET", "HEAD") else ("pull", "push")


def _keywords(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


def _challenge(request: Request, scope: str) -> str:
    """Bearer for those who sent nothing; Basic, with no way to a new token, for those who were refused."""
    if request.credentials_sent:
        return 'Basic realm="harbor"'
    more = f',scope="{scope}"' if scope else ""
    return f'Bearer realm="{request.origin}/service/token",service="harbor-registry"{more}'


def _refused(reason: str, challenge: str, *, known: bool = True) -> Answer:
    refusal = error(401, "UNAUTHORIZED", f"{reason}: {reason}")
    refusal = refusal.with_headers(WWW_Authenticate=challenge, **_keywords(VERSION))
    return Answer(refusal.status, refusal.headers, refusal.body, known=known)


def _acceptable(artifact: Artifact, content: bytes, accept: str) -> bool:
    """Docker's own types are always served; OCI's only when named, `*/*` does not name them.

    An index without `mediaType` inside escapes the check.
    """
    kind = artifact.manifest_media_type
    if kind in (DOCKER_MANIFEST, DOCKER_LIST) or kind not in NEEDS_ACCEPT:
        return True
    if kind == OCI_INDEX and b'"mediaType"' not in content.split(b"[", 1)[0]:
        return True
    return kind in [each.partition(";")[0].strip() for each in accept.split(",")]


def _stretch(header: str, size: int) -> tuple[int, int]:
    """First byte and end of the range asked for; the whole for none, an empty one for a range outside."""
    found = RANGE.fullmatch(header.strip())
    if not found or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1 if last else size, size)


def _listed(request: Request, found: Sequence[str], shape: Shape) -> Answer:
    """A list by `n` and `last`; without `n` all of it."""
    count = request.parameter("n")
    if count is not None and not count.isdigit():
        return error(400, "BAD_REQUEST", "the N must be a positive int type")
    return listed(request, found, None if count is None else int(count), shape)
