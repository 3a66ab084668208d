"""Catalog values as the JSON of Harbor's API: which keys there are, which are null, how times look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from demo.catalog import (
    DOCKER_LIST,
    NEVER,
    OCI_INDEX,
    Accessory,
    Account,
    Artifact,
    Label,
    Project,
    Reference,
    Repository,
    Tag,
    number,
)

IMAGE_ICON = "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06"
CHART_ADDITIONS = ("dependencies", "readme.md", "values.yaml")


def moment(time: datetime) -> str:
    """A time as Harbor writes it: UTC with milliseconds."""
    text = time.astimezone(UTC) if time != NEVER else time
    return f"{text.year:04d}-{text:%m-%dT%H:%M:%S}.{text.microsecond // 1000:03d}Z"


def project_id(project: Project) -> int:
    """The number of a project."""
    return project.id or number(project.name)


def repository_id(project: Project, repository: Repository) -> int:
    """The number of a repository."""
    return repository.id or number(project.name, repository.name)


def artifact_id(project: Project, repository: Repository, digest: str) -> int:
    """The number of the artifact with that digest, such as an index's child."""
    found = repository.find(digest)
    return own_id(project, repository, found) if found else number(project.name, repository.name, digest)


def own_id(project: Project, repository: Repository, artifact: Artifact) -> int:
    """The number of an artifact."""
    return artifact.id or number(project.name, repository.name, artifact.digest)


def tag_id(project: Project, repository: Repository, tag: Tag) -> int:
    """The number of a tag."""
    return tag.id or number(project.name, repository.name, "tag", tag.name)


def is_index(artifact: Artifact) -> bool:
    """Whether an artifact is a list of other manifests."""
    return artifact.manifest_media_type in (DOCKER_LIST, OCI_INDEX)


def counted(repository: Repository) -> list[Artifact]:
    """What Harbor 2.5 counts and pages over: all but untagged children of indexes; accessories included."""
    children = {each.digest for artifact in repository.artifacts for each in artifact.references}
    return [each for each in repository.artifacts if each.tags or each.digest not in children]


def accessory_digests(repository: Repository) -> frozenset[str]:
    """Digests of the artifacts that are attached to another one and are not listed by themselves."""
    return frozenset(each.digest for artifact in repository.artifacts for each in artifact.accessories)


def user(account: Account) -> dict[str, Any]:
    """The answer of `/users/current`."""
    optional = {"comment": account.comment, "email": account.email}
    return {
        "admin_role_in_auth": False,
        **{key: value for key, value in optional.items() if value},
        "creation_time": moment(account.created),
        "realname": account.real_name or account.name,
        "sysadmin_flag": account.admin,
        "update_time": moment(account.created),
        "user_id": account.id or number(account.name),
        "username": account.name,
    }


def project(value: Project, account: Account | None, *, detail: bool = True) -> dict[str, Any]:
    """A project as that account sees it: the roles are the account's own."""
    roles = role_ids(value, account)
    allowlist: dict[str, Any] = {"creation_time": moment(NEVER), "items": None, "update_time": moment(NEVER)}
    shown: dict[str, Any] = {
        "chart_count": 0,
        "creation_time": moment(value.created),
        "current_user_role_ids": roles,
        "cve_allowlist": allowlist,
        "name": value.name,
        "owner_id": value.owner_id,
        "project_id": project_id(value),
        "repo_count": len(value.repositories),
        "update_time": moment(value.updated),
    }
    if roles:
        shown["current_user_role_id"] = roles[0]
    if detail:
        allowlist.update(id=project_id(value), items=[], project_id=project_id(value))
        shown["metadata"] = {**value.metadata, "public": "true" if value.public else "false"}
        shown["owner_name"] = value.owner
    return shown


def role_ids(value: Project, account: Account | None) -> list[int] | None:
    """The roles somebody has in a project; None for strangers and robots, who have none."""
    if account is None or account.robot:
        return None
    if account.admin:
        return [1]
    grants = [each for each in account.grants if each.project in (value.name, "*")]
    return [each.role_id for each in grants if each.role_id] or None


def repository(holder: Project, value: Repository) -> dict[str, Any]:
    """A repository; its name begins with the project's."""
    shown = {
        "artifact_count": len(counted(value)),
        "creation_time": moment(value.created),
        "id": repository_id(holder, value),
        "name": f"{holder.name}/{value.name}",
        "project_id": project_id(holder),
        "pull_count": value.pull_count,
        "update_time": moment(value.updated),
    }
    return shown | ({"description": value.description} if value.description else {})


