"""The benchmark of data updates as a toy: its registry, its bare client and a real data update."""

import pytest

from bench.bare import measure
from bench.registry import ACCOUNT, PASSWORD, BenchServer, MemoryBlobs, build, cloud
from demo.listener import serving
from repositories import sync as data_update
from repositories.credentials import Secret
from repositories.models import Registry, RegistryVersion, SyncTrigger
from repositories.updates import request_sync
from tcss.lifecycle import State

SIZE = {"projects": 2, "repositories": 3, "artifacts": 2, "tags": 5}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("face", "version"), [("harbor1", RegistryVersion.V1), ("harbor2", RegistryVersion.V2)]
)
def test_the_bare_client_and_the_data_update_read_the_same_registry(
    face: str, version: RegistryVersion
) -> None:
    blobs = MemoryBlobs()
    server = BenchServer(blobs, build(blobs, **SIZE), port=0, face=face)  # type: ignore[arg-type]
    with serving(server):
        _, listing = measure(face, server.url, 2, contents=False)
        _, whole = measure(face, server.url, 2, contents=True)
        registry = Registry.objects.create(
            name="Bench",
            address=server.url,
            username=ACCOUNT,
            password=Secret.of(PASSWORD),
            version=version,
        )
        sync = request_sync(registry, SyncTrigger.COMMAND)
        data_update.run(sync.pk)
    sync.refresh_from_db()
    assert (sync.state, sync.tags_seen, sync.manifests_read) == (State.SUCCEEDED, 30, 12)
    # Projects, repositories of each, artifacts of each; then manifests and configs, and Harbor 1's tokens.
    assert listing == 1 + 2 + 6
    assert whole == listing + 2 * 12 + (6 if face == "harbor1" else 0)


def test_the_bare_client_reads_a_tencent_instance() -> None:
    blobs = MemoryBlobs()
    made = cloud(blobs, build(blobs, **SIZE))
    try:
        _, asked = measure("tcr", made.api_url, 2, contents=True)
    finally:
        made.stop()
    assert asked == 2 + 1 + 2 + 6 + 6 + 2 * 12
