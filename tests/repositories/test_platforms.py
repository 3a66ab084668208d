"""Images of several platforms: which one stands for all, what a change of that does, and missing ones."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from demo.blobs import BlobStore
from demo.catalog import Artifact, Catalog
from demo.faults import Fault
from demo.server import DemoServer
from images.models import ArtifactKind, Manifest, Platform
from repositories.models import Registry, Sync, SyncTrigger, Tag
from repositories.registries import client
from repositories.registries.protocol import PlatformItem
from repositories.sync import run
from repositories.sync_contents import choose_platform
from repositories.updates import request_sync
from tcss import environment
from tcss.lifecycle import State
from tests.demo.small_registry import image, index

ARM = environment.Platform("linux", "arm64")


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def browser(db: None, client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="long enough to be one"))
    return client


def update(registry: Registry) -> Sync:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    run(sync.pk)
    sync.refresh_from_db()
    registry.refresh_from_db()
    return sync


def index_of(demo: DemoServer) -> Artifact:
    """The demo registry's image of several platforms."""
    place = demo.catalog.repository("library/nginx")
    assert place is not None
    return next(each for each in place.artifacts if each.references)


def child_of(index: Artifact, architecture: str) -> str:
    """The digest of one of its platforms."""
    return next(
        line.digest
        for line in index.references
        if line.platform is not None and line.platform.architecture == architecture
    )


def index_tag() -> Tag:
    tag = Tag.objects.filter(manifest__kind=ArtifactKind.INDEX).select_related("image").first()
    assert tag is not None
    return tag


def platforms(*written: str) -> list[PlatformItem]:
    items = []
    for number, word in enumerate(written):
        named, architecture, variant = [*word.split("/"), ""][:3]
        items.append(PlatformItem(f"sha256:{number:064x}", "", 1, named, architecture, variant))
    return items


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64", "windows/amd64"], 1),
        ("linux/amd64", ["unknown/unknown", "windows/amd64", "linux/arm64"], 2),
        ("linux/amd64", ["windows/amd64", "windows/arm64"], 0),
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], 1),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm/v7", ["linux/amd64", "linux/arm/v6"], 1),
        ("windows/amd64", ["linux/amd64", "windows/arm64"], 1),
    ],
)
def test_the_platform_that_was_set_stands_for_an_index_and_else_the_nearest(
    settings: object, wanted: str, offered: list[str], chosen: int
) -> None:
    settings.PLATFORM = environment.Platform(*wanted.split("/"))  # type: ignore[attr-defined]
    offers = platforms(*offered)
    assert choose_platform(offers) == offers[chosen]


def test_an_index_of_attestations_alone_has_no_platform() -> None:
    assert choose_platform(platforms("unknown/unknown")) is None


@pytest.mark.parametrize("value", ["linux/amd64", "linux/arm/v7", "windows/amd64"])
def test_a_platform_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TCSS_PLATFORM", value)
    assert str(environment.platform("TCSS_PLATFORM", "linux/amd64")) == value


@pytest.mark.parametrize(
    "value", ["linux", "linux/", "/amd64", "Linux/amd64", "a/b/c/d", "linux amd64", "a//b"]
)
def test_what_is_no_platform_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setitem(os.environ, "TCSS_PLATFORM", value)
    with pytest.raises(environment.SettingError, match="TCSS_PLATFORM"):
        environment.platform("TCSS_PLATFORM", "linux/amd64")


def test_a_changed_platform_is_shown_by_the_next_data_update_and_only_what_is_new_is_read(
    demo: DemoServer, registry: Registry, settings: object
) -> None:
    update(registry)
    tag = index_tag()
    assert tag.image is not None
    assert tag.image.architecture == "amd64"
    demo.pulls.clear()

    settings.PLATFORM = ARM  # type: ignore[attr-defined]
    assert update(registry).state == State.SUCCEEDED
    moved = index_tag()
    assert moved.image is not None
    assert (moved.pk, moved.image.architecture) == (tag.pk, "arm64")
    assert [pull.digest for pull in demo.pulls] == [child_of(index_of(demo), "arm64")]
    demo.pulls.clear()

    settings.PLATFORM = environment.Platform("linux", "amd64")  # type: ignore[attr-defined]
    update(registry)
    assert index_tag().image_id == tag.image_id
    assert demo.pulls == []


def test_a_platform_that_an_index_does_not_have_changes_nothing(
    demo: DemoServer, registry: Registry, settings: object
) -> None:
    update(registry)
    before = index_tag().image_id
    demo.pulls.clear()
    settings.PLATFORM = environment.Platform("plan9", "mips")  # type: ignore[attr-defined]
    assert update(registry).state == State.SUCCEEDED
    assert index_tag().image_id == before
    assert demo.pulls == []