def tag(holder: Project, place: Repository, value: Artifact, name: Tag, *, immutable: bool) -> dict[str, Any]:
    """A tag of an artifact; unless asked for, every tag says it is not immutable."""
    return {
        "artifact_id": own_id(holder, place, value),
        "id": tag_id(holder, place, name),
        "immutable": immutable and name.immutable,
        "name": name.name,
        "pull_time": moment(name.pull_time),
        "push_time": moment(name.push_time),
        "repository_id": repository_id(holder, place),
        "signed": False,
    }


def newest_first(tags: tuple[Tag, ...]) -> list[Tag]:
    """Tags as Harbor lists them inside an artifact."""
    return sorted(tags, key=lambda each: (each.push_time, each.id), reverse=True)


def accessory(holder: Project, place: Repository, subject: Artifact, value: Accessory) -> dict[str, Any]:
    """Something attached to an artifact."""
    return {
        "artifact_id": artifact_id(holder, place, value.digest),
        "creation_time": moment(value.created),
        "digest": value.digest,
        "icon": "sha256:20401d5b3a0f6dbc607c8d732eb08471af4ae6b19811a4efce8c6a724aed2882",
        "id": value.id or number(holder.name, place.name, "accessory", value.digest),
        "size": value.size,
        "subject_artifact_id": own_id(holder, place, subject),
        "type": value.type,
    }


def _reference(holder: Project, place: Repository, parent: Artifact, value: Reference) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "child_digest": value.digest,
        "child_id": artifact_id(holder, place, value.digest),
        "parent_id": own_id(holder, place, parent),
        "urls": list(value.urls) or None,
    }
    if value.annotations:
        shown["annotations"] = dict(value.annotations)
    if value.platform:
        platform: dict[str, Any] = {
            "OsFeatures": list(value.platform.os_features) or None,
            "architecture": value.platform.architecture,
            "os": value.platform.os,
        }
        optional = {"os.version": value.platform.os_version, "variant": value.platform.variant}
        shown["platform"] = platform | {key: text for key, text in optional.items() if text}
    return shown


def _label(value: Label) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "color": value.color,
        "creation_time": moment(value.created),
        "id": value.id,
        "name": value.name,
        "scope": value.scope,
        "update_time": moment(value.created),
    }
    optional = {"description": value.description, "project_id": value.project_id}
    return shown | {key: each for key, each in optional.items() if each}


def addition_names(artifact: Artifact) -> tuple[str, ...]:
    """Which additions an artifact offers: build history for a single image, documents for a chart."""
    if artifact.type == "IMAGE":
        return () if is_index(artifact) else ("build_history",)
    return CHART_ADDITIONS if artifact.type == "CHART" else ()


def artifact(
    holder: Project,
    place: Repository,
    value: Artifact,
    *,
    tags: bool,
    labels: bool,
    accessories: bool,
    immutable: bool,
) -> dict[str, Any]:
    """An artifact with the parts that were asked for; what was not asked for is null, not absent."""
    name = quote(quote(place.name, safe=""), safe="")
    base = f"/api/v2.0/projects/{holder.name}/repositories/{name}/artifacts/{value.digest}/additions"
    shown: dict[str, Any] = {
        "accessories": None,
        "digest": value.digest,
        "icon": value.icon or IMAGE_ICON,
        "id": own_id(holder, place, value),
        "labels": None,
        "manifest_media_type": value.manifest_media_type,
        "media_type": value.media_type,
        "project_id": project_id(holder),
        "pull_time": moment(value.pull_time),
        "push_time": moment(value.push_time),
        "references": [_reference(holder, place, value, each) for each in value.references] or None,
        "repository_id": repository_id(holder, place),
        "size": value.size,
        "tags": None,
        "type": value.type,
    }
    if value.extra_attrs is not None:
        shown["extra_attrs"] = dict(value.extra_attrs)
    if value.annotations:
        shown["annotations"] = dict(value.annotations)
    if names := addition_names(value):
        shown["addition_links"] = {each: {"absolute": False, "href": f"{base}/{each}"} for each in names}
    if tags:
        names_shown = newest_first(value.tags)
        shown["tags"] = [tag(holder, place, value, each, immutable=immutable) for each in names_shown] or None
    if labels:
        shown["labels"] = [_label(each) for each in value.labels] or None
    if accessories:
        shown["accessories"] = [accessory(holder, place, value, each) for each in value.accessories] or None
    return shown
