"""A registry in memory: what it really holds, and an adapter that lists what it is told, right or wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from repositories.registries.failures import NotThereError, RegistryError
from repositories.registries.protocol import (
    ArtifactItem,
    CheckReport,
    Kind,
    LayerItem,
    ManifestBody,
    ProjectItem,
    RepositoryItem,
    TagItem,
)

FIRST_PUSH = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
Item = TypeVar("Item")
# A repository's whole name and a tag's.
Name = tuple[str, str]


def digest_of(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


@dataclass(frozen=True)
class Content:
    """An image: its manifest and its config, made from a number."""

    number: int
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def content(number: int) -> Content:
    layer = digest_of(f"layer {number}".encode())
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer]}}
    ).encode()
    body = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": "application/octet-stream", "digest": layer, "size": number + 1}],
    }
    return Content(number, config, json.dumps(body).encode())


CONTENTS = tuple(content(number) for number in range(16))
BY_DIGEST = {each.digest: each for each in CONTENTS}
CONFIGS = {digest_of(each.config): each.config for each in CONTENTS}


@dataclass
class Push:
    """Where a tag is."""

    digest: str
    at: datetime


@dataclass
class Holdings:
    """What a registry really holds: project -> whole name of a repository -> tag."""

    projects: dict[str, dict[str, dict[str, Push]]] = field(default_factory=dict)
    pushes: int = 0

    def push(self, project: str, repository: str, tag: str, number: int) -> None:
        self.pushes += 1
        at = FIRST_PUSH + timedelta(minutes=self.pushes)
        tags = self.projects.setdefault(project, {}).setdefault(f"{project}/{repository}", {})
        tags[tag] = Push(CONTENTS[number].digest, at)

    def names(self) -> list[Name]:
        return [
            (repository, tag)
            for repositories in self.projects.values()
            for repository, tags in repositories.items()
            for tag in tags
        ]

    def drop(self, name: Name) -> None:
        """Delete a tag."""
        for repositories in self.projects.values():
            repositories.get(name[0], {}).pop(name[1], None)


@dataclass
class Script(Generic[Item]):
    """One listing: these items, then an end or an error."""

    items: list[Item]
    error: RegistryError | None = None


@dataclass
class Told:
    """Everything a registry says in one data update."""

    projects: Script[ProjectItem]
    repositories: dict[str, Script[RepositoryItem]]
    artifacts: dict[str, Script[ArtifactItem]]

    @property
    def errors(self) -> list[RegistryError]:
        scripts = [self.projects, *self.repositories.values(), *self.artifacts.values()]
        return [script.error for script in scripts if script.error]


def faithful(holdings: Holdings) -> Told:
    """What an honest registry says."""
    return Told(
        Script([ProjectItem(name) for name in holdings.projects]),
        {
            project: Script([RepositoryItem(name, project) for name in repositories])
            for project, repositories in holdings.projects.items()
        },
        {
            name: Script(artifacts(tags))
            for repositories in holdings.projects.values()
            for name, tags in repositories.items()
        },
    )


def artifacts(tags: dict[str, Push]) -> list[ArtifactItem]:
    """The artifacts of a repository, each with its tags."""
    by_digest: dict[str, list[TagItem]] = {}
    for name, push in tags.items():
        by_digest.setdefault(push.digest, []).append(TagItem(name, push.at))
    return [
        ArtifactItem(
            digest=digest,
            media_type=CONFIG,
            manifest_media_type=IMAGE,
            kind=Kind.IMAGE,
            size=BY_DIGEST[digest].number + 1,
            pushed_at=max(item.pushed_at for item in items),
            tags=tuple(items),
        )
        for digest, items in by_digest.items()
    ]


class ToldRegistry:
    """The adapter of one data update; asked for anything it never named, it fails the test."""

    def __init__(self, told: Told) -> None:
        self._told = told
        # What was really given out, and which listings were read to their end.
        self.given: dict[Name, set[str]] = {}
        self.ended: list[str] = []

    def list_projects(self) -> Iterator[ProjectItem]:
        yield from self._play("projects", self._told.projects)

    def list_repositories(self, project: ProjectItem) -> Iterator[RepositoryItem]:
        yield from self._play(project.name, self._told.repositories[project.name])

    def list_artifacts(self, repository: RepositoryItem) -> Iterator[ArtifactItem]:
        script = self._told.artifacts.get(repository.name)
        if script is None:
            raise NotThereError("REG_NOT_FOUND", "There is no such repository.")
        for artifact in self._play(repository.name, script):
            for tag in artifact.tags:
                self.given.setdefault((repository.name, tag.name), set()).add(artifact.digest)
            yield artifact

    def check(self) -> CheckReport:
        raise AssertionError("a data update tests no connection")

    def _play(self, name: str, script: Script[Item]) -> Iterator[Item]:
        yield from script.items
        if script.error is not None:
            raise script.error
        self.ended.append(name)


class ToldContents:
    """The pull client beside it."""

    def get_manifest(self, repository: str, digest: str) -> ManifestBody:
        found = BY_DIGEST[digest]
        layer = json.loads(found.manifest)["layers"][0]
        return ManifestBody(
            digest=digest,
            media_type=IMAGE,
            raw=found.manifest,
            kind=Kind.IMAGE,
            config_digest=digest_of(found.config),
            config_size=len(found.config),
            config_media_type=CONFIG,
            layers=(LayerItem(layer["digest"], layer["size"], layer["mediaType"]),),
        )

    def read_blob(self, repository: str, digest: str, *, limit: int) -> bytes:
        return CONFIGS[digest][:limit]

    def get_blob(
        self, repository: str, digest: str, size: int, *, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes]]:
        raise AssertionError("a data update pulls no layer")


def doubled(items: Iterable[Item]) -> list[Item]:
    """Every item twice, as a listing shows them that shifts while it is read."""
    return [item for each in items for item in (each, each)]
