"""The demo Tencent cloud as a running server: `python -m demo.tencent`, or `running()` inside a test.

The API (TCR and CCR), the registry of each instance and region, and the object storage listen on 127.0.0.1,
each on a port of its own. So the API gives `127.0.0.1:PORT` where the real one gives a domain: `PublicDomain`
of an instance, `InternalEndpoint` and `AccessIp` of a linked one, and `Server` of the personal edition. The
scheme is not in there. In reality it is HTTPS; in the demo it is HTTP unless a certificate is given.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import tencent_samples
from demo.blobs import BlobStore
from demo.catalog import Catalog
from demo.listener import Listener, announce, raise_first, serving
from demo.tencent_api import ApiFace, Called, Limits
from demo.tencent_calls import Call
from demo.tencent_enterprise import Enterprise
from demo.tencent_model import CloudAccount, CloudContent
from demo.tencent_personal import PersonalEdition
from demo.tencent_registry import RegistryFace, Shelf, StorageFace, shelf_of
from demo.tencent_tokens import InstanceTokens

Certificate = tuple[Path, Path]


class Clock:
    """The cloud's clock: the machine's, set `ahead` (or, below zero, behind) by a test, or standing still."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self._stopped_at: datetime | None = None

    def now(self) -> datetime:
        """The time in the cloud."""
        return (self._stopped_at or datetime.now(UTC)) + self.ahead

    def stop(self) -> None:
        """Stand still from now on; `ahead` still moves the time."""
        self._stopped_at = datetime.now(UTC)


class DemoCloud:
    """The whole cloud of one account. `content` may be replaced between any two requests.

    `redirects_blobs` says whether registries send clients to the object storage for blobs. The registries
    begin to listen when somebody first asks where they are.
    """

    def __init__(
        self,
        blobs: BlobStore,
        content: CloudContent,
        *,
        port: int = 0,
        certificate: Certificate | None = None,
        api_certificate: Certificate | None = None,
    ) -> None:
        self.blobs = blobs
        self.content = content
        self.clock = Clock()
        self.redirects_blobs = True
        self.tokens = InstanceTokens(self.clock.now)
        self._certificate = certificate
        self._registries: dict[tuple[str, bool], RegistryFace] = {}
        self._lock = threading.Lock()
        self._running = contextlib.ExitStack()
        enterprise = Enterprise(
            blobs,
            self.tokens,
            public=lambda key: self.registry(key).address,
            private=lambda key: self.registry(key, private=True).address,
        )
        personal = PersonalEdition(blobs, lambda region: self.personal(region).address)
        self._actions = {**enterprise.actions, **personal.actions}
        self.api = ApiFace(
            lambda: self.content.account,
            self._perform,
            self.clock.now,
            port=port,
            certificate=api_certificate,
        )
        self.storage = StorageFace(blobs, self.clock.now, certificate=certificate)
        for listener in (self.api, self.storage):
            self._running.enter_context(serving(listener))

    @property
    def api_url(self) -> str:
        """Where calls are posted to, without a slash at the end."""
        return self.api.url

    @property
    def account(self) -> CloudAccount:
        """The account with its keys, its number and its personal password."""
        return self.content.account

    @property
    def limits(self) -> Limits:
        """The rates of the API; `limits.on = True` enforces them."""
        return self.api.limits

    @property
    def calls(self) -> list[Called]:
        """The calls that came to the API, in order."""
        return self.api.calls

    @property
    def unexpected(self) -> list[str]:
        """Requests to any of the listeners that no right client sends."""
        return [each for listener in self._listeners() for each in listener.unexpected]

    @property
    def failures(self) -> list[BaseException]:
        """Failures of the servers' own code."""
        return [each for listener in self._listeners() for each in listener.failures]

    def registry(self, instance_id: str, *, private: bool = False) -> RegistryFace:
        """The registry of an instance as the internet sees it, or as a linked private network does."""
        return self._face(instance_id, private=private)

    def personal(self, region: str = tencent_samples.PERSONAL_REGION) -> RegistryFace:
        """The registry of the personal edition in a region."""
        return self._face(region, private=False)

    def change(self, instance_id: str, **changes: Any) -> None:
        """Change fields of an instance, such as `status`. Raises LookupError when it is not there."""
        instance = self.content.instance(instance_id)
        if instance is None:
            raise LookupError(f"no such instance: {instance_id}")
        self.content = self.content.with_instance(replace(instance, **changes))

    def expire_tokens(self) -> None:
        """Make every token worthless: those of CreateInstanceToken and those of the registries."""
        self.tokens.expire()
        for registry in list(self._registries.values()):
            registry.expire_tokens()

    def stop(self) -> None:
        """End all listeners."""
        self._running.close()

    def _listeners(self) -> list[Listener]:
        return [self.api, self.storage, *self._registries.values()]

    def _perform(self, call: Call) -> Mapping[str, Any]:
        return self._actions[call.action](self.content, call)

    def _face(self, key: str, *, private: bool) -> RegistryFace:
        """The registry of an instance id or of a region's personal edition, made when first asked for."""
        with self._lock:
            if (key, private) not in self._registries:
                face = RegistryFace(
                    self.blobs,
                    lambda: self._shelf(key, private=private),
                    lambda name, password: self._login(key, name, password),
                    lambda digest: self.storage.signed(digest) if self.redirects_blobs else None,
                    self.clock.now,
                    certificate=self._certificate,
                )
                self._running.enter_context(serving(face))
                self._registries[key, private] = face
            return self._registries[key, private]

    def _shelf(self, key: str, *, private: bool) -> Shelf:
        if key.startswith("tcr-"):
            return shelf_of(self.content.instance(key), private=private)
        personal = self.content.personal_in(key)
        return Shelf(personal.catalog if personal else Catalog(), anonymous=True)

    def _login(self, key: str, name: str, password: str) -> bool:
        account = self.content.account
        if key.startswith("tcr-"):
            return self.tokens.opens(key, name, password)
        right = hmac.compare_digest(password.encode(), account.personal_password.encode())
        return name == account.uin and right


@contextlib.contextmanager
def running(
    store_dir: Path,
    content: CloudContent | None = None,
    *,
    port: int = 0,
    certificate: Certificate | None = None,
    api_certificate: Certificate | None = None,
) -> Iterator[DemoCloud]:
    """A cloud in threads of this process; without a content it holds the samples.

    `certificate` is (certificate file, key file) and makes registries and storage speak HTTPS;
    `api_certificate` does so for the API. At the end, the first failure of the servers' own code is raised.
    """
    blobs = BlobStore(store_dir)
    cloud = DemoCloud(
        blobs,
        content or tencent_samples.build(blobs),
        port=port,
        certificate=certificate,
        api_certificate=api_certificate,
    )
    try:
        yield cloud
    finally:
        cloud.stop()
    raise_first(cloud.failures)


def main(arguments: list[str] | None = None) -> int:
    """Serve the samples until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.tencent", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=0, help="port of the API on 127.0.0.1; 0 takes a free one"
    )
    parser.add_argument("--data", type=Path, required=True, help="directory of the blob store")
    parser.add_argument("--announce", type=Path, help="file that gets the API's address")
    chosen = parser.parse_args(arguments)
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: ended.set())
    with running(chosen.data, port=chosen.port) as cloud:
        announce(cloud.api_url, chosen.announce)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
