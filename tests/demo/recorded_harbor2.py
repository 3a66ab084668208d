"""The recorded exchanges of a real Harbor 2.5.0, and a catalog that holds what that server held."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from demo.catalog import (
    PULL,
    READ,
    Accessory,
    Account,
    Addition,
    Artifact,
    Catalog,
    Grant,
    Label,
    Platform,
    Project,
    Reference,
    Repository,
    Tag,
)
from tests.demo.exchanges import ALL_RECORDINGS, Exchange, moment, placeholder, project, read

RECORDINGS = ALL_RECORDINGS / "harbor-2.5.0"
READER = frozenset(
    {
        "repository:pull",
        "repository:list",
        "artifact:read",
        "artifact:list",
        "tag:list",
        "artifact-addition:read",
    }
)
ARTIFACT_PATH = re.compile(
    r"/api/v2\.0/projects/(?P<project>[^/]+)/repositories/(?P<repository>[^/]+)/artifacts"
    r"(?:/(?P<reference>[^/?]+)(?:/additions/(?P<addition>[^/?]+))?)?(?:\?.*)?"
)


def load(group: str) -> list[Exchange]:
    """All exchanges of one file, in the order they were made."""
    return read(RECORDINGS / f"{group}.jsonl")


def accounts() -> tuple[Account, ...]:
    """The accounts of the recorded server; the recordings' placeholders serve as passwords."""
    since = "2026-11-23T16:34:34.668Z"
    team = "team-private"
    developer = Grant(team, READ | {"repository:push"}, role_id=2)
    people = [
        ("admin", "<admin password>", 1, (), ""),
        ("dev", "<user password>", 3, (developer,), "dev@example.org"),
        ("maintainer", "<user password>", 5, (Grant(team, READ, role_id=4),), "maintainer@example.org"),
        ("nobody-else", "<user password>", 6, (), "nobody-else@example.org"),
        ("limited", "<user password>", 7, (Grant(team, READ, role_id=5),), "limited@example.org"),
    ]
    robots = [
        ("inventory", "<robot secret sys_all>", Grant("*", READER)),
        ("pull-only", "<robot secret sys_pull_only>", Grant("*", PULL)),
        ("push-pull", "<robot secret sys_ui_default>", Grant(team, PULL | {"repository:push"})),
        (f"{team}+reader", "<robot secret proj>", Grant(team, READER)),
        (f"{team}+puller", "<robot secret proj_pull>", Grant(team, PULL)),
        (f"{team}+off", "<robot secret disabled>", Grant(team, PULL)),
    ]
    return (
        *(
            Account(
                name,
                password,
                admin=name == "admin",
                grants=grants,
                email=mail,
                real_name="system admin" if name == "admin" else "",
                comment="admin user" if name == "admin" else "",
                created=moment(since),
                id=number,
            )
            for name, password, number, grants, mail in people
        ),
        *(
            Account(f"robot${name}", secret, robot=True, disabled=name.endswith("off"), grants=(grant,))
            for name, secret, grant in robots
        ),
    )


def unquoted(name: str) -> str:
    """A repository name out of a path."""
    return name.replace("%252F", "/").replace("%2F", "/")


