"""``manage.py demo``: connect the demo registries, list them, license and scan their images, tell of it."""

import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from images.models import NEVER, Image, ScanStatus
from licensing.services import assign
from repositories.cloud import discover
from repositories.credentials import Secret
from repositories.models import CloudAccount, Health, Registry, Sync, SyncTrigger, Tag
from repositories.updates import request_sync
from scanning.models import Category, TaskTrigger
from scanning.progress import Totals, totals_of
from scanning.services import request_scan
from tcss import environment
from tcss.environment import SettingError
from tcss.lifecycle import ACTIVE, State

NAME = "Demo registry"
ACCOUNT = "robot$scanner"
CLOUD_SECRET_ID = "AKIDdemo"  # noqa: S105 - the name of a key, not the key
CLOUD_USER = "100000000001"
CLOUD_REGIONS = ("ap-guangzhou", "ap-singapore")
CATEGORIES = tuple(Category)
_LOOK_SECONDS = 0.5
_BAR_WIDTH = 30
# Never set: between two looks at the tables there is nothing else to wait for.
_PAUSE = threading.Event()

_Seen = TypeVar("_Seen")


class Command(BaseCommand):
    """Everything an operator would click to get from an empty console to scanned images."""

    help = "Connect the demo registries, run a data update, license their images and scan them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where the demo registry listens; its secret is DEMO_ROBOT_SECRET, or in DEMO_ROBOT_SECRET_FILE."""
        parser.add_argument("--registry", "--registry-url", dest="address", required=True, metavar="URL")
        parser.add_argument(
            "--cloud",
            action="store_true",
            help="also the demo Tencent cloud, which TCSS_TENCENT_ENDPOINT leads to; its secrets are "
            "DEMO_TENCENT_SECRET_KEY and DEMO_TENCENT_PASSWORD",
        )
        parser.add_argument(
            "--seconds", type=int, default=180, help="give up after so long (default %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Do it step by step; every step may have been done by an earlier start."""
        self._deadline = time.monotonic() + options["seconds"]
        registries = [self._connect(options["address"].rstrip("/"))]
        if options["cloud"]:
            registries += self._connect_cloud()
        for registry in registries:
            self._update(registry)
        tags = Tag.objects.visible().filter(registry__in=registries)
        keys = tags.exclude(image=None).values_list("image_id", flat=True).distinct()
        images = sorted(key for key in keys if key is not None)
        assigned = assign(images, None)
        self.stdout.write(
            f"Licensed {len(assigned.licensed)} images, {len(assigned.already)} had a license already."
        )
        if assigned.refused:
            self.stdout.write(
                self.style.WARNING(f"{len(assigned.refused)} images got no license: none is left.")
            )
        self._scan(images)
        self._tell(registries)

    def _connect(self, address: str) -> Registry:
        secret = _secret("DEMO_ROBOT_SECRET", f"the password of the demo registry's account {ACCOUNT}")
        registry = Registry.objects.filter(name=NAME).first() or Registry(name=NAME)
        # The port changes where the last one was taken.
        registry.address, registry.username = address, ACCOUNT
        registry.password = secret
        registry.save()
        self.stdout.write(f"Connected {NAME} at {address}.")
        return registry

    def _connect_cloud(self) -> list[Registry]:
        account = CloudAccount.objects.filter(secret_id=CLOUD_SECRET_ID).first() or CloudAccount(
            secret_id=CLOUD_SECRET_ID
        )
        account.secret_key = _secret("DEMO_TENCENT_SECRET_KEY", "the key of the demo cloud's account")
        account.personal_username = CLOUD_USER
        account.personal_password = _secret("DEMO_TENCENT_PASSWORD", "the account's password at CCR")
        account.regions = list(CLOUD_REGIONS)
        account.save()
        discover(account)
        account.refresh_from_db()
        if account.health == Health.FAILING:
            raise CommandError(
                f"The demo cloud cannot be listed: {account.health_code} {account.health_reason} "
                f"{account.health_remedy}"
            )
        registries = list(account.registries.order_by("name"))
        for registry in registries:
            self.stdout.write(f"Connected {registry.name} at {registry.address}.")
        return registries

    def _update(self, registry: Registry) -> None:
        sync = request_sync(registry, SyncTrigger.COMMAND)

        def look() -> Sync:
            sync.refresh_from_db()
            return sync

        self._wait(
            look,
            lambda seen: seen.state not in ACTIVE,
            lambda seen: (
                f"Data update of {registry.name}: {seen.repositories_seen} of {seen.repositories_total} "
                f"repositories, {seen.tags_seen} tags"
            ),
        )
        if sync.state != State.SUCCEEDED:
            raise CommandError(
                f"The data update ended as {sync.get_state_display().lower()}: {sync.error_code} "
                f"{sync.error_reason} {sync.error_remedy}"
            )

    def _scan(self, images: list[int]) -> None:
        waiting = Image.objects.filter(pk__in=images, is_licensed=True).exclude(
            scan_status=ScanStatus.SCANNED
        )
        pks = list(waiting.values_list("pk", flat=True))
        if not pks:
            self.stdout.write("Every image has been scanned.")
            return
        task = request_scan(pks, CATEGORIES, TaskTrigger.COMMAND, None, "Every image of the demo registries")
        self._wait(lambda: totals_of([task])[task.pk], lambda seen: seen.is_over, _scan_line)

    def _wait(
        self, look: Callable[[], _Seen], is_over: Callable[[_Seen], bool], line: Callable[[_Seen], str]
    ) -> None:
        """Show each new line until it is over; raises CommandError when that takes too long."""
        shown = ""
        while True:
            seen = look()
            if line(seen) != shown:
                shown = line(seen)
                self.stdout.write(shown)
                self.stdout.flush()
            if is_over(seen):
                return
            if time.monotonic() > self._deadline:
                raise CommandError(f"This took too long and goes on in the background. Last seen: {shown}")
            _PAUSE.wait(_LOOK_SECONDS)

    def _tell(self, registries: list[Registry]) -> None:
        not_over = 0
        for registry in registries:
            self.stdout.write("")
            self.stdout.write(
                f"{registry.name:<44}{'Status':<16}{'Crit':>5}{'High':>6}{'Med':>5}{'Low':>5}{'Secrets':>9}"
            )
            tags = (
                Tag.objects.visible()
                .filter(registry=registry)
                .exclude(image=None)
                .select_related("image")
                .order_by("repository_name", "name")
            )
            for tag in tags:
                if tag.image is None:
                    continue
                self.stdout.write(_row(f"{tag.repository_name}:{tag.name}", tag.image))
                not_over += tag.image.scan_status in {ScanStatus.NOT_SCANNED, ScanStatus.SCANNING}
        if not_over:
            raise CommandError(f"{not_over} images have not been scanned.")


def _secret(variable: str, what: str) -> Secret:
    """The secret in a variable, or in the file that another one names; raises CommandError."""
    try:
        return Secret.of(environment.secret(variable))
    except SettingError as error:
        raise CommandError(f"{error}. It is {what}.") from error


def _scan_line(totals: Totals) -> str:
    done = round(_BAR_WIDTH * totals.percent / 100)
    bar = "#" * done + "." * (_BAR_WIDTH - done)
    return f"Scanning [{bar}] {totals.ended} of {totals.scans} images"


def _row(name: str, image: Image) -> str:
    status = ScanStatus(image.scan_status).label
    if image.last_scanned_at == NEVER:
        return f"{name:<44}{status:<16}{image.error_code} {image.error_reason}"
    counts = f"{image.critical_count:>5}{image.high_count:>6}{image.medium_count:>5}{image.low_count:>5}"
    return f"{name:<44}{status:<16}{counts}{image.sensitive_count:>9}"
