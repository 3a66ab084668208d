"""The recorded exchanges of a real Harbor 1.10.19, and a catalog that holds what that server held."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from demo.blobs import BlobStore
from demo.catalog import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    NEVER,
    PULL,
    READ,
    Account,
    Artifact,
    Catalog,
    Grant,
    Project,
    Repository,
    Tag,
)
from tests.demo.exchanges import ALL_RECORDINGS, Exchange, fill, moment, placeholder, project, read

RECORDINGS = ALL_RECORDINGS / "harbor-1.10.19"
TAGS = re.compile(r"/api/repositories/(?P<repository>.+)/tags(?:\?.*)?")
TAG = re.compile(r"/api/repositories/(?P<repository>.+)/tags/[^/?]+")
MANIFEST = re.compile(r"/api/repositories/.+/manifest(?:\?.*)?")
SINCE = moment("2026-11-23T16:35:42Z")


def load(group: str) -> list[Exchange]:
    """All exchanges of one file, in the order they were made."""
    return read(RECORDINGS / f"{group}.jsonl")


def accounts() -> tuple[Account, ...]:
    """The accounts of the recorded server; the recordings' placeholders serve as passwords."""
    team = "team-private"
    people = {
        "dev": (3, (Grant(team, READ | {"repository:push"}, role_id=2),)),
        "master": (5, (Grant(team, READ, role_id=4),)),
        "nobody-else": (6, ()),
        "limited": (7, (Grant(team, READ, role_id=5),)),
    }
    robots = {
        "pull": ("ci-pull", PULL),
        "push": ("ci-push", PULL | {"repository:push"}),
        "disabled": ("ci-off", PULL),
    }
    return (
        Account(
            "admin",
            "<admin password>",
            admin=True,
            real_name="system admin",
            comment="admin user",
            created=moment("2026-11-23T16:35:33.628327Z"),
            id=1,
        ),
        *(
            Account(
                name, "<user password>", grants=grants, email=f"{name}@example.org", created=SINCE, id=number
            )
            for name, (number, grants) in people.items()
        ),
        *(
            Account(
                f"robot${name}",
                f"<robot token robot_{word}>",
                robot=True,
                disabled=word == "disabled",
                grants=(Grant(team, actions),),
            )
            for word, (name, actions) in robots.items()
        ),
    )


@dataclass
class Gathered:
    """What the recorded answers say about the server's content, put together answer by answer."""

    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def read(self, exchange: Exchange) -> None:
        """Learn from one answer."""
        if (exchange.status, exchange.method) != (200, "GET") or not exchange.path.startswith("/api/"):
            return
        known = exchange.json()
        found = (TAGS if isinstance(known, list) else TAG).fullmatch(exchange.path)
        for item in known if isinstance(known, list) else filter(None, [known]):
            if "cve_whitelist" in item:
                self.projects.setdefault(item["name"], item)
            elif "tags_count" in item:
                self.repositories.setdefault(item["name"], item)
            elif found and item.get("digest") and item["name"] != item["digest"]:
                place = found["repository"].replace("%2F", "/")
                self.tags.setdefault(place, {}).setdefault(item["name"], item)

    def catalog(self) -> Catalog:
        """The content as the demo registry's values."""
        return Catalog(projects=tuple(map(self._project, self.projects.values())), accounts=accounts())

    def _project(self, item: dict[str, Any]) -> Project:
        known = [each for each in self.repositories.values() if each["project_id"] == item["project_id"]]
        held = [self._repository(each) for each in known]
        while len(held) < item["repo_count"]:
            held.append(Repository("secret", (placeholder(item["name"], DOCKER_MANIFEST),), id=10_000))
        if item["name"] == "team-private":
            # Its tags were deleted one by one, and the registry kept the manifest.
            untagged = Artifact("sha256:" + "1" * 64, DOCKER_CONFIG, DOCKER_MANIFEST, 1)
            held.append(Repository("gone", (untagged,)))
        return project(item, held)

    def _repository(self, item: dict[str, Any]) -> Repository:
        by_digest: dict[str, list[dict[str, Any]]] = {}
        for each in self.tags.get(item["name"], {}).values():
            by_digest.setdefault(each["digest"], []).append(each)
        artifacts = tuple(artifact(each) for each in by_digest.values())
        return Repository(
            item["name"].partition("/")[2],
            artifacts or (placeholder(item["name"], DOCKER_MANIFEST),) * item["tags_count"],
            created=moment(item["creation_time"]),
            updated=moment(item["update_time"]),
            id=item["id"],
        )


def artifact(tags: list[dict[str, Any]]) -> Artifact:
    """The image that all these recorded tags name."""
    first = tags[0]
    return Artifact(
        first["digest"],
        DOCKER_CONFIG,
        DOCKER_MANIFEST,
        first["size"],
        push_time=NEVER,
        extra_attrs={
            **{key: first[key] for key in ("architecture", "os", "author", "created")},
            "config": {"Labels": first["config"]["labels"]},
        },
        tags=tuple(
            Tag(each["name"], moment(each["push_time"]), immutable=each["immutable"]) for each in tags
        ),
    )


def fill_all(store: BlobStore, exchanges: list[Exchange]) -> None:
    """Keep every manifest and blob whose bytes were recorded, and the configs that the API gave as text."""
    fill(store, exchanges)
    for exchange in exchanges:
        if MANIFEST.fullmatch(exchange.path) and exchange.status == 200:
            store.put(exchange.json().get("config", "").encode())


def recorded_catalog(exchanges: list[Exchange]) -> Catalog:
    """The content of the recorded server before anything was written to it."""
    gathered = Gathered()
    for exchange in exchanges:
        if not exchange.path.startswith("/api/repositories/top") and not re.search(
            "/copied|list-try|q=try", exchange.path
        ):
            gathered.read(exchange)
    return gathered.catalog()
