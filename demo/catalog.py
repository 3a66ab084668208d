"""What a demo registry holds, as one frozen tree of values: projects, repositories, artifacts, accounts.

The tree is never changed in place. Every `with_...` and `without_...` method answers a new catalog, and
giving it to a running server (`server.catalog = server.catalog.with_tag(...)`) is a push or a delete.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeVar

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Harbor's word for a time that has not come: an artifact nobody pulled was pulled in year 1."""

LONG_AGO = datetime(2024, 5, 1, 10, tzinfo=UTC)

READ = frozenset(
    {
        "project:list",
        "project:read",
        "repository:list",
        "repository:read",
        "repository:pull",
        "artifact:list",
        "artifact:read",
        "artifact-addition:read",
        "accessory:list",
        "tag:list",
    }
)
"""What an account needs for everything the console asks of a project, pulling included."""

PULL = frozenset({"repository:pull"})
"""What `docker pull` needs, and nothing of the API."""


def number(*names: str) -> int:
    """A row id that a thing keeps while others come and go: 1 to 2 147 483 647."""
    return zlib.crc32("\0".join(names).encode()) % 2_147_483_647 + 1


@dataclass(frozen=True, slots=True)
class Tag:
    """A movable name of one artifact."""

    name: str
    push_time: datetime = LONG_AGO
    pull_time: datetime = NEVER
    immutable: bool = False
    id: int = 0


@dataclass(frozen=True, slots=True)
class Platform:
    """What one child of an index runs on; BuildKit's attestations say `unknown` twice."""

    architecture: str
    os: str
    os_version: str = ""
    variant: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """An index's line about one of its children; the child is an artifact of the same repository."""

    digest: str
    platform: Platform | None = None
    annotations: Mapping[str, str] | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accessory:
    """Something attached to an artifact, such as a signature; itself an artifact of the same repository."""

    digest: str
    type: str
    size: int
    created: datetime = LONG_AGO
    id: int = 0


@dataclass(frozen=True, slots=True)
class Label:
    """A coloured word somebody put on an artifact."""

    id: int
    name: str
    scope: Literal["g", "p"] = "g"
    project_id: int = 0
    color: str = ""
    description: str = ""
    created: datetime = LONG_AGO


@dataclass(frozen=True, slots=True)
class Addition:
    """A document Harbor derives from an artifact, such as a chart's values."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One manifest as Harbor describes it; its bytes are in the blob store under `digest`.

    `media_type` is the config's media type, or the manifest's own for an index. `size` counts the manifest,
    the config and the compressed layers, and for an index its children too. `extra_attrs` is what Harbor read
    from the config: created, architecture, os, author and config with Env, Cmd and Labels. `history` holds
    the config's history entries, shown as the addition `build_history` of a single image.
    """

    digest: str
    media_type: str
    manifest_media_type: str
    size: int
    push_time: datetime = LONG_AGO
    pull_time: datetime = NEVER
    type: str = "IMAGE"
    extra_attrs: Mapping[str, object] | None = None
    annotations: Mapping[str, str] | None = None
    references: tuple[Reference, ...] = ()
    accessories: tuple[Accessory, ...] = ()
    tags: tuple[Tag, ...] = ()
    labels: tuple[Label, ...] = ()
    history: tuple[Mapping[str, object], ...] = ()
    additions: Mapping[str, Addition] = field(default_factory=dict)
    icon: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Repository:
    """A named collection of artifacts; `name` is without the project and may contain slashes."""

    name: str
    artifacts: tuple[Artifact, ...] = ()
    description: str = ""
    pull_count: int = 0
    created: datetime = LONG_AGO
    updated: datetime = LONG_AGO
    id: int = 0

    def find(self, reference: str) -> Artifact | None:
        """The artifact with that digest or tag."""
        for artifact in self.artifacts:
            if artifact.digest == reference or any(tag.name == reference for tag in artifact.tags):
                return artifact
        return None


@dataclass(frozen=True, slots=True)
class Project:
    """A namespace; anybody may read a public one."""

    name: str
    repositories: tuple[Repository, ...] = ()
    public: bool = False
    owner: str = "admin"
    owner_id: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    created: datetime = LONG_AGO
    updated: datetime = LONG_AGO
    id: int = 0

    def find(self, name: str) -> Repository | None:
        """The repository of that name."""
        return next((repository for repository in self.repositories if repository.name == name), None)


