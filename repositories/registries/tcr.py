"""TCR, Tencent Container Registry's enterprise edition: what one instance holds."""

from collections.abc import Iterator, Mapping

from images.digests import parse_digest, parse_repository, parse_tag
from repositories.registries import tencent_check
from repositories.registries.answers import MalformedError, size
from repositories.registries.connection import Connection
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
    by_page,
    grouped,
    kind_of,
    media_type_of,
    namespace_of,
    time_of,
)
from repositories.registries.tencent_places import find_instance, require_running


class TCR:
    """One TCR instance."""

    def __init__(
        self, api: TencentAPI, region: str, instance_id: str, connection: Connection, *, network: str
    ) -> None:
        self._api = api
        self._region = region
        self._instance_id = instance_id
        self._connection = connection
        self._network = network

    def list_projects(self) -> Iterator[ProjectItem]:
        """Every namespace of the instance; AccessRefusedError before the first where it is not running."""
        require_running(find_instance(self._api, self._region, self._instance_id))

        def ask(offset: int, limit: int) -> Page:
            answer = self._call("DescribeNamespaces", Offset=offset, Limit=limit)
            return Page(answer.get("NamespaceList"), answer.get("TotalCount"))

        yield from by_page(ask, _project)

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        """Every repository of a namespace."""

        def ask(offset: int, limit: int) -> Page:
            answer = self._call(
                "DescribeRepositories", NamespaceName=project.name, Offset=offset, Limit=limit
            )
            return Page(answer.get("RepositoryList"), answer.get("TotalCount"))

        yield from by_page(ask, lambda entry: _repository(entry, project))

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        """Every tagged image of a repository; TCR does not list what has no tag."""
        name = repository.name.removeprefix(f"{repository.namespace}/")

        def ask(offset: int, limit: int) -> Page:
            answer = self._call(
                "DescribeImages",
                NamespaceName=repository.namespace,
                RepositoryName=name,
                Offset=offset,
                Limit=limit,
            )
            return Page(answer.get("ImageInfoList"), answer.get("TotalCount"))

        yield from grouped(by_page(ask, _image))

    def check(self) -> CheckReport:
        """Try the connection step by step, from Tencent Cloud's API to a pull."""
        return tencent_check.check_instance(
            self._api,
            self._connection,
            lambda api, connection: TCR(
                api, self._region, self._instance_id, connection, network=self._network
            ),
            region=self._region,
            instance_id=self._instance_id,
            network=self._network,
        )

    def _call(self, action: str, **parameters: object) -> Mapping[str, object]:
        return self._api.call(action, self._region, RegistryId=self._instance_id, **parameters)


def _project(entry: Mapping[str, object]) -> tuple[str, ProjectItem]:
    name = parse_repository(namespace_of(entry, "Name"))
    return name, ProjectItem(name)


def _repository(entry: Mapping[str, object], project: ProjectItem) -> tuple[str, RepositoryItem]:
    name = parse_repository(entry.get("Name"))
    if not name.startswith(f"{project.name}/"):
        raise MalformedError("a repository of another namespace")
    return name, RepositoryItem(name, project.name, time_of(entry, "UpdateTime"))


def _image(entry: Mapping[str, object]) -> tuple[str, ArtifactItem]:
    digest, tag = parse_digest(entry.get("Digest")), parse_tag(entry.get("ImageVersion"))
    pushed_at = time_of(entry, "UpdateTime")
    # A tag that moves while it is listed shows up twice, with two digests: both are told.
    return f"{tag}@{digest}", ArtifactItem(
        digest=digest,
        media_type="",
        manifest_media_type=media_type_of(entry),
        kind=kind_of(entry, tag),
        size=size(entry, "Size"),
        pushed_at=pushed_at,
        tags=(TagItem(tag, pushed_at),),
    )
