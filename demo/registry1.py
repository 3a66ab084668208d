"""The registry's face under Harbor 1.10: it checks tokens itself, and passwords open nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from demo.blobs import DIGEST, BlobMissingError, BlobStore
from demo.catalog import DOCKER_MANIFEST, Catalog
from demo.distribution import (
    MANIFEST,
    VERSION,
    Distribution,
    Pull,
    needed,
)
from demo.exchange import JSON_UTF8, Answer, Request, error, json_answer
from demo.identity import Tokens
from demo.layers import digest_of
from demo.name_lists import listed, repository_names
from demo.schema1 import SIGNED_MANIFEST, NotConvertibleError, Signer, payload

PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
NO_PAGE = "404 page not found\n"
CATALOG_PAGE = 100
LARGEST_CATALOG_PAGE = 1000


def missing_manifest(name: str, reference: str) -> dict[str, Any]:
    """The body of what the registry says of a manifest that is not there."""
    detail = {"Tag": reference}
    if DIGEST.fullmatch(reference):
        detail = {"Name": name, "Revision": reference}
    return {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": detail}]}


class OlderDistribution(Distribution):
    """Answers as the registry behind Harbor 1.10, which knows projects by its tokens only."""

    def __init__(self, blobs: BlobStore, tokens: Tokens, pulled: Callable[[Pull], None]) -> None:
        super().__init__(blobs, tokens, pulled)
        self._signer = Signer()

    def answer(self, catalog: Catalog, request: Request) -> Answer:
        """The answer to a request whose path begins with `/v2/`."""
        found = MANIFEST.fullmatch(request.path)
        if found and request.method == "GET" and "/" not in found["name"]:
            # Harbor's core looks at these itself, before the registry sees them.
            reason = f"Bad repository name: {found['name']}"
            refusal = error(400, "PROJECT_POLICY_VIOLATION", reason, detail=reason)
            return Answer(400, PLAIN, refusal.body)
        answer = super().answer(catalog, request)
        return answer.with_headers(**VERSION)

    def _unrecognized(self, _request: Request) -> Answer:
        return Answer(404, PLAIN, NO_PAGE.encode(), known=False)

    def _base(self, request: Request) -> Answer:
        if request.access:
            return Answer(200, {"Content-Type": JSON_UTF8, **VERSION}, b"{}")
        return _unauthorized(request, "", None)

    def _refusal(self, _catalog: Catalog, request: Request, name: str) -> Answer | None:
        """Why this request may not touch the repository, or None. Only reading is served."""
        actions = needed(request.method)
        granted = request.access.actions.get(name, frozenset()) if request.access else frozenset()
        if not granted.issuperset(actions):
            return _unauthorized(request, f"repository:{name}:{','.join(actions)}", name, *actions)
        if actions != ("pull",):
            return error(405, "UNSUPPORTED", "the demo registry is read-only")
        return None

    def _missing(self, name: str, reference: str) -> Answer:
        return json_answer(missing_manifest(name, reference), status=404, content_type=JSON_UTF8)

    def _manifest(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """The manifest; to those who ask by tag and do not name its format, in the first format."""
        answer = super()._manifest(catalog, request, names)
        accepted = [each.partition(";")[0].strip() for each in request.headers.get("accept", "").split(",")]
        by_digest = DIGEST.fullmatch(names["reference"])
        if answer.status != 200 or by_digest or DOCKER_MANIFEST in accepted:
            return answer
        manifest = self._blobs.read(answer.headers["Docker-Content-Digest"])
        try:
            digest, content = self.first_format(names["name"], names["reference"], manifest)
        except (BlobMissingError, NotConvertibleError) as problem:
            return error(400, "MANIFEST_INVALID", "manifest invalid", detail=str(problem))
        headers = {
            "Content-Type": SIGNED_MANIFEST,
            "Docker-Content-Digest": digest,
            "Etag": f'"{digest}"',
        }
        return Answer(200, headers, content)

    def first_format(self, name: str, tag: str, manifest: bytes) -> tuple[str, bytes]:
        """A manifest converted and signed, behind the digest it has without its signature.

        Raises BlobMissingError and NotConvertibleError.
        """
        document = json.loads(manifest)
        content = payload(name, tag, document, self._blobs.read(document["config"]["digest"]))
        return digest_of(content), self._signer.signed(content)

    def _blob(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        if not DIGEST.fullmatch(names["reference"]):
            return self._unrecognized(request)
        return super()._blob(catalog, request, names)

    def _tags(self, catalog: Catalog, _request: Request, names: Mapping[str, str]) -> Answer:
        """All tags at once: `n` and `last` came later."""
        repository = catalog.repository(names["name"])
        if repository is None:
            reason = "repository name not known to registry"
            return error(404, "NAME_UNKNOWN", reason, detail={"name": names["name"]})
        found = [tag.name for artifact in repository.artifacts for tag in artifact.tags]
        return json_answer({"name": names["name"], "tags": found or None}, content_type=JSON_UTF8)

    def _catalog(self, catalog: Catalog, request: Request) -> Answer:
        """All repository names, a hundred at a time, by an administrator's token only."""
        granted = request.access.actions.get("catalog", frozenset()) if request.access else frozenset()
        if "*" not in granted:
            return _unauthorized(request, "registry:catalog:*", "catalog", "*")
        wanted = request.parameter("n") or ""
        count = int(wanted) if re.fullmatch("[0-9]+", wanted) else CATALOG_PAGE
        if count > LARGEST_CATALOG_PAGE:
            reason = "invalid number of results requested"
            return error(400, "PAGINATION_NUMBER_INVALID", reason, detail={"n": count})
        names = repository_names(catalog, tagged=True)
        return listed(request, names, count, lambda shown: {"repositories": shown or None}, end="")

    def token(self, catalog: Catalog, request: Request) -> Answer:
        """`/service/token`; a repository's name without a project makes the server stumble."""
        for scope in request.parameters("scope"):
            kind, _, rest = scope.partition(":")
            if kind == "repository" and "/" not in rest:
                return Answer(500)
        return super().token(catalog, request)


def _unauthorized(request: Request, scope: str, name: str | None, *actions: str) -> Answer:
    """Always a Bearer challenge, which tells a bad token from one that allows too little."""
    parts = [f'realm="{request.origin}/service/token"', 'service="harbor-registry"']
    if scope:
        parts.append(f'scope="{scope}"')
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        parts.append('error="insufficient_scope"' if request.access else 'error="invalid_token"')
    kind = scope.partition(":")[0]
    detail: list[dict[str, Any]] | None = None
    if name:
        detail = [{"Type": kind, "Class": "", "Name": name, "Action": action} for action in actions]
    refusal = error(401, "UNAUTHORIZED", "authentication required", detail=detail)
    return refusal.with_headers(WWW_Authenticate=f"Bearer {','.join(parts)}")
