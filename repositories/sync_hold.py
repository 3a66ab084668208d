"""The row of a running data update: its lease, its progress, and whether anybody still wants it."""

import time
from collections.abc import Callable

from django.db import IntegrityError, OperationalError, transaction

from repositories.credentials import Secret
from repositories.models import Registry, Sync
from tcss.lifecycle import LostLeaseError, State, held
from tcss.stopping import heed_the_end

HEARTBEAT_SECONDS = 2.0
# What decides where a request goes and how; a data update that began with other values does not go on.
_SETTINGS = (
    "kind",
    "version",
    "network",
    "region",
    "address",
    "username",
    "password",
    "verify_tls",
    "custom_ca",
    "instance_id",
    "account__site",
    "account__secret_id",
    "account__secret_key",
    "account__personal_username",
    "account__personal_password",
)


class SettingsChangedError(Exception):
    """Somebody has changed how the registry is reached: begin anew with what holds now."""


class Hold:
    """One attempt at a data update, as long as it is ours; used by the one thread that writes."""

    def __init__(self, sync: Sync) -> None:
        self.sync = sync
        # Before the row itself: a change between the two is found out later, never overlooked.
        self._settings = _settings(sync.registry_id)
        self.registry: Registry = Registry.objects.select_related("account").get(pk=sync.registry_id)
        self._last_beat = 0.0
        self.stage = ""
        self.counts = {
            "projects_seen": 0,
            "repositories_total": 0,
            "repositories_seen": 0,
            "tags_seen": 0,
            "tags_new": 0,
            "tags_missing": 0,
            "tags_removed": 0,
            "manifests_read": 0,
        }

    def restart_counts(self) -> None:
        """Count from nothing again."""
        self.counts = dict.fromkeys(self.counts, 0)

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counts that are shown."""
        self.counts[name] += more

    def write(self, change: Callable[[], object]) -> None:
        """Make a change while the data update is ours; otherwise nothing is changed.

        Raises LostLeaseError when it is not ours any more, SettingsChangedError when it is out of date.
        """
        try:
            with transaction.atomic():
                held(Sync.objects.all(), self.sync.pk, self.sync.fence)
                self._check_settings()
                change()
        except (IntegrityError, OperationalError):
            # Rows go under our hands while the registry is deleted.
            mine = Sync.objects.filter(pk=self.sync.pk, state=State.RUNNING, fence=self.sync.fence)
            if mine.exists():
                raise
            raise LostLeaseError(f"data update {self.sync.pk} was deleted") from None

    def beat(self) -> None:
        """Renew the lease, show progress and hear a cancellation or the worker's end, every two seconds."""
        now = time.monotonic()
        if now - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = now
            heed_the_end()
            Sync.objects.heartbeat(self.sync.pk, fence=self.sync.fence, stage=self.stage[:120], **self.counts)
            self._check_settings()

    def _check_settings(self) -> None:
        if _settings(self.sync.registry_id) != self._settings:
            raise SettingsChangedError(f"registry {self.sync.registry_id}")


def _settings(registry_id: int) -> tuple[object, ...] | None:
    """How a registry is reached, None when it is gone."""
    row = Registry.objects.filter(pk=registry_id).values_list(*_SETTINGS).first()
    return row and tuple(value.stored if isinstance(value, Secret) else value for value in row)
