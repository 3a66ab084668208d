"""What a manifest is, its own content says: no listing that calls it something else hides an image."""

from dataclasses import replace
from pathlib import Path

import pytest
from django.db import connection

from demo import artifacts
from demo.blobs import BlobStore
from demo.catalog import Artifact, Catalog
from demo.faults import Fault
from demo.server import DemoServer
from images.models import ArtifactKind, Manifest
from repositories.models import Registry, Sync, SyncTrigger, Tag
from repositories.registries import client
from repositories.sync import run
from repositories.updates import request_sync
from tcss.lifecycle import State
from tests.demo.small_registry import image

COSIGN_TAG = f"sha256-{'a' * 64}.sig"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def store(demo_content: tuple[Path, Catalog]) -> BlobStore:
    return BlobStore(demo_content[0])


def push(demo: DemoServer, repository: str, artifact: Artifact) -> None:
    demo.catalog = demo.catalog.with_artifact("library", repository, artifact)


def update(registry: Registry) -> Sync:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    run(sync.pk)
    sync.refresh_from_db()
    return sync


def found(name: str) -> tuple[str, bool]:
    """The kind of what a tag points at, and whether it has an image to license and scan."""
    tag = Tag.objects.select_related("manifest").get(name=name)
    return tag.manifest.kind, tag.image is not None


def rows_written() -> dict[str, int]:
    """Rows inserted, changed and deleted in this transaction so far, by table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables")
        return dict(cursor.fetchall())


def nothing_is_left_to_do(demo: DemoServer, registry: Registry) -> bool:
    """Whether another data update reads and changes nothing."""
    demo.requests.clear()
    before = rows_written()
    sync = update(registry)
    changed = {table for table, rows in rows_written().items() if rows != before.get(table)}
    assert changed == {"repositories_sync", "repositories_registry"}
    asked = [seen.path for seen in demo.requests if "/manifests/" in seen.path or "/blobs/" in seen.path]
    return (sync.state, asked, sync.tags_new, sync.manifests_read) == (State.SUCCEEDED, [], 0, 0)


def test_an_image_first_seen_under_a_tag_of_a_signature_is_an_image_once_it_is_tagged_as_one(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    push(demo, "hidden", image(store, COSIGN_TAG, word="hidden as a signature"))
    update(registry)
    assert found(COSIGN_TAG) == (ArtifactKind.SIGNATURE, False)

    push(demo, "shown", image(store, "prod", word="hidden as a signature", day=1))
    update(registry)

    assert found("prod") == (ArtifactKind.IMAGE, True)
    assert Tag.objects.get(name="prod").is_latest
    # The other name is found to be of an image too, and then rests.
    update(registry)
    assert found(COSIGN_TAG) == (ArtifactKind.IMAGE, True)
    assert nothing_is_left_to_do(demo, registry)


def test_a_tag_of_a_signature_that_gets_company_is_one_of_an_image(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    push(demo, "hidden", image(store, COSIGN_TAG, word="renamed"))
    update(registry)
    push(demo, "hidden", image(store, COSIGN_TAG, "prod", word="renamed"))
    update(registry)
    assert found("prod") == found(COSIGN_TAG) == (ArtifactKind.IMAGE, True)
    assert nothing_is_left_to_do(demo, registry)


def test_an_untagged_image_that_an_index_calls_unknown_is_an_image_once_it_is_tagged(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    child = image(store, word="hidden as an attestation")
    index = artifacts.index(store, [replace(child, extra_attrs=None)])
    tagged = image(store, "index", word="only its tag is taken").tags
    push(demo, "hidden", child)
    push(demo, "hidden", replace(index, tags=tagged))
    update(registry)
    assert Manifest.objects.get(digest=child.digest).kind == ArtifactKind.OTHER

    push(demo, "shown", image(store, "prod", word="hidden as an attestation", day=1))
    update(registry)

    assert found("prod") == (ArtifactKind.IMAGE, True)
    assert nothing_is_left_to_do(demo, registry)
    # An index is not shown by what it calls no platform.
    assert found("index") == (ArtifactKind.INDEX, False)


def test_a_platform_first_seen_as_something_else_still_stands_for_its_index(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    child = image(store, word="a platform hidden as an attestation")
    hiding = artifacts.index(store, [replace(child, extra_attrs=None)])
    push(demo, "hidden", child)
    push(demo, "hidden", replace(hiding, tags=image(store, "index", word="only its tag is taken").tags))
    update(registry)
    assert Manifest.objects.get(digest=child.digest).kind == ArtifactKind.OTHER
    push(demo, "shown", child)
    index = artifacts.index(store, [child])
    push(demo, "shown", replace(index, tags=image(store, "prod", word="only its tag is taken").tags))
    # Its platform cannot be read at once, which must not be the end of it.
    demo.faults.add(Fault(match=f"/manifests/{child.digest}", corrupt=True, times=None))
    assert update(registry).state == State.INCOMPLETE
    assert found("prod") == (ArtifactKind.INDEX, False)

    demo.faults.clear()
    update(registry)

    assert found("prod") == (ArtifactKind.INDEX, True)


def test_an_image_first_seen_as_something_else_that_cannot_be_read_is_an_image_with_a_problem(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    hidden = image(store, COSIGN_TAG, word="cannot be read")
    push(demo, "hidden", hidden)
    update(registry)
    push(demo, "shown", image(store, "prod", word="cannot be read", day=1))
    demo.faults.add(Fault(match=f"/manifests/{hidden.digest}", corrupt=True, times=None))

    assert update(registry).state == State.INCOMPLETE

    assert found("prod") == (ArtifactKind.IMAGE, False)
    assert Manifest.objects.get(digest=hidden.digest).error_code == "IMG_DIGEST"
    demo.faults.clear()
    assert update(registry).state == State.SUCCEEDED
    assert found("prod") == (ArtifactKind.IMAGE, True)


def test_a_signature_that_is_listed_as_an_image_is_read_once_and_no_image(
    demo: DemoServer, registry: Registry, store: BlobStore
) -> None:
    signature = artifacts.signature(store, "library/shown", image(store, word="signed"))
    push(demo, "shown", replace(signature, tags=image(store, "prod", word="only its tag is taken").tags))

    update(registry)

    assert found("prod") == (ArtifactKind.SIGNATURE, False)
    assert Manifest.objects.get(digest=signature.digest).is_read
    assert nothing_is_left_to_do(demo, registry)
