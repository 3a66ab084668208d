"""One data update in a process of its own, measured: `python -m bench.update FACE URL`."""

import json
import os
import resource
import sys
import time

import django

from bench.registry import ACCOUNT, INSTANCE, PASSWORD, REGION, SECRET_ID

if sys.argv[1:2] == ["tcr"]:
    os.environ["TCSS_TENCENT_ENDPOINT"] = sys.argv[2]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tcss.settings")
django.setup()

from repositories import sync as data_update  # noqa: E402 - Django has to be set up first
from repositories.cloud import discover  # noqa: E402
from repositories.credentials import Secret  # noqa: E402
from repositories.models import CloudAccount, Registry, RegistryVersion, SyncTrigger  # noqa: E402
from repositories.updates import request_sync  # noqa: E402

VERSIONS = {"harbor1": RegistryVersion.V1, "harbor2": RegistryVersion.V2}


def registry_at(face: str, url: str) -> Registry:
    """The registry's row, made with the first update."""
    if face == "tcr":
        account, is_new = CloudAccount.objects.get_or_create(
            secret_id=SECRET_ID, defaults={"secret_key": Secret.of(PASSWORD), "regions": [REGION]}
        )
        if is_new:
            discover(account)
        return Registry.objects.get(instance_id=INSTANCE)
    registry, _ = Registry.objects.get_or_create(
        name="Bench",
        defaults={
            "address": url,
            "username": ACCOUNT,
            "password": Secret.of(PASSWORD),
            "version": VERSIONS[face],
        },
    )
    return registry


def main(face: str, url: str) -> None:
    """Update the registry at an address, and print what it took as JSON."""
    sync = request_sync(registry_at(face, url), SyncTrigger.COMMAND)
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
