"""Images that a registry no longer lists: when they are removed, held back, hidden, and deleted."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from images.listing import Listing, shown
from images.models import Image
from images.selection import select
from licensing.listing import usage
from repositories import tasks
from repositories.listing import holdings, registry_rows
from repositories.models import Registry, Repository, Sync, SyncTrigger, Tag
from repositories.removal import MoreIsHeldError, RemovalOutcome, confirm_removal, purge, review, settle
from scanning.contents import UnusableContentError
from scanning.forms import read_choice
from scanning.models import Scan
from scanning.progress import names_of
from scanning.services import scannable_images
from scanning.sources import sources_of
from tcss.lifecycle import State
from tests.images import shelf

pytestmark = pytest.mark.django_db


def logged_in(role: str) -> Client:
    user = User.objects.create_user(role.lower())
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer() -> Client:
    return logged_in("Viewer")


@pytest.fixture
def operator() -> Client:
    return logged_in("Operator")


@pytest.fixture
def registry() -> Registry:
    return shelf.registry()


@pytest.fixture
def tags(registry: Registry) -> list[Tag]:
    """Ten image versions with an image each."""
    return [shelf.tag(registry, f"v{number}", content=shelf.image(f"{number}")) for number in range(10)]


def complete_update(
    registry: Registry, *, missed: Iterable[Tag] = (), hours_ago: float = 0
) -> RemovalOutcome:
    """A complete data update of so long ago that saw all image versions but these."""
    moment = timezone.now() - timedelta(hours=hours_ago)
    keys = [tag.pk for tag in missed]
    mine = Tag.objects.filter(registry=registry)
    mine.exclude(pk__in=keys).update(missing_since=None, absent_at=None, removed_at=None)
    mine.filter(pk__in=keys, missing_since=None).update(missing_since=moment)
    sync = Sync.objects.create(
        registry=registry,
        trigger=SyncTrigger.MANUAL,
        state=State.SUCCEEDED,
        started_at=moment,
        is_complete=True,
    )
    before = set(mine.filter(absent_at=None).values_list("pk", flat=True))
    outcome = settle(registry, sync.pk)
    # What settle writes now was written then.
    mine.filter(pk__in=before, absent_at__isnull=False).update(absent_at=moment)
    registry.refresh_from_db()
    return outcome


def removed(registry: Registry) -> set[int]:
    return set(Tag.objects.filter(registry=registry, removed_at__isnull=False).values_list("pk", flat=True))


def test_one_complete_data_update_removes_nothing(registry: Registry, tags: list[Tag]) -> None:
    assert complete_update(registry, missed=tags[:1]) == RemovalOutcome(0, 0)
    tags[0].refresh_from_db()
    assert tags[0].absent_at is not None
    assert tags[0].removed_at is None


def test_two_complete_data_updates_an_hour_apart_remove_what_both_missed(
    registry: Registry, tags: list[Tag]
) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=3)
    assert complete_update(registry, missed=tags[:2]) == RemovalOutcome(1, 0)
    assert removed(registry) == {tags[0].pk}


def test_two_within_the_hour_remove_nothing(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=0.9)
    assert complete_update(registry, missed=tags[:1]) == RemovalOutcome(0, 0)
    assert removed(registry) == set()


def test_the_hour_is_between_the_listings_not_between_their_ends(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=2)
    long = Sync.objects.create(
        registry=registry, trigger=SyncTrigger.MANUAL, started_at=timezone.now() - timedelta(hours=1.5)
    )
    assert settle(registry, long.pk) == RemovalOutcome(0, 0)


def test_one_that_was_seen_in_between_begins_anew(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=5)
    complete_update(registry, hours_ago=3)
    assert complete_update(registry, missed=tags[:1]) == RemovalOutcome(0, 0)


def test_what_is_only_marked_as_missing_was_not_missed_by_a_complete_one(
    registry: Registry, tags: list[Tag]
) -> None:
    # Data updates that were not complete mark it for days.
    Tag.objects.filter(pk=tags[0].pk).update(missing_since=timezone.now() - timedelta(days=3))
    assert complete_update(registry, missed=tags[:1]) == RemovalOutcome(0, 0)
    assert removed(registry) == set()


def test_a_fifth_may_go_and_no_more(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:2], hours_ago=2)
    assert complete_update(registry, missed=tags[:2]) == RemovalOutcome(2, 0)
    # Two of the eight that are left are a quarter.
    complete_update(registry, missed=tags[:4], hours_ago=2)
    assert complete_update(registry, missed=tags[:4]) == RemovalOutcome(0, 2)
    assert removed(registry) == {tag.pk for tag in tags[:2]}


def test_those_that_are_not_due_count_too(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=2)
    assert complete_update(registry, missed=tags[:3]) == RemovalOutcome(0, 3)
    assert removed(registry) == set()
    assert (registry.removal_held_count, registry.removal_held_since is not None) == (3, True)


def test_what_is_held_says_since_when(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:3], hours_ago=2)
    since = registry.removal_held_since
    complete_update(registry, missed=tags[:5])
    assert (registry.removal_held_since, registry.removal_held_count) == (since, 5)


def test_another_registrys_images_do_not_count(registry: Registry, tags: list[Tag]) -> None:
    other = shelf.registry("other")
    for number in range(100):
        shelf.tag(other, f"v{number}")
    complete_update(registry, missed=tags[:3], hours_ago=2)
    assert complete_update(registry, missed=tags[:3]) == RemovalOutcome(0, 3)
    assert removed(other) == set()


def test_images_that_came_back_end_the_wait(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:5], hours_ago=2)
    assert complete_update(registry) == RemovalOutcome(0, 0)
    assert (registry.removal_held_since, registry.removal_held_count) == (None, 0)


def test_images_that_an_incomplete_data_update_saw_again_end_the_wait(
    registry: Registry, tags: list[Tag]
) -> None:
    complete_update(registry, missed=tags[:5])
    Tag.objects.filter(pk__in=[tag.pk for tag in tags[1:]]).update(missing_since=None, absent_at=None)
    review()
    registry.refresh_from_db()
    assert (registry.removal_held_since, registry.removal_held_count) == (None, 0)


def test_a_person_confirms_what_was_held(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:5], hours_ago=2)
    complete_update(registry, missed=tags[:5])
    assert confirm_removal(registry, None, shown=5) == RemovalOutcome(5, 0)
    assert removed(registry) == {tag.pk for tag in tags[:5]}
    registry.refresh_from_db()
    assert registry.removal_held_since is None
    assert confirm_removal(registry, None, shown=5) == RemovalOutcome(0, 0)


def test_a_confirmation_removes_nothing_that_one_listing_alone_has_missed(
    registry: Registry, tags: list[Tag]
) -> None:
    complete_update(registry, missed=tags[:5], hours_ago=2)
    # Time alone is no second listing.
    assert confirm_removal(registry, None, shown=5) == RemovalOutcome(0, 5)
    complete_update(registry, missed=tags[:8])
    assert confirm_removal(registry, None, shown=8) == RemovalOutcome(5, 3)
    assert removed(registry) == {tag.pk for tag in tags[:5]}


def test_more_than_the_person_was_shown_is_not_removed(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:3], hours_ago=2)
    complete_update(registry, missed=tags[:3])
    # One that was not complete has missed more since.
    Tag.objects.filter(pk__in=[tag.pk for tag in tags[3:9]]).update(missing_since=timezone.now())
    with pytest.raises(MoreIsHeldError) as caught:
        confirm_removal(registry, None, shown=3)
    assert caught.value.held == 9
    assert removed(registry) == set()
    registry.refresh_from_db()
    assert registry.removal_held_count == 9
    assert confirm_removal(registry, None, shown=9) == RemovalOutcome(3, 6)


@pytest.mark.parametrize(
    "shown", [{"shown": "3"}, {"shown": "-9"}, {"shown": "many"}, {"shown": "9" * 99}, {}]
)
def test_the_page_is_shown_again_where_more_is_gone_by_now(
    operator: Client, registry: Registry, tags: list[Tag], shown: dict[str, str]
) -> None:
    complete_update(registry, missed=tags[:5], hours_ago=2)
    complete_update(registry, missed=tags[:5])
    confirm = reverse("repositories:registry-confirm-removal", args=[registry.pk])
    page = operator.post(confirm, shown, follow=True).content.decode()
    assert f"by now 5 images of {registry.name} are gone, more than you were shown" in page
    assert 'name="shown" value="5"' in page
    assert removed(registry) == set()


def test_nothing_is_confirmed_where_nothing_is_held(registry: Registry, tags: list[Tag]) -> None:
    complete_update(registry, missed=tags[:1], hours_ago=2)
    Sync.objects.create(
        registry=registry, trigger=SyncTrigger.MANUAL, started_at=timezone.now(), is_complete=True
    )
    assert confirm_removal(registry, None, shown=5) == RemovalOutcome(0, 0)
    assert removed(registry) == set()


def test_one_whose_image_is_in_a_scan_waits(registry: Registry, tags: list[Tag]) -> None:
    scan = Scan.objects.create(image=tags[0].image)
    complete_update(registry, missed=tags[:2], hours_ago=2)
    assert complete_update(registry, missed=tags[:2]) == RemovalOutcome(1, 0)
    assert removed(registry) == {tags[1].pk}
    Scan.objects.filter(pk=scan.pk).update(state=State.SUCCEEDED)
    assert complete_update(registry, missed=tags[:2]) == RemovalOutcome(1, 0)


def test_an_unchanged_registry_costs_no_write(registry: Registry, tags: list[Tag]) -> None:
    sync = Sync.objects.create(registry=registry, trigger=SyncTrigger.MANUAL, started_at=timezone.now())
    complete_update(registry)
    with CaptureQueriesContext(connection) as queries:
        settle(registry, sync.pk)
    assert len(queries) < 10
    written = [each["sql"] for each in queries if each["sql"].startswith("UPDATE")]
    with connection.cursor() as cursor:
        for statement in written:
            cursor.execute(statement)
            assert cursor.rowcount == 0


@pytest.fixture
def gone(registry: Registry, tags: list[Tag]) -> Tag:
    """An image version that was removed a moment ago."""
    complete_update(registry, missed=tags[:1], hours_ago=2)
    complete_update(registry, missed=tags[:1])
    tags[0].refresh_from_db()
    return tags[0]


def test_a_removed_image_version_is_in_no_list(registry: Registry, gone: Tag, tags: list[Tag]) -> None:
    for query in ("", "q=v0", "presence=missing", "sort=name", "sort=-severity"):
        rows = Listing(QueryDict(query), registries=[registry]).page().rows
        assert gone.pk not in {row.tag.pk for row in rows}, query
    assert gone.pk not in {row.tag.pk for row in Listing(QueryDict(), registries=[registry]).rows()}
    assert select([str(gone.pk)]).tag_pks == ()
    assert gone.image not in scannable_images()
    chosen = read_choice(QueryDict("images=specified&category=vulnerabilities&q=v0"))
    assert (chosen.listed, chosen.found) == ((), 0)
    assert read_choice(QueryDict("images=all&category=vulnerabilities")).versions == len(tags) - 1
    assert names_of([gone.image_id or 0]) == {}
    assert holdings(registry).tags == len(tags) - 1
    row = registry_rows(Registry.objects.all())[0]
    assert (row.image_count, row.missing_count) == (len(tags) - 1, 0)


@pytest.mark.parametrize(("query", "index"), [("", "tag_by_pushed"), ("sort=name", "tag_by_name")])
def test_removed_image_versions_do_not_lie_in_the_lists_way(
    registry: Registry, tags: list[Tag], query: str, index: str
) -> None:
    listing = Listing(QueryDict(query), registries=[registry])
    page = shown(listing.order.rows(listing.found, 0, backwards=False))[:50]
    with connection.cursor() as cursor:
        # Of ten rows the planner would make no use of an index.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = %s", [index])
        assert "removed_at IS NULL" in cursor.fetchone()[0]
    assert index in page.explain()


def test_no_page_knows_a_removed_image_version(operator: Client, gone: Tag) -> None:
    for name in ("detail", "status", "vulnerabilities", "malware", "sensitive", "packages", "history"):
        assert operator.get(reverse(f"images:image-{name}", args=[gone.pk])).status_code == 404, name
    export = operator.get(reverse("images:image-export"))
    lines = b"".join(export.streaming_content).decode().splitlines()
    assert len(lines) == 10
    assert not [line for line in lines if gone.manifest_digest in line]


def test_a_removed_image_version_is_no_other_name_of_its_image(operator: Client, gone: Tag) -> None:
    other = shelf.tag(gone.registry, "twin", content=gone.image)
    page = operator.get(reverse("images:image-detail", args=[other.pk])).content.decode()
    assert f"/images/{gone.pk}/" not in page


def test_a_removed_image_version_is_no_source(registry: Registry, gone: Tag) -> None:
    gone.manifest.is_read = True
    gone.manifest.save()
    assert gone.image is not None
    with pytest.raises(UnusableContentError, match="No registry names this image"):
        sources_of(gone.image)
    Tag.objects.filter(pk=gone.pk).update(removed_at=None)
    assert [each.registry for each in sources_of(gone.image)] == [registry]


def test_the_license_and_the_image_stay(registry: Registry, gone: Tag) -> None:
    before = usage()
    Tag.objects.filter(pk=gone.pk).update(removed_at=timezone.now() - timedelta(days=31))
    purge()
    assert not Tag.objects.filter(pk=gone.pk).exists()
    assert Image.objects.filter(pk=gone.image_id).exists()
    assert usage() == before


def test_it_is_kept_for_thirty_days(registry: Registry, gone: Tag) -> None:
    Tag.objects.filter(pk=gone.pk).update(removed_at=timezone.now() - timedelta(days=29.9))
    assert purge() == 0
    Tag.objects.filter(pk=gone.pk).update(removed_at=timezone.now() - timedelta(days=30.1))
    assert purge() == 1


def test_the_deletion_goes_on_batch_by_batch(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repositories.removal._BATCH", 3)
    monkeypatch.setattr("repositories.removal._BATCHES", 2)
    long_ago = timezone.now() - timedelta(days=40)
    for number in range(8):
        shelf.tag(registry, f"v{number}", missing_since=long_ago, absent_at=long_ago, removed_at=long_ago)
    assert [purge(), purge(), purge()] == [6, 2, 0]


def test_a_tick_looks_again_and_deletes(
    registry: Registry, gone: Tag, tags: list[Tag], settings: Settings
) -> None:
    assert "repositories.purge" in {each["task"] for each in settings.CELERY_BEAT_SCHEDULE.values()}
    Tag.objects.filter(pk=gone.pk).update(removed_at=timezone.now() - timedelta(days=31))
    Registry.objects.update(removal_held_since=timezone.now(), removal_held_count=7)
    tasks.purge()
    registry.refresh_from_db()
    assert (registry.removal_held_since, registry.removal_held_count) == (None, 0)
    assert not Tag.objects.filter(pk=gone.pk).exists()


@pytest.fixture
def empty(registry: Registry) -> Repository:
    """A repository without image versions, first listed long ago."""
    Registry.objects.filter(pk=registry.pk).update(generation=7)
    repository = Repository.objects.create(registry=registry, name="old/empty", namespace="old")
    Repository.objects.update(first_seen_at=timezone.now() - timedelta(days=31))
    return repository


def test_a_repository_that_is_long_empty_goes(registry: Registry, empty: Repository, tags: list[Tag]) -> None:
    new = Repository.objects.create(registry=registry, name="new/empty", namespace="new")
    Repository.objects.filter(name="shop/api").update(first_seen_at=timezone.now() - timedelta(days=31))
    purge()
    assert set(Repository.objects.values_list("name", flat=True)) == {new.name, "shop/api"}


def test_no_repository_goes_while_a_data_update_counts_on_it(registry: Registry, empty: Repository) -> None:
    sync = Sync.objects.create(registry=registry, trigger=SyncTrigger.MANUAL)
    purge()
    assert Repository.objects.filter(pk=empty.pk).exists()
    Sync.objects.filter(pk=sync.pk).update(state=State.SUCCEEDED)
    purge()
    assert not Repository.objects.filter(pk=empty.pk).exists()


def test_the_page_says_what_is_held_and_takes_the_confirmation(
    operator: Client, viewer: Client, registry: Registry, tags: list[Tag]
) -> None:
    address = reverse("repositories:registry-detail", args=[registry.pk])
    confirm = reverse("repositories:registry-confirm-removal", args=[registry.pk])
    assert "gone from the registry" not in operator.get(address).content.decode()
    complete_update(registry, missed=tags[:5], hours_ago=2)
    in_the_list = operator.get(reverse("repositories:registry-list")).content.decode()
    assert "5 images gone from the registry at once; nothing was removed" in in_the_list
    sentence = "5 images are gone from the registry at once; nothing was removed."
    assert sentence in operator.get(address).content.decode()
    assert confirm not in viewer.get(address).content.decode()
    shown = {"shown": "5"}
    assert '<input type="hidden" name="shown" value="5">' in operator.get(address).content.decode()
    assert "not removed yet" in operator.post(confirm, shown, follow=True).content.decode()
    complete_update(registry, missed=tags[:5])
    page = operator.post(confirm, shown, follow=True).content.decode()
    assert f"5 images of {registry.name} were removed" in page
    assert "gone from the registry" not in page
    assert len(removed(registry)) == 5


def test_the_row_says_that_it_was_not_in_the_last_data_update(
    viewer: Client, registry: Registry, tags: list[Tag]
) -> None:
    badge, details = "Not in the last data update</span>", "Not in the last data update;"
    listed, detail = reverse("images:image-list"), reverse("images:image-detail", args=[tags[0].pk])
    assert badge not in viewer.get(listed).content.decode()
    assert details not in viewer.get(detail).content.decode()
    Tag.objects.filter(pk=tags[0].pk).update(missing_since=timezone.now())
    assert badge in viewer.get(listed).content.decode()
    assert details in viewer.get(detail).content.decode()
