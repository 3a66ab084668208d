"""Catalog values as the JSON of Harbor 1.10's API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from demo.catalog import NEVER, Account, Artifact, Label, Project, Repository, Tag, number
from demo.exchange import Answer
from demo.gojson import go_json
from demo.rendering import project_id, repository_id, role_ids

JSON_UTF8 = "application/json; charset=utf-8"


def answer(value: object, **headers: str) -> Answer:
    """A JSON answer as the framework of 1.10 writes it: indented, and of announced length."""
    body = go_json(value, indent=2).encode()
    return Answer(200, {"Content-Type": JSON_UTF8, "Content-Length": str(len(body))}, body).with_headers(
        **headers
    )


def error(status: int, message: str) -> Answer:
    """An error: JSON that calls itself plain text."""
    body = go_json({"code": status, "message": message}) + "\n"
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8"}, body.encode())


def moment(time: datetime) -> str:
    """A time as Go writes it by itself: UTC, and only as many digits of the second as there are."""
    text = time.astimezone(UTC) if time != NEVER else time
    fraction = f".{text.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{text.year:04d}-{text:%m-%dT%H:%M:%S}{fraction}Z"


def user(account: Account) -> dict[str, Any]:
    """The answer of `/users/current`."""
    return {
        "user_id": account.id or number(account.name),
        "username": account.name,
        "email": account.email,
        "password": "",
        "password_version": "sha256",
        "realname": account.real_name or account.name,
        "comment": account.comment,
        "deleted": False,
        "role_name": "",
        "role_id": 0,
        "has_admin_role": account.admin,
        "reset_uuid": "",
        "creation_time": moment(account.created),
        "update_time": moment(account.created),
    }


def project(value: Project, account: Account | None, *, alone: bool) -> dict[str, Any]:
    """A project as that account sees it; in a list its allowlist is left empty.

    The first project of an installation has no allowlist of its own, so those of the others lag by one.
    """
    roles = role_ids(value, account)
    listed = project_id(value) - 1 if alone else 0
    since = moment(value.created if listed else NEVER)
    return {
        "project_id": project_id(value),
        "owner_id": value.owner_id,
        "name": value.name,
        "creation_time": moment(value.created),
        "update_time": moment(value.updated),
        "deleted": False,
        "owner_name": "",
        "current_user_role_id": roles[0] if roles else 0,
        "current_user_role_ids": roles,
        "repo_count": sum(1 for place in value.repositories if tags_of(place)),
        "chart_count": 0,
        "metadata": {**value.metadata, "public": "true" if value.public else "false"},
        "cve_whitelist": {
            "id": listed,
            "project_id": project_id(value) if alone else 0,
            "items": [] if alone else None,
            "creation_time": since,
            "update_time": since,
        },
    }


def tags_of(place: Repository) -> list[tuple[Tag, Artifact]]:
    """The tags of a repository in the order of their names: the unit of 1.10, which has no artifacts."""
    pairs = [(tag, artifact) for artifact in place.artifacts for tag in artifact.tags]
    return sorted(pairs, key=lambda pair: pair[0].name)


def repository(holder: Project, value: Repository) -> dict[str, Any]:
    """A repository; its name begins with the project's."""
    return {
        "id": repository_id(holder, value),
        "name": f"{holder.name}/{value.name}",
        "project_id": project_id(holder),
        "description": value.description,
        "pull_count": value.pull_count,
        "star_count": 0,
        "tags_count": len(tags_of(value)),
        "labels": [],
        "creation_time": moment(value.created),
        "update_time": moment(value.updated),
    }


def tag(artifact: Artifact, name: Tag) -> dict[str, Any]:
    """A tag with what the server reads from its manifest and config; nothing read leaves things empty."""
    attributes = artifact.extra_attrs or {}
    config = attributes.get("config")
    labels = (config.get("Labels") or None) if isinstance(config, dict) else None
    return {
        "digest": artifact.digest,
        "name": name.name,
        "size": artifact.size,
        "architecture": attributes.get("architecture", ""),
        "os": attributes.get("os", ""),
        "os.version": attributes.get("os.version", ""),
        "docker_version": attributes.get("docker_version", ""),
        "author": attributes.get("author", ""),
        "created": attributes.get("created", moment(NEVER)),
        "config": {"labels": labels} if isinstance(config, dict) else None,
        "immutable": name.immutable,
        "signature": None,
        "labels": [_label(each) for each in artifact.labels],
        "push_time": moment(name.push_time),
        "pull_time": moment(max(name.pull_time, artifact.pull_time)),
    }


def name_only(name: Tag) -> dict[str, Any]:
    """A tag of a list without details: every other field is there and empty."""
    bare = Artifact(digest="", media_type="", manifest_media_type="", size=0)
    return {**tag(bare, Tag(name.name, push_time=NEVER)), "labels": None}


def _label(value: Label) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "color": value.color,
        "scope": value.scope,
        "project_id": value.project_id,
        "creation_time": moment(value.created),
        "update_time": moment(value.created),
        "deleted": False,
    }
