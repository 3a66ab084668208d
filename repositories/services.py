"""What people and jobs change about registries: add, change, and note how the last contact went."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models.functions import Now

from repositories.models import CloudAccount, Health, Registry, Sync, SyncTrigger
from repositories.registries.failures import RegistryError
from repositories.updates import request_sync
from tcss.text import clean_text

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


def note_health(row: Registry | CloudAccount, error: RegistryError | None) -> None:
    """Keep what the last contact with a registry or a cloud account showed, so that its row can tell."""
    row.health = Health.FAILING if error else Health.HEALTHY
    type(row).objects.filter(pk=row.pk).update(
        health=row.health,
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
