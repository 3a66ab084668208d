"""Harbor 1.x: projects, repositories and tags by its API, where the tag is the unit and has no pages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from images.digests import is_signature_tag, parse_digest, parse_repository, parse_tag
from repositories.registries import connection_test
from repositories.registries.answers import MalformedError, moment, size, text
from repositories.registries.client import TRIES, JSONAnswer, RegistryHTTP
from repositories.registries.connection import Connection
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    ListingCutError,
    NotThereError,
)
from repositories.registries.harbor_identity import (
    API_1,
    ROBOT_1,
    ROBOT_1_REMEDY,
    log_in_1,
    require_harbor_1,
)
from repositories.registries.json_stream import read_objects
from repositories.registries.paging import walk
from repositories.registries.protocol import (
    ArtifactItem,
    CheckReport,
    Kind,
    ProjectItem,
    RepositoryItem,
    TagItem,
)
from repositories.registries.statuses import WEB_PAGE, WEB_PAGE_REMEDY, from_status
from tcss.outbound import Reply
from tcss.outbound_failures import OutboundError
from tcss.outbound_sockets import Limits

# A tag takes about 570 bytes of the list, and the server looks every one up before its first byte.
TAG_LIST = Limits(read=120.0, total=300.0, body=64 * 2**20)


class HarborV1:
    """A Harbor 1.x server."""

    def __init__(self, connection: Connection, *, limits: Limits | None = None, tries: int = TRIES) -> None:
        self._connection = connection
        self._http = RegistryHTTP(connection, limits=limits, tries=tries)
        self._tag_list = replace(limits, body=TAG_LIST.body) if limits else TAG_LIST

    def list_projects(self) -> Iterator[ProjectItem]:
        """Every project this account sees; AccessRefusedError before the first for one that may not list."""
        require_harbor_1(self._http)
        # Harbor answers lists to a wrong password and to robots too, but with the public projects only.
        if log_in_1(self._http) == "robot":
            raise AccessRefusedError("REG_FORBIDDEN", ROBOT_1, ROBOT_1_REMEDY)
        yield from walk(lambda page: self._get("/projects", page), _project)

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        """Every repository of a project, which is asked for by its number."""
        yield from walk(
            lambda page: self._get("/repositories", {"project_id": project.number, **page}),
            lambda entry: _repository(entry, project),
        )

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        """Every image of a repository, each digest once with all its tags.

        The list is read to its end before the first is given: a server does not wait with half a list until
        the images in the first half have been looked into.
        """
        try:
            tags = self._http.retrying(lambda: self._tags(repository.name))
        except NotThereError:
            if repository.name.endswith("/tags"):
                raise BadAnswerError(
                    "REG_PROTOCOL",
                    "Harbor 1.x cannot list a repository whose name ends in /tags.",
                    "Push its images to a repository of another name.",
                ) from None
            raise
        for digest, found in tags.by_digest.items():
            yield found.item(digest)
        if tags.unread:
            raise BadAnswerError(
                "REG_PROTOCOL",
                f"{tags.unread} tags of a repository have no valid name or digest and were left out.",
                "Look for these tags in the registry's log: it could not read their manifests itself.",
            )

    def check(self) -> CheckReport:
        """Try the connection step by step."""
        test_limits = connection_test.TEST_LIMITS
        return connection_test.check(
            self._connection,
            connection_test.Dialect(
                version=_version_step,
                log_in=log_in_1,
                adapter=lambda connection: HarborV1(connection, limits=test_limits, tries=1),
            ),
        )

    def _get(self, path: str, query: Mapping[str, object]) -> JSONAnswer:
        return self._http.get_json(API_1 + path, query, headers=self._http.basic())

    def _tags(self, repository: str) -> "_Tags":
        # The slashes of a name stay as they are: a proxy may or may not undo their encoding.
        url = f"{self._http.origin}{API_1}/repositories/{parse_repository(repository)}/tags"
        headers = {"Accept": "application/json", **self._http.basic()}
        with self._http.open(url, headers, self._tag_list) as reply:
            if reply.status != 200:
                raise from_status(reply)
            if "html" in reply.header("Content-Type").lower():
                raise BadAnswerError("REG_PROTOCOL", WEB_PAGE, WEB_PAGE_REMEDY)
            return _read_tags(reply)


def _version_step(http: RegistryHTTP) -> str:
    require_harbor_1(http)
    return "The server is Harbor 1.x."


@dataclass(slots=True)
class _Found:
    """What the rows of one digest say."""

    size: int
    os: str
    architecture: str
    tags: list[tuple[str, datetime]] = field(default_factory=list)

    def item(self, digest: str) -> ArtifactItem:
        return ArtifactItem(
            digest=digest,
            media_type="",
            manifest_media_type="",
            kind=_kind(self.tags),
            size=self.size,
            pushed_at=max(pushed_at for _, pushed_at in self.tags),
            tags=tuple(TagItem(name, pushed_at) for name, pushed_at in self.tags),
            os=self.os,
            architecture=self.architecture,
        )


@dataclass(slots=True)
class _Tags:
    """A list of tags, read: the images by digest, and how many rows named none."""

    by_digest: dict[str, _Found] = field(default_factory=dict)
    unread: int = 0

    def add(self, row: Mapping[str, object]) -> None:
        """Take one row. What the server could not find out it leaves empty, the digest last of all."""
        name, digest = parse_tag(row.get("name")), parse_digest(row.get("digest"))
        found = self.by_digest.get(digest)
        if found is None:
            found = _Found(size(row, "size"), text(row, "os", limit=64), text(row, "architecture", limit=64))
            self.by_digest[digest] = found
        found.tags.append((name, moment(row, "push_time")))


def _read_tags(reply: Reply) -> _Tags:
    tags = _Tags()
    try:
        for row in read_objects(reply.stream(TAG_LIST.body)):
            try:
                tags.add(row)
            except ValueError:
                tags.unread += 1
    except OutboundError as error:
        if error.code != "IMG_TOO_LARGE":
            raise
        raise ListingCutError(
            "REG_PROTOCOL",
            f"A repository's list of tags is larger than {TAG_LIST.body // 2**20} MiB.",
            "Delete tags nobody needs; Harbor 1.x has no pages for them.",
        ) from None
    except MalformedError:
        raise BadAnswerError("REG_PROTOCOL", "The registry's answer is damaged or is not JSON.") from None
    return tags


def _kind(tags: list[tuple[str, datetime]]) -> Kind:
    """An image: Harbor 1.x takes nothing else, but for what cosign stores in the form of one."""
    names = [name for name, _ in tags]
    if not all(is_signature_tag(name) for name in names):
        return Kind.IMAGE
    return Kind.SBOM if all(name.endswith(".sbom") for name in names) else Kind.SIGNATURE


def _project(entry: Mapping[str, object]) -> tuple[str, ProjectItem]:
    name = parse_repository(entry.get("name"))
    number = entry.get("project_id")
    if "/" in name or not isinstance(number, int) or isinstance(number, bool) or number <= 0:
        raise MalformedError("a project has a name without a slash and a number")
    return name, ProjectItem(name, number)


def _repository(entry: Mapping[str, object], project: ProjectItem) -> tuple[str, RepositoryItem]:
    name = parse_repository(entry.get("name"))
    if not name.startswith(f"{project.name}/"):
        raise MalformedError("a repository of another project")
    return name, RepositoryItem(name, project.name, moment(entry, "update_time"))
