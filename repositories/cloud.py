"""Tencent Cloud accounts: which TCR instances and CCR regions they have, as built-in connections."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from repositories.connections import cloud_api
from repositories.credentials import Secret
from repositories.models import CloudAccount, Health, Network, Registry, RegistryKind, SyncTrigger
from repositories.nights import night_at
from repositories.registries.failures import BadAnswerError, NotThereError, RegistryError
from repositories.registries.tencent_api import HOME_REGION, TencentAPI
from repositories.registries.tencent_failures import WrongRegionError, not_running
from repositories.registries.tencent_places import (
    RUNNING,
    home_region,
    list_instances,
    list_regions,
    personal_host,
    vpc_host,
)
from repositories.services import note_health
from repositories.updates import request_each
from tcss.bell import ring
from tcss.outbound_addresses import AddressFormError, parse_origin
from tcss.text import clean_text

log = logging.getLogger(__name__)

DISCOVER = "repositories.discover"
DISCOVER_AND_UPDATE = "repositories.discover_and_update"
DISCOVER_TONIGHT = "repositories.discover_tonight"
GONE = "Tencent Cloud does not list this any more: it was deleted, or the account lost the right to see it."
GONE_REMEDY = "Nothing listed before is lost. If it is gone for good, the connection can be deleted."
_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class _Place:
    """One TCR instance, or CCR in one region: what a built-in connection is made of."""

    kind: RegistryKind
    region: str
    instance_id: str
    name: str
    hosts: dict[Network, str]
    error: RegistryError | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What the row is found by, among those of the account."""
        return self.kind.value, self.region, self.instance_id


@dataclass(slots=True)
class _Found:
    """What was listed, and where the listing came to its end."""

    places: list[_Place] = field(default_factory=list)
    # Kind and region; nothing is known of what others held.
    complete: set[tuple[str, str]] = field(default_factory=set)
    cause: RegistryError | None = None


def discover(account: CloudAccount) -> None:
    """Bring the account's built-in connections up to date: new ones are added, none is ever removed.

    What goes wrong is kept as the account's health; connections that were not listed stay as they are.
    """
    try:
        found = _list(account)
    except RegistryError as error:
        log.warning("A cloud account could not be listed", extra={"account": account.pk, "code": error.code})
        note_health(account, error)
        return
    with transaction.atomic():
        # Two at once would make rows of one place twice.
        if not CloudAccount.objects.select_for_update().filter(pk=account.pk).exists():
            return
        _record(account, found)
        note_health(account, found.cause)
        # The key was good; what asks with it need not be left alone any more.
        account.registries.filter(refused_logins__gt=0, kind=RegistryKind.TCR).update(refused_logins=0)
        CloudAccount.objects.filter(pk=account.pk).update(discovered_at=Now())
    log.info("A cloud account was listed", extra={"account": account.pk, "found": len(found.places)})


def _list(account: CloudAccount) -> _Found:
    """Every place of the account; raises RegistryError where nothing can be listed."""
    api, found = cloud_api(account), _Found()
    known = list_regions(api, home_region(next(iter(account.regions), HOME_REGION)))
    # An ordinary account is not known in the finance regions, so they are looked in only where named.
    wanted = account.regions or [region for region in known if not region.endswith("-fsi")]
    hosts: set[str] = set()
    # Regions of the mainland share one personal edition, which is Guangzhou's.
    for region in sorted(wanted, key=lambda name: (name != HOME_REGION, name)):
        if region not in known:
            reason = f"TCR is not available in the region {clean_text(region, 32)}."
            found.cause = found.cause or WrongRegionError("REG_NOT_FOUND", reason)
            continue
        for kind, places in (
            (RegistryKind.TCR, _instances(api, region)),
            (RegistryKind.CCR, _personal(api, region, hosts)),
        ):
            try:
                found.places.extend(places)
                found.complete.add((kind.value, region))
            except RegistryError as error:
                if not _is_local(error):
                    raise
                found.cause = found.cause or error
    return found


def _is_local(error: RegistryError) -> bool:
    """Whether other regions, or the other edition, may still answer."""
    was_answered = error.status is not None or isinstance(error, BadAnswerError)
    return was_answered and error.code != "REG_AUTH"


def _instances(api: TencentAPI, region: str) -> Iterator[_Place]:
    for instance in list_instances(api, region):
        yield _Place(
            kind=RegistryKind.TCR,
            region=region,
            instance_id=instance.id,
            name=f"tcr {clean_text(instance.name, 50) or instance.id}",
            hosts={Network.PUBLIC: instance.domain, Network.VPC: vpc_host(instance)},
            error=None if instance.status == RUNNING else not_running(instance.status),
        )


def _personal(api: TencentAPI, region: str, hosts: set[str]) -> Iterator[_Place]:
    host = personal_host(api, region)
    if host is not None and host not in hosts:
        hosts.add(host)
        yield _Place(
            kind=RegistryKind.CCR,
            region=region,
            instance_id="",
            name=f"ccr {region}",
            hosts={Network.PUBLIC: host, Network.VPC: host},
        )


