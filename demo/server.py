"""The demo registry as a running server: `python -m demo.server`, or `running()` inside a test.

It listens on 127.0.0.1 only and answers as a Harbor 2.5, or a 1.10, behind its nginx: the API, the registry,
the token service, and the portal's page everywhere else.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import operator
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from demo import images
from demo.blobs import BlobStore
from demo.catalog import Catalog, Repository
from demo.distribution import Distribution, Pull
from demo.docker_content import docker_content
from demo.exchange import Answer, Request, page
from demo.harbor1 import Harbor1
from demo.harbor2 import Harbor2
from demo.identity import Logins, OlderSessions, Sessions, Tokens
from demo.listener import Listener, announce, raise_first, serving
from demo.registry1 import OlderDistribution

Face = Literal["harbor1", "harbor2"]
"""Which of the two the server answers as: Harbor 1.10 or Harbor 2.5."""


class DemoServer(Listener):
    """The server, its content and its log. `catalog` may be replaced between any two requests.

    `folders` are paths that the proxy sends to themselves with a slash.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        *,
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        face: Face = "harbor2",
    ) -> None:
        super().__init__(port=port, certificate=certificate)
        self.blobs = blobs
        self.catalog = catalog
        self.logins = Logins()
        self.pulls: list[Pull] = []
        self._docker: tuple[Catalog, Catalog] | None = None
        self.harbor: Harbor1 | Harbor2
        self.distribution: Distribution
        if face == "harbor1":
            self.unannounced: tuple[str, ...] = ("text/plain",)
            self.folders: tuple[str, ...] = ("/v2", "/api")
            self.tokens = Tokens(stranger="")
            self.sessions: Sessions = OlderSessions()
            self.distribution = older = OlderDistribution(blobs, self.tokens, self.pulls.append)
            self.harbor = Harbor1(blobs, older)
        else:
            self.unannounced = ("application/json",)
            self.folders = ("/v2",)
            self.tokens = Tokens()
            self.sessions = Sessions()
            self.distribution = Distribution(blobs, self.tokens, self.pulls.append)
            self.harbor = Harbor2()

    @property
    def content(self) -> Catalog:
        """What is there to be seen: the catalog, and of it only what Harbor 1.10 can hold under that face."""
        catalog = self.catalog
        if isinstance(self.harbor, Harbor2):
            return catalog
        held = self._docker
        if held is None or held[0] is not catalog:
            held = self._docker = (catalog, docker_content(catalog, self.blobs))
        return held[1]

    def answer(self, request: Request) -> Answer:
        """The answer before any fault."""
        if request.path in self.folders:
            return Answer(
                301,
                {"Location": f"{request.origin}{request.path}/", "Content-Type": "text/html"},
                cookies=False,
            )
        place = f"{request.path}/"
        if place.startswith(("/v1/", "/service/notifications/")):
            return page(404, "404 Not Found")
        if not place.startswith(("/api/", "/v2/", "/service/", "/c/")):
            return page(200, "Harbor")
        refusal = self.sessions.refusal(request.method, request.headers)
        if refusal:
            return refusal
        request = self._identified(request)
        if request.path == "/service/token":
            return self.distribution.token(self.content, request)
        if place.startswith("/v2/"):
            return self.distribution.answer(self.content, request)
        return self.harbor.answer(self._with_pulls(), request)

    def _identified(self, request: Request) -> Request:
        authorization = request.headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and request.path.startswith("/v2/"):
            return replace(request, access=self.tokens.read(token))
        return replace(request, account=self.logins.account(self.catalog, authorization))

    def _with_pulls(self) -> Catalog:
        """The content with the pull times and counts that this server saw itself."""
        catalog = self.content
        by_repository = operator.attrgetter("repository")
        for name, pulls in itertools.groupby(sorted(self.pulls, key=by_repository), key=by_repository):
            repository = catalog.repository(name)
            if repository is not None:
                catalog = catalog.with_repository(name.partition("/")[0], _pulled(repository, list(pulls)))
        return catalog

    def finished(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """The answer with the cookies and the number of the request, where Harbor's core made it."""
        return self.sessions.signed(answer, headers) if answer.cookies else answer

    def expire_tokens(self) -> None:
        """Make every registry token issued so far worthless."""
        self.tokens.expire()

    def stop(self) -> None:
        """End listening, every open connection, and whoever waits after a wrong password."""
        self.logins.stopped.set()
        super().stop()


def _pulled(repository: Repository, pulls: list[Pull]) -> Repository:
    latest = {pull.digest: pull.at for pull in pulls}
    artifacts = tuple(
        replace(each, pull_time=max(latest[each.digest], each.pull_time)) if each.digest in latest else each
        for each in repository.artifacts
    )
    return replace(repository, artifacts=artifacts, pull_count=repository.pull_count + len(pulls))


@contextlib.contextmanager
def running(
    store_dir: Path,
    catalog: Catalog | None = None,
    *,
    port: int = 0,
    certificate: tuple[Path, Path] | None = None,
    face: Face = "harbor2",
) -> Iterator[DemoServer]:
    """A server in a thread of this process; without a catalog it holds the sample images.

    `certificate` is (certificate file, key file) and makes it speak HTTPS. At the end, the first failure of
    the server's own code is raised, so that no test mistakes it for a registry that misbehaves.
    """
    blobs = BlobStore(store_dir)
    server = DemoServer(blobs, catalog or images.build(blobs), port=port, certificate=certificate, face=face)
    with serving(server):
        yield server
    raise_first(server.failures)


def main(arguments: list[str] | None = None) -> int:
    """Serve the sample images until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of the blob store")
    parser.add_argument("--announce", type=Path, help="file that gets the server's address")
    parser.add_argument("--face", choices=get_args(Face), default="harbor2", help="which Harbor to be")
    chosen = parser.parse_args(arguments)
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: ended.set())
    with running(chosen.data, port=chosen.port, face=chosen.face) as server:
        announce(server.url, chosen.announce)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
