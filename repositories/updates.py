"""Asks for data updates, by hand or every night, and for their end."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from repositories import hints
from repositories.listing import last_of_each
from repositories.models import LOGIN_TRIES, Registry, Sync, SyncTrigger
from repositories.nights import Night, night_at
from tcss.bell import ring
from tcss.lifecycle import ACTIVE, State

RUN_SYNC = "repositories.run_sync"
# What ended is shown for so long.
KEPT = timedelta(days=30)
# A tick deletes a bounded number of rows; what is left waits for the next.
_BATCH = 10_000


def request_sync(
    registry: Registry, trigger: SyncTrigger, user: AbstractBaseUser | AnonymousUser | None = None
) -> Sync:
    """The registry's data update that waits or runs, or a new one; asking twice is harmless.

    One that was to list only what webhooks named goes on to list everything. Where a person asks, the end of
    the night does not cut it, and one that is stopping does not count. Raises Registry.DoesNotExist when the
    registry is deleted meanwhile.
    """
    requested_by_id = user.pk if user is not None and user.is_authenticated else None
    by_hand = trigger in {SyncTrigger.MANUAL, SyncTrigger.COMMAND}
    if by_hand:
        Registry.objects.filter(pk=registry.pk, refused_logins__gt=0).update(refused_logins=0)
    while True:
        active = Sync.objects.filter(registry=registry, state__in=ACTIVE).first()
        if active is not None and by_hand and active.cancel_requested:
            _end_stopping(active)
            continue
        if active is not None and not active.is_partial:
            if by_hand and active.stop_at is not None:
                Sync.objects.filter(pk=active.pk, state__in=ACTIVE).update(stop_at=None)
            return active
        try:
            with transaction.atomic():
                if active is None:
                    sync = Sync.objects.create(
                        registry=registry, trigger=trigger, requested_by_id=requested_by_id
                    )
                    ring(RUN_SYNC, sync.pk)
                    return sync
                # Where this changes nothing it has just ended, or somebody else has widened it.
                Sync.objects.filter(pk=active.pk, state__in=ACTIVE, is_partial=True).update(
                    is_partial=False, trigger=trigger, requested_by_id=requested_by_id
                )
        except IntegrityError:
            # Somebody else asked in the same moment; theirs is joined, unless it has ended already. Or the
            # registry or the person was deleted, which the database says only at the end.
            requested_by_id = _who_asks(registry, requested_by_id)


def _who_asks(registry: Registry, user_id: int | None) -> int | None:
    """The key of the person who asks, None where it is gone; raises Registry.DoesNotExist."""
    if not Registry.objects.filter(pk=registry.pk).exists():
        raise Registry.DoesNotExist(f"registry {registry.pk} was deleted")
    is_there = user_id is not None and get_user_model().objects.filter(pk=user_id).exists()
    return user_id if is_there else None


def request_each(
    registries: Iterable[Registry], trigger: SyncTrigger, user: AbstractBaseUser | AnonymousUser | None = None
) -> list[Sync]:
    """The same for each of these registries; one that is deleted meanwhile is passed over."""
    syncs = []
    for registry in registries:
        try:
            syncs.append(request_sync(registry, trigger, user))
        except Registry.DoesNotExist:
            continue
    return syncs


def _end_stopping(sync: Sync) -> None:
    """End at once what was told to stop; its worker's fence no longer holds."""
    source = State(sync.state)
    Sync.objects.advance(sync.pk, fence=sync.fence, source=source, target=State.CANCELLED, stage="")


def request_hinted(registry: Registry) -> Sync | None:
    """A data update of what webhooks named, if it is time for one (repositories.hints); None otherwise.

    Where names were dropped it is one of the whole registry; hints wait until one of these came through.
    """
    if registry.is_left_alone or not hints.is_due(registry):
        return None
    is_partial = not hints.names_were_dropped(registry)
    if not is_partial and not hints.whole_is_due(registry):
        return None
    try:
        with transaction.atomic():
            sync = Sync.objects.create(registry=registry, trigger=SyncTrigger.WEBHOOK, is_partial=is_partial)
            ring(RUN_SYNC, sync.pk)
            return sync
    except IntegrityError:
        # Somebody asked in the same moment; the hints wait for the next tick.
        return None


def request_all_hinted() -> list[Sync]:
    """Ask for the data update of every registry whose webhooks named something that is due."""
    hints.forget_old()
    asked = [request_hinted(registry) for registry in hints.hinted_registries()]
    return [sync for sync in asked if sync is not None]


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


def forget_ended() -> int:
    """Delete data updates that ended long ago, but for those that still tell something; how many went."""
    complete = Sync.objects.filter(is_complete=True, started_at__isnull=False)
    last = Q(pk__in=last_of_each(Sync.objects.filter(is_partial=False))) | Q(pk__in=last_of_each(complete))
    old = Sync.objects.filter(finished_at__lt=Now() - KEPT).exclude(last)
    return Sync.objects.filter(
        pk__in=list(old.order_by("pk").values_list("pk", flat=True)[:_BATCH])
    ).delete()[0]


def request_nightly(now: datetime) -> list[Sync]:
    """Ask for tonight's data update of every registry whose moment has come; nothing by day.

    Once a night whatever ticks, restarts or strikes twice: an update bears its night's date, and the database
    keeps two of one registry from bearing the same.
    """
    night = night_at(now, timezone.get_default_timezone())
    if night is None:
        return []
    tonights = Sync.objects.filter(registry=OuterRef("pk"), night=night.date)
    asked_for = Registry.objects.filter(refused_logins__lt=LOGIN_TRIES)
    waiting = asked_for.filter(~Exists(tonights)).order_by("pk").values_list("pk", flat=True)
    asked = [_request_tonights(pk, night) for pk in waiting if night.moment_of(pk) <= now]
    return [sync for sync in asked if sync is not None]


def _request_tonights(registry_pk: int, night: Night) -> Sync | None:
    """Tonight's data update of a registry: the whole one under way, which counts as it, or a new one.

    None where somebody was quicker, and while one is under way that cannot count: it is stopping, or it is an
    earlier night's.
    """
    mine = Sync.objects.filter(registry=registry_pk)
    countable = mine.filter(state__in=ACTIVE, night=None, cancel_requested=False)
    while Registry.objects.filter(pk=registry_pk).exists() and not mine.filter(night=night.date).exists():
        try:
            with transaction.atomic():
                # What webhooks asked for goes on to list everything, within the night like any other.
                countable.filter(is_partial=True).update(
                    is_partial=False, trigger=SyncTrigger.NIGHTLY, night=night.date, stop_at=night.ends
                )
                # A person's goes on past the end of the night: it was asked for.
                countable.update(night=night.date)
                if mine.active().exists():
                    return mine.active().filter(night=night.date).first()
                sync = Sync.objects.create(
                    registry_id=registry_pk,
                    trigger=SyncTrigger.NIGHTLY,
                    night=night.date,
                    stop_at=night.ends,
                )
                ring(RUN_SYNC, sync.pk)
                return sync
        except IntegrityError:
            # Somebody asked in the same moment, or the registry was deleted.
            continue
    return None
