"""Asks the console for scans and waits for their end, measured: `python -m bench.scans prepare|scan ...`."""

import argparse
import json
import os
import time

import django

from bench.registry import ACCOUNT, PASSWORD

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tcss.settings")
django.setup()

from django.db.models import Count  # noqa: E402 - Django has to be set up first

from images.models import Image  # noqa: E402
from licensing.services import assign  # noqa: E402
from repositories import sync as data_update  # noqa: E402
from repositories.credentials import Secret  # noqa: E402
from repositories.models import Registry, RegistryVersion, SyncTrigger  # noqa: E402
from repositories.updates import request_sync  # noqa: E402
from scanning.models import Scan, ScanCategory, TaskTrigger  # noqa: E402
from scanning.services import request_scan  # noqa: E402

POLL_SECONDS = 0.05


def prepare(url: str) -> None:
    """Connect the registry, list it, and license everything."""
    registry = Registry.objects.create(
        name="Bench",
        address=url,
        username=ACCOUNT,
        password=Secret.of(PASSWORD),
        version=RegistryVersion.V2,
    )
    sync = request_sync(registry, SyncTrigger.COMMAND)
    data_update.run(sync.pk)
    assign(list(Image.objects.values_list("pk", flat=True)), None)


def scan(categories: list[str]) -> dict[str, object]:
    """Scan all images for these categories; seconds until the last has ended, and how they ended."""
    pks = list(Image.objects.values_list("pk", flat=True))
    began = time.perf_counter()
    task = request_scan(pks, categories, TaskTrigger.COMMAND, None, "benchmark")
    mine = Scan.objects.filter(task_items__task=task)
    while mine.active().exists():
        time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - began
    ends = ScanCategory.objects.filter(scan__in=mine).values("category", "state", "error_code")
    counted = ends.annotate(count=Count("pk")).order_by("category", "state")
    return {
        "seconds": seconds,
        "images": len(pks),
        "ends": [[each["category"], each["state"], each["error_code"], each["count"]] for each in counted],
    }


def main() -> None:
    """Do what was asked, and print what it took as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.scans", description=__doc__)
    parser.add_argument("what", choices=["prepare", "scan"])
    parser.add_argument("words", nargs="+", help="the registry's address, or the categories")
    chosen = parser.parse_args()
    if chosen.what == "prepare":
        prepare(chosen.words[0])
    else:
        print(json.dumps(scan(chosen.words)))


if __name__ == "__main__":
    main()
