"""A demo registry of any size for benchmarks, in a process of its own: `python -m bench.registry`.

The content is made from numbers and kept in memory: small manifests and configs, no layers' bytes.
"""

import argparse
import gc
import hashlib
import io
import json
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, get_args

from demo.blobs import BlobMissingError, BlobStore
from demo.catalog import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    LONG_AGO,
    Account,
    Artifact,
    Catalog,
    Project,
    Repository,
    Tag,
)
from demo.distribution import VERSION, Distribution
from demo.exchange import Answer, Request
from demo.listener import announce, serving
from demo.registry1 import OlderDistribution
from demo.server import DemoServer, Face
from demo.tencent import DemoCloud
from demo.tencent_model import CloudAccount, CloudContent, Instance, Policy

ACCOUNT = "bench"
SECRET_ID = "AKIDbenchbenchbenchbenchbenchbench"  # noqa: S105 - of a cloud that is not one
INSTANCE = "tcr-bench001"
REGION = "ap-guangzhou"
PASSWORD = "bench-password"  # noqa: S105 - of a registry that listens on 127.0.0.1 for some minutes
LAYERS = 3
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class MemoryBlobs(BlobStore):
    """Blobs in memory: a benchmark's disk is not the registry's."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def path(self, digest: str) -> Path:
        """There is none."""
        raise LookupError(digest)

    def put_as(self, digest: str, content: bytes, *, replace: bool = True) -> None:
        """Keep bytes under a digest."""
        if replace or digest not in self._contents:
            self._contents[digest] = content

    def put(self, content: bytes) -> str:
        """Keep these bytes and return their digest."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self._contents[digest] = content
        return digest

    def read(self, digest: str) -> bytes:
        """The whole blob. Raises BlobMissingError."""
        try:
            return self._contents[digest]
        except KeyError:
            raise BlobMissingError(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file to read from. Raises BlobMissingError."""
        return io.BytesIO(self.read(digest))

    def size(self, digest: str) -> int:
        """Length of the blob in bytes. Raises BlobMissingError."""
        return len(self.read(digest))

    def __contains__(self, digest: object) -> bool:
        return digest in self._contents

    def digests(self) -> list[str]:
        """Every digest, in order."""
        return sorted(self._contents)


def build(blobs: BlobStore, *, projects: int, repositories: int, artifacts: int, tags: int) -> Catalog:
    """A catalog of so many projects, repositories of each, artifacts and tags of each repository."""
    account = Account(ACCOUNT, PASSWORD, admin=True)
    return Catalog(
        projects=tuple(
            Project(
                f"project-{place:04d}",
                tuple(
                    _repository(blobs, place * repositories + number, number, artifacts, tags)
                    for number in range(repositories)
                ),
            )
            for place in range(projects)
        ),
        accounts=(account,),
    )


def _repository(blobs: BlobStore, seed: int, number: int, artifacts: int, tags: int) -> Repository:
    named: list[list[Tag]] = [[] for _ in range(artifacts)]
    for place in range(tags):
        pushed = LONG_AGO + timedelta(minutes=seed, seconds=place)
        named[place % artifacts].append(Tag(f"{place // 10}.{place % 10}.0", pushed))
    rows = tuple(
        _artifact(blobs, seed * artifacts + place, tuple(named[place])) for place in range(artifacts)
    )
    return Repository(f"service-{number:03d}", rows, updated=LONG_AGO + timedelta(minutes=seed, seconds=tags))


def _digest(*words: object) -> str:
    return "sha256:" + hashlib.sha256(":".join(map(str, words)).encode()).hexdigest()


def _artifact(blobs: BlobStore, seed: int, tags: tuple[Tag, ...]) -> Artifact:
    """An image whose lowest layer is shared by a thousand others, the next by ten."""
    layers = [("base", seed // 1000), ("runtime", seed // 10), ("application", seed)][:LAYERS]
    command = f'CMD ["/app/start" "{seed}"]'
    steps = [f"ADD {name}-{number}.tar.gz / # buildkit" for name, number in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-02-03T04:05:06Z",
        "config": {"Cmd": ["/app/start"], "Labels": {"org.opencontainers.image.version": str(seed)}},
        "rootfs": {"type": "layers", "diff_ids": [_digest("diff", *layer) for layer in layers]},
        "history": [
            *({"created": "2026-02-03T04:05:06Z", "created_by": step} for step in steps),
            {"created": "2026-02-03T04:05:06Z", "created_by": command, "empty_layer": True},
        ],
    }
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": DOCKER_CONFIG,
            "size": len(config_bytes),
            "digest": blobs.put(config_bytes),
        },
        "layers": [
            {"mediaType": _LAYER_TYPE, "size": 1_000_000 + number, "digest": _digest("blob", name, number)}
            for name, number in layers
        ],
    }
    return Artifact(
        digest=blobs.put(json.dumps(manifest).encode()),
        media_type=DOCKER_CONFIG,
        manifest_media_type=DOCKER_MANIFEST,
        size=LAYERS * 1_000_000 + len(config_bytes),
        push_time=min((tag.push_time for tag in tags), default=LONG_AGO),
        extra_attrs={"architecture": "amd64", "os": "linux", "created": "2026-02-03T04:05:06Z", "author": ""},
        tags=tags,
    )


class _FromMemory:
    """Serves blobs without a file behind them."""

    _blobs: BlobStore

    def _blob(self, _catalog: Catalog, _request: Request, names: Mapping[str, str]) -> Answer:
        headers = {**VERSION, "Content-Type": "application/octet-stream"}
        return Answer(status=200, headers=headers, body=self._blobs.read(names["reference"]))


class _Distribution(_FromMemory, Distribution):
    """Harbor 2's side."""


class _NoLog(list[Any]):
    """Forgets what a server would remember of every request."""

    def append(self, _: object) -> None:
        """Forget it."""


def cloud(blobs: BlobStore, catalog: Catalog) -> DemoCloud:
    """A demo Tencent cloud with one TCR instance, whose namespaces are the projects of a catalog."""
    account = CloudAccount(ACCOUNT, SECRET_ID, PASSWORD, PASSWORD)
    everybody = (Policy("0.0.0.0/0"),)
    instance = Instance(INSTANCE, "bench", REGION, catalog, entry="Opened", allowlist=everybody)
    made = DemoCloud(blobs, CloudContent(account, (instance,)))
    made.redirects_blobs = False
    face = made.registry(INSTANCE)
    face._distribution = _Distribution(blobs, face.tokens, _forget)  # noqa: SLF001 - keeps no log
    for listener in (made.api, face):
        listener.requests = _NoLog()
    made.api.calls = _NoLog()
    return made


class _OlderDistribution(_FromMemory, OlderDistribution):
    """Harbor 1's side."""


class BenchServer(DemoServer):
    """The demo server without its memory of what was asked, which would grow with every request."""

    def __init__(self, blobs: BlobStore, catalog: Catalog, *, port: int, face: Face) -> None:
        super().__init__(blobs, catalog, port=port, face=face)
        older = _OlderDistribution(blobs, self.tokens, _forget)
        self.distribution = older if face == "harbor1" else _Distribution(blobs, self.tokens, _forget)

    def saw(self, *_: object) -> None:
        """Forget what was asked."""


def _forget(_pull: object) -> None:
    """A pull leaves no trace."""


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry", description=__doc__)
    parser.add_argument("--projects", type=int, default=200)
    parser.add_argument("--repositories", type=int, default=10, help="in each project")
    parser.add_argument("--artifacts", type=int, default=20, help="in each repository")
    parser.add_argument("--tags", type=int, default=50, help="in each repository")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--announce", type=Path)
    parser.add_argument("--face", choices=[*get_args(Face), "tcr"], default="harbor2")
    chosen = parser.parse_args()
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: ended.set())
    blobs = MemoryBlobs()
    catalog = build(
        blobs,
        projects=chosen.projects,
        repositories=chosen.repositories,
        artifacts=chosen.artifacts,
        tags=chosen.tags,
    )
    # A million values that never change need not be walked through again and again.
    gc.freeze()
    if chosen.face == "tcr":
        made = cloud(blobs, catalog)
        announce(made.api_url, chosen.announce)
        ended.wait()
        made.stop()
        return 0
    server = BenchServer(blobs, catalog, port=chosen.port, face=chosen.face)
    with serving(server):
        announce(server.url, chosen.announce)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
