"""What a demo Tencent account holds: TCR instances in regions, and the personal edition (CCR) in regions.

As with `demo.catalog`, nothing is changed in place: giving the cloud another content
(`cloud.content = cloud.content.with_instance(...)`) is a push, a delete, or somebody at the cloud's console.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from demo.catalog import LONG_AGO, Catalog

Status = Literal[
    "Pending",
    "Deploying",
    "Running",
    "Unhealthy",
    "FailedCreated",
    "FailedUpdated",
    "Bucket-Error",
    "Isolate",
    "Deleting",
    "DeleteBucketFailed",
    "DeleteFailed",
]
"""The states of an instance, as the API documents them; only `Running` is usable."""

Entry = Literal["Opened", "Opening", "Closed"]
"""Whether an instance can be reached from the internet."""


@dataclass(frozen=True, slots=True)
class CloudAccount:
    """The account whose keys sign the calls.

    `uin` is its number and its user name at registries. `personal_password` is the fixed one of the personal
    edition. `denied` are actions that access management (CAM) refuses it.
    """

    uin: str
    secret_id: str
    secret_key: str = field(repr=False)
    personal_password: str = field(repr=False)
    denied: frozenset[str] = frozenset()
    in_arrears: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """One entry of an instance's allowlist for the internet; `network` is an IPv4 network or address."""

    network: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Vpc:
    """A private network that an instance is linked to."""

    id: str
    subnet: str
    status: str = "Running"


@dataclass(frozen=True, slots=True)
class Instance:
    """One TCR registry of the enterprise edition; its namespaces are the projects of `catalog`.

    A new one has its entry closed and no allowlist. The sample instances are open to everybody.
    `token_hours` is how long its long-term tokens hold.
    """

    id: str
    name: str
    region: str
    catalog: Catalog = field(default_factory=Catalog)
    status: Status = "Running"
    type: Literal["basic", "standard", "premium"] = "premium"
    entry: Entry = "Closed"
    allowlist: tuple[Policy, ...] = ()
    networks: tuple[Vpc, ...] = ()
    anonymous: bool = False
    token_hours: int = 87_600
    created: datetime = LONG_AGO
    expires: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Personal:
    """The personal edition of one region; repositories have one level below their namespace.

    `quotas` are how many namespaces, repositories and tags of one image there may be.
    """

    region: str
    catalog: Catalog = field(default_factory=Catalog)
    quotas: Mapping[str, int] = field(default_factory=lambda: {"namespace": 10, "repo": 500, "tag": 100})


@dataclass(frozen=True, slots=True)
class CloudContent:
    """All that one account has in the cloud."""

    account: CloudAccount
    instances: tuple[Instance, ...] = ()
    personal: tuple[Personal, ...] = ()

    def instance(self, instance_id: str) -> Instance | None:
        """The instance of that id, in whatever region."""
        return next((each for each in self.instances if each.id == instance_id), None)

    def with_instance(self, instance: Instance) -> CloudContent:
        """Add an instance, or put it in the place of the one that has its id."""
        if self.instance(instance.id) is None:
            return replace(self, instances=(*self.instances, instance))
        put = tuple(instance if each.id == instance.id else each for each in self.instances)
        return replace(self, instances=put)

    def without_instance(self, instance_id: str) -> CloudContent:
        """Take an instance away with all it holds."""
        return replace(self, instances=tuple(each for each in self.instances if each.id != instance_id))

    def personal_in(self, region: str) -> Personal | None:
        """The personal edition of a region, None where it was never set up."""
        return next((each for each in self.personal if each.region == region), None)

    def with_personal(self, personal: Personal) -> CloudContent:
        """Add or replace the personal edition of a region."""
        others = tuple(each for each in self.personal if each.region != personal.region)
        return replace(self, personal=(*others, personal))
