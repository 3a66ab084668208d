"""What Celery calls: each task takes ids, asks one function, and returns nothing."""

from celery import shared_task

from repositories import cloud, recovery, removal, sync
from repositories.cloud import DISCOVER, DISCOVER_AND_UPDATE, DISCOVER_TONIGHT
from repositories.models import CloudAccount, SyncTrigger
from repositories.pull_limit import database_now
from repositories.updates import RUN_SYNC, forget_ended, request_all_hinted, request_nightly


@shared_task(name=RUN_SYNC)
def run_sync(sync_pk: int) -> None:
    """A bell: the data update with this key may be waiting."""
    sync.run(int(sync_pk))


@shared_task(name="repositories.reap")
def reap() -> None:
    """A tick: take up what lost workers left and ring for what nobody heard."""
    recovery.reap()


@shared_task(name="repositories.nightly")
def nightly() -> None:
    """A tick: ask for tonight's data updates, if it is night and they have not been asked for."""
    now = database_now()
    cloud.ask_nightly_discovery(now)
    request_nightly(now)


@shared_task(name=DISCOVER)
def discover(account_pk: int) -> None:
    """A bell: list this cloud account's instances."""
    for account in CloudAccount.objects.filter(pk=int(account_pk)):
        cloud.discover(account)


@shared_task(name=DISCOVER_TONIGHT)
def discover_tonight(account_pk: int) -> None:
    """A bell: the same, unless it was done tonight."""
    cloud.discover_tonight(int(account_pk), database_now())


@shared_task(name=DISCOVER_AND_UPDATE)
def discover_and_update(account_pk: int) -> None:
    """A bell: list its instances, and update what was found for the first time."""
    for account in CloudAccount.objects.filter(pk=int(account_pk)):
        cloud.discover_and_update(account, SyncTrigger.MANUAL)


@shared_task(name="repositories.purge")
def purge() -> None:
    """A tick: look again at removals that wait for a person, and forget what ended long ago."""
    removal.review()
    removal.purge()
    forget_ended()


@shared_task(name="repositories.hints")
def hints() -> None:
    """A tick: ask for data updates of what webhooks named a few seconds ago."""
    request_all_hinted()
