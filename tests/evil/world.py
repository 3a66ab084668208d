"""What a console knew before its registry turned evil, and whether it still does."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from images.models import Image
from repositories import sync as data_update
from repositories.models import Registry, Sync, SyncTrigger, Tag
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.harbor_v2 import HarborV2
from repositories.updates import request_sync
from tcss.outbound_sockets import Limits

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
OPERATOR = "operator"
PASSWORD = "good-Password-1"
# The console waits this long for an evil registry where a test has no time for the real limits.
SHORT = Limits(connect=1.0, read=0.3, total=0.6, body=512 * 1024)


def update(registry: Registry, trigger: SyncTrigger = SyncTrigger.MANUAL) -> Sync:
    """Ask for a data update, run it here, and read how it ended."""
    sync = request_sync(registry, trigger)
    data_update.run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def connection(url: str, **fields: Any) -> Connection:
    """A connection to a server of the test's own."""
    words = {"allowed_networks": LOOPBACK, **fields}
    return Connection(url, words.pop("username", OPERATOR), words.pop("password", lambda: PASSWORD), **words)


def lister(url: str, **fields: Any) -> HarborV2:
    """A Harbor 2 adapter that is in a hurry."""
    return HarborV2(connection(url, **fields), limits=SHORT, tries=1)


def puller(url: str, *, limits: Limits = SHORT, tries: int = 1, **fields: Any) -> DistributionClient:
    """A client for content that is in a hurry."""
    return DistributionClient(connection(url, **fields), limits=limits, tries=tries)


@dataclass(frozen=True)
class Known:
    """Every image version a person sees, what it leads to, and the last result of each image."""

    tags: frozenset[tuple[Any, ...]]
    images: tuple[dict[str, Any], ...]


def kept(before: Known) -> bool:
    """Whether everything that was known still is: each image version, and each result of each image."""
    after = known()
    return before.tags <= after.tags and all(image in after.images for image in before.images)


def known() -> Known:
    """What the console knows now."""
    tags = Tag.objects.filter(removed_at=None).values_list(
        "pk", "repository_name", "name", "manifest_digest", "image"
    )
    return Known(frozenset(tags), tuple(Image.objects.order_by("pk").values()))


def marked() -> set[str]:
    """The image versions marked as not in the last data update."""
    return {f"{tag.repository_name}:{tag.name}" for tag in Tag.objects.exclude(missing_since=None)}