def test_a_proxy_cache_without_its_platforms_is_listed_with_the_reason_and_read_when_they_are_there(
    demo: DemoServer, registry: Registry, browser: Client
) -> None:
    several = index_of(demo)
    demo.faults.add(Fault(match=f"/manifests/{child_of(several, 'amd64')}", status=404, times=None))
    sync = update(registry)
    assert (sync.state, sync.error_reason) == (State.SUCCEEDED, "")
    tag = index_tag()
    assert tag.image is None
    page = browser.get(reverse("images:image-detail", args=[tag.pk])).content.decode()
    assert "The registry does not have what was asked for." in page
    assert "REG_NOT_FOUND" in page

    demo.faults.clear()
    assert update(registry).state == State.SUCCEEDED
    assert index_tag().image is not None


def test_an_image_that_a_policy_keeps_back_says_so_itself(
    demo: DemoServer, registry: Registry, browser: Client
) -> None:
    place = demo.catalog.repository("payments/ledger")
    assert place is not None
    blocked = next(each for each in place.artifacts if each.tags and each.type == "IMAGE")
    demo.faults.add(Fault(match=f"/manifests/{blocked.digest}", status=412, times=None))
    assert update(registry).state == State.INCOMPLETE
    tag = Tag.objects.get(manifest_digest=blocked.digest, name=blocked.tags[0].name)
    page = browser.get(reverse("images:image-detail", args=[tag.pk])).content.decode()
    assert "policy of the registry&#x27;s project" in page or "policy of the registry's project" in page
    assert "vulnerability prevention" in page

    demo.faults.clear()
    update(registry)
    tag.refresh_from_db()
    page = browser.get(reverse("images:image-detail", args=[tag.pk])).content.decode()
    assert "vulnerability prevention" not in page
    assert Manifest.objects.get(digest=blocked.digest).is_read


def test_the_details_name_the_other_platforms_and_no_attestation(
    demo: DemoServer, registry: Registry, browser: Client
) -> None:
    update(registry)
    tag = index_tag()
    others = Platform.objects.filter(index=tag.manifest_id).exclude(manifest__image=tag.image_id)
    page = browser.get(reverse("images:image-detail", args=[tag.pk])).content.decode()
    shown = [one for one in others if one.manifest.digest in page]
    assert {one.architecture for one in shown} == {"arm64"}
    assert "linux/arm64" in page
    assert "not read" in page
    assert len(shown) < others.count()


def test_an_index_within_an_index_is_shown_by_the_image_in_it(
    demo: DemoServer, demo_content: tuple[Path, Catalog], registry: Registry
) -> None:
    store = BlobStore(demo_content[0])
    held = image(store, word="within an index")
    inner = index(store, held, tag="inner")
    outer = index(store, inner, tag="outer")
    for artifact in (held, inner, outer):
        demo.catalog = demo.catalog.with_artifact("library", "nested", artifact)
    assert update(registry).state == State.SUCCEEDED
    found = {tag.name: tag.image_id for tag in Tag.objects.filter(repository_name="library/nested")}
    assert found["outer"] is not None
    assert found["outer"] == found["inner"]


def test_an_index_of_which_nothing_is_an_image_says_so_and_is_asked_for_once(
    demo: DemoServer, demo_content: tuple[Path, Catalog], registry: Registry, browser: Client
) -> None:
    empty = index(BlobStore(demo_content[0]), tag="1.0")
    demo.catalog = demo.catalog.with_artifact("library", "empty", empty)
    assert update(registry).state == State.SUCCEEDED
    demo.pulls.clear()
    assert update(registry).state == State.SUCCEEDED
    assert demo.pulls == []
    tag = Tag.objects.get(repository_name="library/empty")
    page = browser.get(reverse("images:image-detail", args=[tag.pk])).content.decode()
    assert "None of its platforms is an image" in page


def test_the_same_index_pushed_again_is_read_once(demo: DemoServer, registry: Registry) -> None:
    update(registry)
    several = index_of(demo)
    demo.catalog = demo.catalog.with_artifact(
        "library",
        "nginx",
        replace(several, tags=(*several.tags, replace(several.tags[0], name="again", id=9))),
    )
    demo.pulls.clear()
    update(registry)
    assert Tag.objects.get(repository_name="library/nginx", name="again").image_id == index_tag().image_id
    assert demo.pulls == []