def _record(account: CloudAccount, found: _Found) -> None:
    """Write what was found; the account's row is locked."""
    rows = {(row.kind, row.region, row.instance_id): row for row in account.registries.all()}
    for place in found.places:
        row = rows.pop(place.key, None)
        if row is not None and is_gone(row):
            # It is back; whether it can be used is not known yet.
            Registry.objects.filter(pk=row.pk).update(
                gone_since=None, health=Health.UNKNOWN, health_code="", health_reason="", health_remedy=""
            )
        network = Network(row.network) if row else Network.PUBLIC
        address = _address(place.hosts[network])
        if not address:
            found.cause = found.cause or BadAnswerError(
                "REG_PROTOCOL", "Tencent Cloud names a host for a registry that is no host name."
            )
            continue
        row = row or _new_row(account, place, address)
        if row.address != address:
            # Somebody may have switched the network meanwhile; then this is the host of the other one.
            Registry.objects.filter(pk=row.pk, network=network).update(address=address)
        if place.error:
            note_health(row, place.error)
    gone = NotThereError("REG_NOT_FOUND", GONE, GONE_REMEDY)
    for (kind, region, _), row in rows.items():
        if (kind, region) in found.complete:
            Registry.objects.filter(pk=row.pk, gone_since=None).update(gone_since=Now())
            note_health(row, gone)


def _address(host: str) -> str:
    """The origin of a host; the scheme of an own API holds for its registries too. Empty for nonsense."""
    scheme = settings.TENCENT_ENDPOINT.partition("://")[0] or "https"
    try:
        return str(parse_origin(f"{scheme}://{host}"))
    except AddressFormError:
        return ""


def _new_row(account: CloudAccount, place: _Place, address: str) -> Registry:
    row = Registry(
        name=_free_name(place.name),
        kind=place.kind,
        network=Network.PUBLIC,
        region=place.region,
        address=address,
        username="",
        account=account,
        instance_id=place.instance_id,
    )
    row.password = Secret.of("")
    row.save(force_insert=True)
    return row


def _free_name(wanted: str) -> str:
    """``wanted``, or with a number behind it where somebody has that name already."""
    for number in count(1):
        ending = f" {number}" if number > 1 else ""
        name = f"{wanted[: _NAME_LENGTH - len(ending)]}{ending}"
        if not Registry.objects.filter(name__iexact=name).exists():
            return name
    raise AssertionError("the numbers do not end")


def ask_discovery(account: CloudAccount) -> None:
    """Let a worker bring the account's connections up to date, after the current transaction."""
    ring(DISCOVER, account.pk)


def account_changed(account: CloudAccount) -> None:
    """Somebody has seen to the account: what was left alone for refused logins is asked again."""
    account.registries.filter(refused_logins__gt=0).update(refused_logins=0)
    ask_discovery(account)


def ask_update_of_built_in() -> None:
    """Let a worker do the same for every account, and update what was found for the first time."""
    for account in CloudAccount.objects.order_by("pk"):
        ring(DISCOVER_AND_UPDATE, account.pk)


def discover_and_update(account: CloudAccount, trigger: SyncTrigger) -> list[Registry]:
    """List an account's places, then ask for the data update of those that were not there before."""
    before = set(account.registries.values_list("pk", flat=True))
    discover(account)
    new = list(account.registries.exclude(pk__in=before).order_by("name"))
    request_each(new, trigger)
    return new


def ask_nightly_discovery(now: datetime) -> None:
    """Once a night, before the data updates find them changed: let every account be listed."""
    for account in _due_tonight(now):
        ring(DISCOVER_TONIGHT, account.pk)


def discover_tonight(account_pk: int, now: datetime) -> None:
    """List an account, unless that was done tonight: every minute a bell was rung while this one waited."""
    for account in _due_tonight(now).filter(pk=account_pk):
        discover(account)


def _due_tonight(now: datetime) -> QuerySet[CloudAccount]:
    """The accounts that nobody has tried to list since the night began; none by day."""
    night = night_at(now, timezone.get_default_timezone())
    if night is None:
        return CloudAccount.objects.none()
    due = Q(health_checked_at=None) | Q(health_checked_at__lt=night.began)
    return CloudAccount.objects.filter(due).order_by("pk")


def is_gone(registry: Registry) -> bool:
    """Whether the account does not have this instance any more, so that the connection may be deleted."""
    return registry.gone_since is not None


def change_built_in(registry: Registry, limit: int | None, network: Network) -> None:
    """Change what a person may change of a built-in connection."""
    Registry.objects.filter(pk=registry.pk).update(hourly_pull_limit=limit)
    switch_network(registry, network)


def switch_network(registry: Registry, network: Network) -> None:
    """Reach a TCR instance from now on by the other network; discovery confirms the address.

    Nothing is done where it is reached by that network already: the form of its name does not show which host
    it has, and one ending less is the host of another customer.
    """
    with transaction.atomic():
        row = Registry.objects.select_for_update().filter(pk=registry.pk).exclude(network=network).first()
        if row is None:
            return
        Registry.objects.filter(pk=row.pk).update(network=network, address=_in_network(row.address, network))
        if registry.account is not None:
            ask_discovery(registry.account)


def _in_network(address: str, network: Network) -> str:
    """The address in ``network`` of an instance that has this one in the other, by the naming rule of TCR.

    It is ``name.domain`` outside and ``name-vpc.domain`` inside. What breaks it is left to discovery.
    """
    scheme, _, host = address.partition("://")
    name, dot, domain = host.partition(".")
    if not dot or name.isdecimal():
        return address
    if network == Network.VPC:
        return f"{scheme}://{name}-vpc.{domain}"
    return f"{scheme}://{name.removesuffix('-vpc')}.{domain}"


def regions_of(words: Iterable[str]) -> list[str]:
    """Region names in their order, each once."""
    return list(dict.fromkeys(word for word in words if word))
