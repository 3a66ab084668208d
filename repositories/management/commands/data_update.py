"""``manage.py data_update``: update one registry or all of them, here and now or by the workers."""

import argparse
import time

from django.core.management.base import BaseCommand, CommandError

from repositories import cloud, sync
from repositories.models import CloudAccount, Health, Registry, Sync, SyncTrigger
from repositories.updates import request_each
from tcss.lifecycle import State

_LOOK_SECONDS = 1.0


class Command(BaseCommand):
    """Ask for data updates and show how they go."""

    help = "Update the list of images from one image repository, or from all."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Which registry, and who does the work."""
        parser.add_argument("--registry", metavar="NAME", help="Instance name; all of them without it.")
        parser.add_argument(
            "--here", action="store_true", help="Do the work in this process instead of in a worker."
        )
        parser.add_argument("--no-wait", action="store_true", help="Ask, and do not wait for the end.")

    def handle(self, *_: object, **options: object) -> None:
        """Ask, wait, and say how each ended; fails where one did not succeed."""
        registries = Registry.objects.order_by("name")
        if not options["registry"]:
            self._discover()
        else:
            registries = registries.filter(name__iexact=str(options["registry"]))
            if not registries:
                raise CommandError(f"There is no image repository named {options['registry']}.")
        syncs = request_each(registries, SyncTrigger.COMMAND)
        if not syncs:
            self.stdout.write("There is no image repository yet.")
        for each in syncs:
            if options["here"]:
                sync.run(each.pk)
        if not options["no_wait"]:
            failed = [each for each in syncs if not self._wait(each)]
            if failed:
                raise CommandError(f"{len(failed)} of {len(syncs)} data updates did not succeed.")

    def _discover(self) -> None:
        """Look first which instances the cloud accounts have now."""
        for account in CloudAccount.objects.order_by("pk"):
            cloud.discover(account)
            account.refresh_from_db()
            if account.health == Health.FAILING:
                self.stderr.write(
                    f"{account.secret_id}: {account.health_code}: {account.health_reason} "
                    f"{account.health_remedy}"
                )

    def _wait(self, sync: Sync) -> bool:
        shown = ""
        while True:
            sync.refresh_from_db()
            line = (
                f"{sync.registry.name}: {sync.get_state_display().lower()}, "
                f"{sync.repositories_seen} of {sync.repositories_total} repositories, {sync.tags_seen} images"
            )
            if line != shown:
                self.stdout.write(line)
                shown = line
            if not sync.is_active:
                break
            time.sleep(_LOOK_SECONDS)
        if sync.failure:
            self.stderr.write(f"{sync.failure.code}: {sync.failure.reason} {sync.failure.remedy}")
        return sync.state == State.SUCCEEDED
