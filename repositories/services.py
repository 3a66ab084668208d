"""What people and jobs change about registries: add, change, delete, and note how the last contact went."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from repositories.models import LOGIN_TRIES, CloudAccount, Health, Registry, Sync, SyncTrigger
from repositories.registries.failures import NoLoginError, RegistryError
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


LEFT_ALONE = (
    "So that the account is not locked, data updates no longer begin by themselves here until somebody saves "
    "the connection or asks for one."
)


def note_health(row: Registry | CloudAccount, error: RegistryError | None) -> None:
    """Keep what the last contact with a registry or a cloud account showed, so that its row can tell."""
    row.health = Health.FAILING if error else Health.HEALTHY
    remedy = error.remedy if error else ""
    if isinstance(row, Registry):
        _count_refusal(row, error)
        remedy = f"{remedy} {LEFT_ALONE}" if error and row.is_left_alone else remedy
    type(row).objects.filter(pk=row.pk).update(
        health=row.health,
        health_code=clean_text(error.code, 32) if error else "",
        health_reason=clean_text(error.reason, 500) if error else "",
        health_remedy=clean_text(remedy, 500),
        health_checked_at=Now(),
    )


def _count_refusal(registry: Registry, error: RegistryError | None) -> None:
    """Count refusals of the password in a row; other trouble tells nothing about it."""
    if error is None:
        registry.refused_logins = 0
        Registry.objects.filter(pk=registry.pk, refused_logins__gt=0).update(refused_logins=0)
    elif error.code == "REG_AUTH" and not isinstance(error, NoLoginError):
        registry.refused_logins += 1
        Registry.objects.filter(pk=registry.pk, refused_logins__lt=LOGIN_TRIES).update(
            refused_logins=F("refused_logins") + 1
        )


def add_registry(registry: Registry, user: AbstractBaseUser | AnonymousUser | None) -> Sync:
    """Save a new registry and ask for its first data update."""
    with transaction.atomic():
        registry.save(force_insert=True)
        return request_sync(registry, SyncTrigger.MANUAL, user)


def change_registry(registry: Registry) -> None:
    """Save what a person may change of a registry; what jobs write meanwhile is left alone."""
    # Whoever saves it has seen to the password.
    registry.refused_logins = 0
    registry.save(update_fields=[*CHANGEABLE, "refused_logins"])


@transaction.atomic
def delete_registry(registry: Registry) -> None:
    """Delete a registry with all that was listed of it; images and their results stay."""
    # A data update's writes hold its row: those under way end first, and the next ones find nothing.
    list(Sync.objects.active().filter(registry=registry).select_for_update())
    # From here on nothing can be added to it either.
    list(Registry.objects.select_for_update().filter(pk=registry.pk).values_list("pk"))
    Registry.objects.filter(pk=registry.pk).delete()
