"""One data update in a process of its own, measured: `python -m bench.update FACE URL`."""

import json
import os
import resource
import sys
import time

import django

from bench.registry import ACCOUNT, PASSWORD

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tcss.settings")
django.setup()

from repositories import sync as data_update  # noqa: E402 - Django has to be set up first
from repositories.credentials import Secret  # noqa: E402
from repositories.models import Registry, RegistryVersion, SyncTrigger  # noqa: E402
from repositories.updates import request_sync  # noqa: E402

VERSIONS = {"harbor1": RegistryVersion.V1, "harbor2": RegistryVersion.V2}


def main(face: str, url: str) -> None:
    """Update the registry at an address, and print what it took as JSON."""
    registry, _ = Registry.objects.get_or_create(
        name="Bench",
        defaults={
            "address": url,
            "username": ACCOUNT,
            "password": Secret.of(PASSWORD),
            "version": VERSIONS[face],
        },
    )
    sync = request_sync(registry, SyncTrigger.COMMAND)
    began, processor = time.perf_counter(), time.process_time()
    data_update.run(sync.pk)
    wall, processor = time.perf_counter() - began, time.process_time() - processor
    sync.refresh_from_db()
    print(
        json.dumps(
            {
                "state": sync.state,
                "reason": sync.error_reason,
                "tags": sync.tags_seen,
                "seconds": wall,
                "processor_seconds": processor,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
