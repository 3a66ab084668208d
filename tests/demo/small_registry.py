"""A small registry content for tests of the demo server itself, and a plain HTTP client to ask it with."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.blobs import BlobStore
from demo.catalog import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    READ,
    Account,
    Artifact,
    Catalog,
    Grant,
    Platform,
    Project,
    Reference,
    Repository,
    Tag,
)
from demo.listener import Listener
from tests.demo.exchanges import joined

ANY_MANIFEST = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
START = datetime(2024, 5, 1, 10, tzinfo=UTC)
LAYER = b"layer " * 20_000


@dataclass(frozen=True)
class Reply:
    """An answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code in Harbor's error body."""
        return self.json()["errors"][0]["code"]


def basic(name: str, password: str) -> dict[str, str]:
    """A login header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """A registry token's header."""
    return {"Authorization": f"Bearer {token}"}


OPERATOR = basic("operator", "right")
ROBOT = basic("robot$scanner", "secret")


def ask(
    server: Listener,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    context: ssl.SSLContext | None = None,
) -> Reply:
    """One request on a connection of its own."""
    port = server.server_address[1]
    connection: http.client.HTTPConnection
    if context:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        return Reply(answer.status, joined(answer.getheaders()), body)
    finally:
        connection.close()


def token(server: Listener, name: str, headers: dict[str, str] | None = None) -> str:
    """A registry token to pull one repository."""
    path = f"/service/token?service=harbor-registry&scope=repository:{name}:pull"
    return ask(server, path, headers).json()["token"]


def image(store: BlobStore, *tags: str, word: str = "image", day: int = 0, **changes: Any) -> Artifact:
    """An image of one layer whose content depends on `word` alone."""
    layer = store.put(LAYER)
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": [f"WORD={word}"]}, "rootfs": {}}
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": store.put(config_bytes), "size": len(config_bytes)},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": len(LAYER)}
        ],
    }
    content = json.dumps(manifest).encode()
    pushed = START + timedelta(days=day)
    return Artifact(
        digest=store.put(content),
        media_type=OCI_CONFIG,
        manifest_media_type=OCI_MANIFEST,
        size=len(content) + len(config_bytes) + len(LAYER),
        push_time=pushed,
        extra_attrs={"architecture": "amd64", "os": "linux", "config": config["config"]},
        tags=tuple(Tag(name, pushed) for name in tags),
        history=({"created_by": "COPY word /"},),
        **changes,
    )


def index(store: BlobStore, *children: Artifact, tag: str) -> Artifact:
    """An index over images."""
    lines = [{"mediaType": OCI_MANIFEST, "digest": child.digest, "size": 1} for child in children]
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": lines}).encode()
    return Artifact(
        digest=store.put(content),
        media_type=OCI_INDEX,
        manifest_media_type=OCI_INDEX,
        size=len(content) + sum(child.size for child in children),
        push_time=START,
        references=tuple(Reference(child.digest, Platform("amd64", "linux")) for child in children),
        tags=(Tag(tag, START),),
    )


def content(store: BlobStore) -> Catalog:
    """A public project, a private one, a person and two robots."""
    child = image(store, word="child")
    public = Project(
        "library",
        (
            Repository(
                "hello", (image(store, "1.0", "latest", word="hello"), image(store, "2.0", word="new", day=1))
            ),
            Repository("multi", (index(store, child, tag="1.0"), child)),
        ),
        public=True,
    )
    private = Project("team", (Repository("app/backend", (image(store, "1.0", word="backend"),)),))
    past = datetime(2020, 1, 1, tzinfo=UTC)
    return Catalog(
        (public, private),
        (
            Account("operator", "right", email="operator@example.com", grants=(Grant("team", READ, 2),)),
            Account("robot$scanner", "secret", robot=True, grants=(Grant("*"),)),
            Account("robot$old", "secret", robot=True, expires=past, grants=(Grant("*"),)),
        ),
    )
