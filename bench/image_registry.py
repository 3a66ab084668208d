"""The registry of the scan benchmark in a process of its own: `python -m bench.image_registry DIRECTORY`.

SIGUSR1 makes it write the bytes of layers it has served, and how often each, beside its address file.
"""

import argparse
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.root_files import LAYER_TYPE, build
from demo.blobs import BlobStore
from demo.catalog import Catalog
from demo.distribution import Distribution
from demo.exchange import Answer, Request
from demo.listener import announce, serving
from demo.server import DemoServer


class CountingDistribution(Distribution):
    """Counts what is served of layers."""

    def __init__(self, blobs: BlobStore, server: DemoServer, layers: Mapping[str, int]) -> None:
        super().__init__(blobs, server.tokens, lambda _pull: None)
        self._layers = layers
        self.served: Counter[str] = Counter()

    def _blob(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        if request.method == "GET" and names["reference"] in self._layers:
            self.served[names["reference"]] += 1
        return super()._blob(catalog, request, names)


def layer_sizes(blobs: BlobStore, catalog: Catalog) -> dict[str, int]:
    """Digest -> compressed bytes of every layer of the registry."""
    found: dict[str, int] = {}
    for repository in catalog.projects[0].repositories:
        for artifact in repository.artifacts:
            for layer in json.loads(blobs.read(artifact.digest))["layers"]:
                if layer["mediaType"] == LAYER_TYPE:
                    found[layer["digest"]] = layer["size"]
    return found


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.image_registry", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--applications", type=int, default=4, help="on each of the six bases")
    parser.add_argument("--announce", type=Path, required=True)
    chosen = parser.parse_args()
    blobs, catalog = build(chosen.directory, applications=chosen.applications)
    server = DemoServer(blobs, catalog, port=0, face="harbor2")
    layers = layer_sizes(blobs, catalog)
    counting = CountingDistribution(blobs, server, layers)
    server.distribution = counting
    ended = threading.Event()

    def tell(*_: object) -> None:
        count = {
            "served": sum(layers[digest] * times for digest, times in counting.served.items()),
            "distinct": sum(layers.values()),
        }
        fresh = chosen.announce.with_suffix(".new")
        fresh.write_text(json.dumps(count))
        fresh.rename(chosen.announce.with_suffix(".bytes"))

    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGUSR1, tell)
    with serving(server):
        announce(server.url, chosen.announce)
        while not ended.wait(1):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
