"""CCR, Tencent Container Registry's personal edition: one account's namespaces and images in one region."""

import threading
from collections.abc import Iterator, Mapping
from functools import partial

from images.digests import parse_digest, parse_repository, parse_tag
from repositories.registries import tencent_check
from repositories.registries.answers import MalformedError, as_mapping, size, text
from repositories.registries.connection import Connection
from repositories.registries.failures import BadAnswerError, RegistryError
from repositories.registries.protocol import (
    ArtifactItem,
    CheckReport,
    ProjectItem,
    RepositoryItem,
    TagItem,
)
from repositories.registries.tencent_api import TencentAPI
from repositories.registries.tencent_listing import (
    Page,
    by_entry,
    grouped,
    kind_of,
    media_type_of,
    namespace_of,
    time_of,
)


class CCR:
    """The personal edition in one region."""

    def __init__(self, api: TencentAPI, region: str, connection: Connection) -> None:
        self._api = api
        self._region = region
        self._connection = connection
        self._lock = threading.Lock()
        self._listed: list[RepositoryItem] | None = None

    def list_projects(self) -> Iterator[ProjectItem]:
        """Every namespace of the account in this region."""
        ask = partial(
            self._page, "DescribeNamespacePersonal", "NamespaceInfo", "NamespaceCount", Namespace=""
        )
        yield from by_entry(ask, _project)

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        """Every repository of a namespace; they are listed all together, once."""
        found, error = self._all_repositories()
        yield from (each for each in found if each.namespace == project.name)
        if error is not None:
            raise error

    def _all_repositories(self) -> tuple[list[RepositoryItem], RegistryError | None]:
        """The repositories of all namespaces, and why they are not all; what failed is tried again."""
        with self._lock:
            if self._listed is not None:
                return self._listed, None
            ask = partial(self._page, "DescribeRepositoryOwnerPersonal", "RepoInfo", "TotalCount")
            found: list[RepositoryItem] = []
            try:
                found.extend(by_entry(ask, _repository))
            except RegistryError as error:
                return found, error
            self._listed = found
            return found, None

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        """Every tagged image of a repository."""
        ask = partial(self._page, "DescribeImagePersonal", "TagInfo", "TagCount", RepoName=repository.name)
        yield from grouped(by_entry(ask, _image))

    def check(self) -> CheckReport:
        """Try the connection step by step, from Tencent Cloud's API to a pull."""
        return tencent_check.check_personal(
            self._api,
            self._connection,
            lambda api, connection: CCR(api, self._region, connection),
            region=self._region,
        )

    def _page(self, action: str, key: str, total: str, offset: int, limit: int, **parameters: object) -> Page:
        answer = self._api.call(action, self._region, Offset=offset, Limit=limit, **parameters)
        try:
            data = as_mapping(answer.get("Data"))
        except MalformedError:
            raise BadAnswerError("REG_PROTOCOL", "Tencent Cloud's answer about CCR is damaged.") from None
        return Page(data.get(key), data.get(total))


def _project(entry: Mapping[str, object]) -> tuple[str, ProjectItem]:
    name = parse_repository(namespace_of(entry, "Namespace"))
    return name, ProjectItem(name)


def _repository(entry: Mapping[str, object]) -> tuple[str, RepositoryItem]:
    name = parse_repository(entry.get("RepoName"))
    namespace, slash, _ = name.partition("/")
    if not slash:
        raise MalformedError("a repository without a namespace")
    return name, RepositoryItem(name, namespace, time_of(entry, "UpdateTime"))


def _image(entry: Mapping[str, object]) -> tuple[str, ArtifactItem]:
    # TagId is the manifest's digest; ImageId, the config's, comes with the manifest.
    digest, tag = parse_digest(entry.get("TagId")), parse_tag(entry.get("TagName"))
    pushed_at = time_of(entry, "PushTime" if entry.get("PushTime") else "UpdateTime")
    return f"{tag}@{digest}", ArtifactItem(
        digest=digest,
        media_type="",
        manifest_media_type=media_type_of(entry),
        kind=kind_of(entry, tag),
        size=size(entry, "SizeByte"),
        pushed_at=pushed_at,
        tags=(TagItem(tag, pushed_at),),
        os=text(entry, "OS", limit=64),
        architecture=text(entry, "Architecture", limit=64),
    )
