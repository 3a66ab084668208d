"""Recorded exchanges with real Harbor servers, as they are read from their files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.blobs import BlobStore
from demo.catalog import Artifact, Project, Repository, Tag

ALL_RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "spec" / "recordings"


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    group: str
    number: int
    name: str
    via: str
    method: str
    path: str
    sent: dict[str, str]
    status: int
    headers: dict[str, str]
    body: bytes
    claims: dict[str, Any] | None

    @property
    def label(self) -> str:
        return f"{self.group}:{self.number} {self.name}: {self.method} {self.path[:120]}"

    def json(self) -> Any:
        return json.loads(self.body)


def read(file: Path) -> list[Exchange]:
    """All exchanges of one file, in the order they were made."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        asked, answered = entry["request"], entry["response"]
        body = (answered.get("body") or "").encode()
        if answered.get("body_base64"):
            body = base64.b64decode(answered["body_base64"])
        headers = joined(answered["headers"])
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        found.append(
            Exchange(
                group=file.stem,
                number=entry["n"],
                name=entry["name"],
                via=entry["via"],
                method=asked["method"],
                path=asked["path"],
                sent=dict(asked["headers"]),
                status=answered["status"],
                headers=headers,
                body=body,
                claims=entry.get("jwt_claims"),
            )
        )
    return found


def joined(pairs: Iterable[Sequence[str]]) -> dict[str, str]:
    """Headers by their names in small letters; several of one name as a list with commas."""
    found: dict[str, str] = {}
    for name, text in pairs:
        found[name.lower()] = ", ".join(filter(None, [found.get(name.lower()), text]))
    return found


def moment(text: str) -> datetime:
    """A recorded time, with or without digits behind the second."""
    return datetime.fromisoformat(text)


def fill(store: BlobStore, exchanges: list[Exchange]) -> None:
    """Keep every manifest and blob whose bytes were recorded whole."""
    for exchange in exchanges:
        digest = exchange.headers.get("docker-content-digest")
        whole = exchange.status == 200 and exchange.method == "GET"
        if digest and whole and "sha256:" + hashlib.sha256(exchange.body).hexdigest() == digest:
            store.put(exchange.body)


def project(item: dict[str, Any], held: Sequence[Repository]) -> Project:
    """A recorded project with these repositories."""
    return Project(
        item["name"],
        tuple(held),
        public=item["metadata"]["public"] == "true",
        created=moment(item["creation_time"]),
        updated=moment(item["update_time"]),
        id=item["project_id"],
    )


def placeholder(name: str, media_type: str = "x/manifest") -> Artifact:
    """An artifact of a repository that was counted in the recordings but never opened."""
    digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    return Artifact(digest, "x/config", media_type, 1, tags=(Tag("1", id=1),), id=1)
