"""Harbor 2.x: projects, repositories and artifacts by its API, and the connection test."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import quote

from images.digests import is_signature_tag, parse_digest, parse_repository, parse_tag
from repositories.registries import connection_test
from repositories.registries.answers import MalformedError, as_list, as_mapping, moment, size, text
from repositories.registries.client import TRIES, JSONAnswer, RegistryHTTP
from repositories.registries.connection import Connection
from repositories.registries.failures import TooLargeError, TryLaterError
from repositories.registries.harbor_identity import API_2, log_in, require_harbor_2
from repositories.registries.manifests import IMAGE_CONFIGS, INDEX_TYPES
from repositories.registries.paging import walk
from repositories.registries.protocol import (
    ArtifactItem,
    CheckReport,
    Kind,
    ProjectItem,
    RepositoryItem,
    TagItem,
)
from tcss.outbound_sockets import Limits

# Of one artifact, as its row of a listing shows them; how many there really are is said page by page.
TAGS_IN_A_ROW = 100_000
_ARTIFACT_QUERY = {
    "with_accessory": "true",
    "with_label": "false",
    "with_scan_overview": "false",
    "with_immutable_status": "false",
}
_WASM_CONFIG = "application/vnd.wasm.config.v1+json"
_GATEWAY_TIMEOUT = 504


def encode(name: str) -> str:
    """A name as one segment of a Harbor path: a slash encoded once would still divide it."""
    return quote(quote(name, safe=""), safe="")


class HarborV2:
    """A Harbor 2.x server."""

    def __init__(self, connection: Connection, *, limits: Limits | None = None, tries: int = TRIES) -> None:
        self._connection = connection
        self._http = RegistryHTTP(connection, limits=limits, tries=tries)

    def list_projects(self) -> Iterator[ProjectItem]:
        """Every project this account sees; AccessRefusedError before the first for a wrong password."""
        # A server may have been changed for one of another generation since it was connected.
        require_harbor_2(self._http)
        # Harbor answers lists to a wrong password too, but with the public projects only.
        log_in(self._http)
        yield from walk(lambda page: self._get("/projects", {"with_detail": "false", **page}), _project)

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        """Every repository of a project."""
        path = f"/projects/{encode(project.name)}/repositories"
        yield from walk(lambda page: self._get(path, page), lambda entry: _repository(entry, project))

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        """Every artifact of a repository, and what is attached to it, such as signatures."""
        name = repository.name.removeprefix(f"{repository.namespace}/")
        path = f"/projects/{encode(repository.namespace)}/repositories/{encode(name)}/artifacts"
        try:
            for artifact, attached in self._artifacts(path, with_tag="true"):
                yield artifact
                yield from attached
        except (TooLargeError, TryLaterError) as error:
            # Some artifact has so many tags that a page with it is too much, for Harbor or for us.
            if isinstance(error, TryLaterError) and error.status != _GATEWAY_TIMEOUT:
                raise
            for artifact, attached in self._artifacts(path, with_tag="false"):
                tags = self._tags(path, artifact.digest)
                yield replace(artifact, tags=tags, kind=_attached_kind(tags) or artifact.kind)
                yield from attached

    def _artifacts(self, path: str, *, with_tag: str) -> Iterator[tuple[ArtifactItem, list[ArtifactItem]]]:
        query = {**_ARTIFACT_QUERY, "with_tag": with_tag}
        yield from walk(lambda page: self._get(path, {**page, **query}), _artifact)

    def _tags(self, path: str, digest: str) -> tuple[TagItem, ...]:
        """All tags of one artifact, which have pages of their own."""
        return tuple(walk(lambda page: self._get(f"{path}/{digest}/tags", page), _named_tag))

    def check(self) -> CheckReport:
        """Try the connection step by step."""
        test_limits = connection_test.TEST_LIMITS
        return connection_test.check(
            self._connection,
            connection_test.Dialect(
                version=_version_step,
                log_in=log_in,
                adapter=lambda connection: HarborV2(connection, limits=test_limits, tries=1),
            ),
        )

    def _get(self, path: str, query: Mapping[str, object]) -> JSONAnswer:
        # A project whose name is all digits would be taken for an id.
        headers = {**self._http.basic(), "X-Is-Resource-Name": "true"}
        return self._http.get_json(API_2 + path, query, headers=headers)


def _version_step(http: RegistryHTTP) -> str:
    require_harbor_2(http)
    return "The server is Harbor 2.x."


def _project(entry: Mapping[str, object]) -> tuple[str, ProjectItem]:
    name = text(entry, "name")
    if "/" in parse_repository(name):
        raise MalformedError("a project's name has no slash")
    return name, ProjectItem(name)


def _repository(entry: Mapping[str, object], project: ProjectItem) -> tuple[str, RepositoryItem]:
    name = parse_repository(entry.get("name"))
    if not name.startswith(f"{project.name}/"):
        raise MalformedError("a repository of another project")
    return name, RepositoryItem(name, project.name, moment(entry, "update_time"))


def _artifact(entry: Mapping[str, object]) -> tuple[str, tuple[ArtifactItem, list[ArtifactItem]]]:
    digest = parse_digest(entry.get("digest"))
    tags = tuple(_tags(entry))
    media_type = text(entry, "media_type")
    manifest_media_type = text(entry, "manifest_media_type")
    extra = entry.get("extra_attrs")
    attributes = extra if isinstance(extra, dict) else {}
    artifact = ArtifactItem(
        digest=digest,
        media_type=media_type,
        manifest_media_type=manifest_media_type,
        kind=_attached_kind(tags) or _kind(text(entry, "type"), media_type, manifest_media_type),
        size=size(entry, "size"),
        pushed_at=moment(entry, "push_time"),
        tags=tags,
        os=_word(attributes, "os"),
        architecture=_word(attributes, "architecture"),
    )
    attached = [_accessory(as_mapping(each)) for each in as_list(entry.get("accessories"), limit=10_000)]
    return digest, (artifact, attached)


def _tags(entry: Mapping[str, object]) -> Iterator[TagItem]:
    for each in as_list(entry.get("tags"), limit=TAGS_IN_A_ROW):
        yield _tag(as_mapping(each))


def _tag(tag: Mapping[str, object]) -> TagItem:
    return TagItem(parse_tag(tag.get("name")), moment(tag, "push_time"))


def _named_tag(tag: Mapping[str, object]) -> tuple[str, TagItem]:
    item = _tag(tag)
    return item.name, item


def _word(attributes: Mapping[str, object], key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) and len(value) <= 64 else ""


def _attached_kind(tags: tuple[TagItem, ...]) -> Kind | None:
    """Before Harbor 2.5 what cosign attaches looks like an image, but for its tags."""
    if not tags or not all(is_signature_tag(tag.name) for tag in tags):
        return None
    return Kind.SBOM if all(tag.name.endswith(".sbom") for tag in tags) else Kind.SIGNATURE


def _kind(type_: str, media_type: str, manifest_media_type: str) -> Kind:
    """What an artifact is by Harbor's word for it and by its media types."""
    if type_ in {"CHART", "SBOM", "WASM", "CNAB"}:
        return Kind(type_.lower())
    if media_type == _WASM_CONFIG:
        return Kind.WASM
    if type_ != "IMAGE":
        return Kind.OTHER
    if manifest_media_type in INDEX_TYPES:
        return Kind.INDEX
    return Kind.IMAGE if media_type in IMAGE_CONFIGS else Kind.OTHER


def _accessory(entry: Mapping[str, object]) -> ArtifactItem:
    type_ = text(entry, "type")
    kind = Kind.OTHER
    if type_.startswith("signature."):
        kind = Kind.SIGNATURE
    elif type_.startswith("sbom."):
        kind = Kind.SBOM
    return ArtifactItem(
        digest=parse_digest(entry.get("digest")),
        media_type="",
        manifest_media_type="",
        kind=kind,
        size=size(entry, "size"),
        pushed_at=moment(entry, "creation_time"),
    )