@dataclass(frozen=True, slots=True)
class Grant:
    """What an account may do in one project (`*`: in every project)."""

    project: str
    actions: frozenset[str] = READ
    role_id: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A person or a robot. An admin may do everything; a disabled account is refused like a stranger."""

    name: str
    password: str = field(repr=False)
    robot: bool = False
    admin: bool = False
    disabled: bool = False
    expires: datetime | None = None
    grants: tuple[Grant, ...] = ()
    email: str = ""
    real_name: str = ""
    comment: str = ""
    created: datetime = LONG_AGO
    id: int = 0

    def sees(self, project: str) -> bool:
        """Whether the project is in this account's lists though it may not be public."""
        return self.admin or any(grant.project in (project, "*") for grant in self.grants)

    def may(self, action: str, project: str) -> bool:
        """Whether this account holds the action in that project by itself, publicness aside."""
        return self.admin or any(
            action in grant.actions for grant in self.grants if grant.project in (project, "*")
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything a registry holds."""

    projects: tuple[Project, ...] = ()
    accounts: tuple[Account, ...] = ()

    def project(self, name: str) -> Project | None:
        """The project of that name."""
        return next((project for project in self.projects if project.name == name), None)

    def repository(self, full_name: str) -> Repository | None:
        """The repository of a name that begins with its project's."""
        name, _, rest = full_name.partition("/")
        project = self.project(name)
        return project.find(rest) if project else None

    def account(self, name: str) -> Account | None:
        """The account of that login name or, for people, of that e-mail address."""
        return next((each for each in self.accounts if name and name in (each.name, each.email)), None)

    def with_project(self, project: Project) -> Catalog:
        """Add a project, or put it in the place of the one that has its name."""
        return replace(self, projects=_put(self.projects, project))

    def without_project(self, name: str) -> Catalog:
        """Take a project away with all it holds."""
        return replace(self, projects=tuple(project for project in self.projects if project.name != name))

    def with_repository(self, project: str, repository: Repository) -> Catalog:
        """Add or replace a repository. Raises LookupError when there is no such project."""
        holder = _found(self.project(project), project)
        return self.with_project(replace(holder, repositories=_put(holder.repositories, repository)))

    def without_repository(self, project: str, name: str) -> Catalog:
        """Take a repository away. Raises LookupError when there is no such project."""
        holder = _found(self.project(project), project)
        return self.with_project(
            replace(holder, repositories=tuple(each for each in holder.repositories if each.name != name))
        )

    def with_artifact(self, project: str, repository: str, artifact: Artifact) -> Catalog:
        """Push an artifact: it takes its tags away from whatever else had them."""
        holder = _found(self.project(project), project).find(repository) or Repository(name=repository)
        names = {tag.name for tag in artifact.tags}
        others = tuple(
            replace(each, tags=tuple(tag for tag in each.tags if tag.name not in names))
            for each in holder.artifacts
            if each.digest != artifact.digest
        )
        changed = replace(
            holder,
            artifacts=(*others, artifact),
            updated=max([holder.updated, artifact.push_time]),
        )
        return self.with_repository(project, changed)

    def without_artifact(self, project: str, repository: str, digest: str) -> Catalog:
        """Delete an artifact and its tags. Raises LookupError when there is no such repository."""
        holder = _found(_found(self.project(project), project).find(repository), repository)
        return self.with_repository(
            project,
            replace(holder, artifacts=tuple(each for each in holder.artifacts if each.digest != digest)),
        )

    def with_tag(self, project: str, repository: str, tag: Tag, digest: str) -> Catalog:
        """Point a tag at an artifact that is there. Raises LookupError when it is not."""
        holder = _found(_found(self.project(project), project).find(repository), repository)
        artifact = _found(holder.find(digest), digest)
        tags = (*(each for each in artifact.tags if each.name != tag.name), tag)
        return self.with_artifact(project, repository, replace(artifact, tags=tags))

    def without_tag(self, project: str, repository: str, name: str) -> Catalog:
        """Delete a tag and keep its artifact. Raises LookupError when there is no such tag."""
        holder = _found(_found(self.project(project), project).find(repository), repository)
        artifact = _found(holder.find(name), name)
        tags = tuple(tag for tag in artifact.tags if tag.name != name)
        return self.with_artifact(project, repository, replace(artifact, tags=tags))

    def with_account(self, account: Account) -> Catalog:
        """Add an account, or put it in the place of the one that has its name."""
        return replace(self, accounts=_put(self.accounts, account))

    def without_account(self, name: str) -> Catalog:
        """Take an account away."""
        return replace(self, accounts=tuple(account for account in self.accounts if account.name != name))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)
Thing = TypeVar("Thing")


def _put(items: tuple[Named, ...], item: Named) -> tuple[Named, ...]:
    if any(each.name == item.name for each in items):
        return tuple(item if each.name == item.name else each for each in items)
    return (*items, item)


def _found(thing: Thing | None, name: str) -> Thing:
    if thing is None:
        raise LookupError(f"not in the catalog: {name}")
    return thing
