"""What people and jobs do with registries: connect, test, add, change, and ask for a data update."""

from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from repositories.credentials import CredentialKeyError
from repositories.models import Health, Registry, RegistryKind, RegistryVersion, Sync, SyncTrigger
from repositories.nights import night_began
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import AccessRefusedError, BadAnswerError, RegistryError
from repositories.registries.harbor_v2 import HarborV2
from repositories.registries.protocol import (
    CheckReport,
    CheckStep,
    PullClient,
    Registry as RegistryAdapter,
    StepState,
)
from tcss.bell import ring
from tcss.lifecycle import ACTIVE, State
from tcss.text import clean_text

RUN_SYNC = "repositories.run_sync"
NO_V1 = "Harbor 1.x (version V1) is not part of this release."
NO_V1_REMEDY = "Connect a Harbor 2.x server with version V2."

CHANGEABLE = [
    "name",
    "kind",
    "version",
    "network",
    "region",
    "address",
    "username",
    "password",
    "hourly_pull_limit",
    "verify_tls",
    "custom_ca",
]

Alive = Callable[[], None]


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


def connection_of(registry: Registry, alive: Alive = _nothing_to_do) -> Connection:
    """A registry's row as the values an adapter takes; ``alive`` is called while it waits and may raise."""
    return Connection(
        address=registry.address,
        username=registry.username,
        password=lambda: _reveal(registry),
        verify_tls=registry.verify_tls,
        custom_ca=registry.custom_ca,
        allowed_networks=tuple(settings.ALLOWED_NETWORKS),
        alive=alive,
    )


def _reveal(registry: Registry) -> str:
    try:
        return str(registry.password.reveal())
    except CredentialKeyError:
        raise AccessRefusedError(
            "REG_AUTH",
            "The stored password cannot be read: it was stored with another key.",
            "Enter the password again, or give the console the key it had (TCSS_FIELD_KEYS).",
        ) from None


def connect(registry: Registry, *, alive: Alive = _nothing_to_do) -> RegistryAdapter:
    """The adapter for listing what a registry holds; BadAnswerError where there is none for its kind."""
    if registry.kind == RegistryKind.HARBOR and registry.version == RegistryVersion.V2:
        return HarborV2(connection_of(registry, alive))
    raise BadAnswerError("REG_PROTOCOL", NO_V1, NO_V1_REMEDY)


def pull_client(registry: Registry, *, alive: Alive = _nothing_to_do) -> PullClient:
    """The client for reading a registry's content by digest."""
    return DistributionClient(connection_of(registry, alive))


def test_connection(registry: Registry) -> CheckReport:
    """Try a registry's connection step by step; the row need not be saved, and is not changed."""
    try:
        return connect(registry).check()
    except RegistryError as error:
        return CheckReport((CheckStep("Address", StepState.FAILED, error.reason, error),))


def note_health(registry: Registry, error: RegistryError | None) -> None:
    """Keep what the last contact with a registry showed, so that its row can tell."""
    registry.health = Health.FAILING if error else Health.HEALTHY
    Registry.objects.filter(pk=registry.pk).update(
        health=registry.health,
        health_code=clean_text(error.code, 32) if error else "",
        health_reason=clean_text(error.reason, 500) if error else "",
        health_remedy=clean_text(error.remedy, 500) if error else "",
        health_checked_at=Now(),
    )


def add_registry(registry: Registry, user: AbstractBaseUser | AnonymousUser | None) -> Sync:
    """Save a new registry and ask for its first data update."""
    with transaction.atomic():
        registry.save(force_insert=True)
        return request_sync(registry, SyncTrigger.MANUAL, user)


def change_registry(registry: Registry) -> None:
    """Save what a person may change of a registry; what jobs write meanwhile is left alone."""
    registry.save(update_fields=CHANGEABLE)


def request_sync(
    registry: Registry, trigger: SyncTrigger, user: AbstractBaseUser | AnonymousUser | None = None
) -> Sync:
    """The registry's data update that waits or runs, or a new one; asking twice is harmless."""
    while True:
        active = Sync.objects.filter(registry=registry, state__in=ACTIVE).first()
        if active is not None:
            return active
        try:
            with transaction.atomic():
                sync = Sync.objects.create(
                    registry=registry,
                    trigger=trigger,
                    requested_by_id=user.pk if user is not None and user.is_authenticated else None,
                )
                ring(RUN_SYNC, sync.pk)
                return sync
        except IntegrityError:
            # Somebody else asked in the same moment; theirs is joined, unless it has ended already.
            continue


def cancel_sync(sync_id: int) -> bool:
    """Ask for a data update to stop; a waiting one ends at once, a running one within seconds."""
    waiting = Sync.objects.filter(pk=sync_id, state=State.QUEUED)
    fences = list(waiting.values_list("fence", flat=True))
    for fence in fences:
        if Sync.objects.advance(sync_id, fence=fence, source=State.QUEUED, target=State.CANCELLED):
            return True
    return Sync.objects.filter(pk=sync_id, state__in=ACTIVE).update(cancel_requested=True) == 1


def cancel_active_sync(registry: Registry) -> bool:
    """Ask for the registry's data update to stop, if one waits or runs."""
    active = Sync.objects.filter(registry=registry).active().values_list("pk", flat=True).first()
    return active is not None and cancel_sync(active)


def request_nightly(now: datetime) -> list[Sync]:
    """Ask for the data update of every registry that has not had tonight's; nothing by day.

    Once a night whatever ticks twice: the registry's row is locked while its updates are looked at.
    """
    began = night_began(now, timezone.get_default_timezone())
    if began is None:
        return []
    asked = []
    for pk in Registry.objects.order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            registry = Registry.objects.select_for_update().filter(pk=pk).first()
            tonights = Sync.objects.filter(registry=pk, trigger=SyncTrigger.NIGHTLY, created_at__gte=began)
            if registry is not None and not tonights.exists():
                sync = request_sync(registry, SyncTrigger.NIGHTLY)
                # One that somebody else asked for is joined; tonight's own follows it.
                if sync.trigger == SyncTrigger.NIGHTLY:
                    asked.append(sync)
    return asked