@dataclass
class Gathered:
    """What the recorded answers say about the server's content, put together answer by answer."""

    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    additions: dict[tuple[str, str], dict[str, Addition]] = field(default_factory=dict)

    def read(self, exchange: Exchange) -> None:
        """Learn from one answer."""
        path = exchange.path.partition("?")[0]
        if exchange.status != 200 or exchange.method != "GET" or "/api/v2.0/" not in path:
            return
        found = ARTIFACT_PATH.fullmatch(exchange.path)
        if found and found["addition"]:
            kind = exchange.headers["content-type"]
            place = (f"{found['project']}/{unquoted(found['repository'])}", found["reference"])
            self.additions.setdefault(place, {})[found["addition"]] = Addition(exchange.body, kind)
            return
        if not exchange.body.startswith((b"{", b"[{")):
            return
        answer = exchange.json()
        for item in answer if isinstance(answer, list) else [answer]:
            if "cve_allowlist" in item and "metadata" in item:
                self.projects.setdefault(item["name"], item)
            elif "artifact_count" in item:
                self.repositories.setdefault(item["name"], item)
            elif "manifest_media_type" in item and found:
                self._artifact(f"{found['project']}/{unquoted(found['repository'])}", item)

    def _artifact(self, place: str, item: dict[str, Any]) -> None:
        known = self.artifacts.setdefault(place, {}).setdefault(item["digest"], {})
        fixed = known.get("fixed", set()) | {tag["name"] for tag in item["tags"] or () if tag["immutable"]}
        known.update({key: value for key, value in item.items() if known.get(key) is None})
        known["fixed"] = fixed

    def catalog(self) -> Catalog:
        """The content as the demo registry's values."""
        holders = sorted(self.projects.values(), key=lambda each: each["project_id"])
        return Catalog(projects=tuple(self._project(each) for each in holders), accounts=accounts())

    def _project(self, item: dict[str, Any]) -> Project:
        names = [name for name in self.repositories if name.startswith(item["name"] + "/")]
        held = [self._repository(self.repositories[name]) for name in names]
        while len(held) < item["repo_count"]:
            held.append(Repository("secret", (placeholder(item["name"] + "/secret"),), id=10_000 + len(held)))
        return project(item, held)

    def _repository(self, item: dict[str, Any]) -> Repository:
        artifacts = [
            self._built(item["name"], each) for each in self.artifacts.get(item["name"], {}).values()
        ]
        held = {each.digest for each in artifacts}
        for subject in self.artifacts.get(item["name"], {}).values():
            unseen = [each for each in subject["accessories"] or () if each["digest"] not in held]
            artifacts += [signature(subject["digest"], each) for each in unseen]
            children = [each for each in subject["references"] or () if each["child_digest"] not in held]
            artifacts += [child(each) for each in children]
        if not artifacts:
            artifacts = [placeholder(item["name"])] * item["artifact_count"]
        return Repository(
            item["name"].partition("/")[2],
            tuple(artifacts),
            created=moment(item["creation_time"]),
            updated=moment(item["update_time"]),
            id=item["id"],
        )

    def _built(self, place: str, item: dict[str, Any]) -> Artifact:
        tags = tuple(
            Tag(
                each["name"],
                moment(each["push_time"]),
                immutable=each["name"] in item["fixed"],
                id=each["id"],
            )
            for each in item["tags"] or ()
        )
        additions: dict[str, Addition] = {}
        for reference in (item["digest"], *(tag.name for tag in tags)):
            additions |= self.additions.get((place, reference), {})
        return Artifact(
            digest=item["digest"],
            media_type=item["media_type"],
            manifest_media_type=item["manifest_media_type"],
            size=item["size"],
            push_time=moment(item["push_time"]),
            type=item["type"],
            extra_attrs=item.get("extra_attrs"),
            annotations=item.get("annotations"),
            references=tuple(line_of_index(each) for each in item["references"] or ()),
            accessories=tuple(
                Accessory(
                    each["digest"], each["type"], each["size"], moment(each["creation_time"]), each["id"]
                )
                for each in item["accessories"] or ()
            ),
            tags=tags,
            labels=tuple(
                Label(
                    each["id"],
                    each["name"],
                    each["scope"],
                    each.get("project_id", 0),
                    each["color"],
                    each.get("description", ""),
                    moment(each["creation_time"]),
                )
                for each in item["labels"] or ()
            ),
            additions=additions,
            icon=item["icon"],
            id=item["id"],
        )


def line_of_index(item: dict[str, Any]) -> Reference:
    """A recorded line of an index."""
    platform = item.get("platform")
    return Reference(
        item["child_digest"],
        Platform(platform["architecture"], platform["os"], variant=platform.get("variant", ""))
        if platform
        else None,
        item.get("annotations"),
    )


def signature(subject: str, item: dict[str, Any]) -> Artifact:
    """The artifact of an accessory that was only seen attached to its subject."""
    tag = Tag(f"{subject.replace(':', '-')}.sig", moment(item["creation_time"]), id=item["id"])
    return Artifact(
        item["digest"], "x/config", "x/manifest", 1, tag.push_time, tags=(tag,), id=item["artifact_id"]
    )


def child(item: dict[str, Any]) -> Artifact:
    """A child of an index that was never opened."""
    return Artifact(item["child_digest"], "x/config", "x/manifest", 1, id=item["child_id"])


def recorded_catalog(exchanges: list[Exchange]) -> Catalog:
    """The content of the recorded server before anything was written to it."""
    gathered = Gathered()
    for exchange in exchanges:
        if "/repositories/copied" not in exchange.path:
            gathered.read(exchange)
    gathered.repositories.pop("team-private/copied", None)
    return gathered.catalog()
