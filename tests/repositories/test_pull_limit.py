"""The hourly limit: exact in every sliding hour, kept in the database alone, and a time for all who wait."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.db.models import F
from hypothesis import given, settings, strategies as st
from hypothesis.extra.django import TestCase
from pytest_django import DjangoAssertNumQueries

from images.models import Image
from repositories.credentials import Secret
from repositories.models import Pull, Registry
from repositories.pull_limit import (
    HOUR,
    Places,
    budgets_of,
    database_now,
    forget_old_pulls,
    grant,
    next_pull_at,
    places_of,
)
from repositories.registries.failures import NotThereError
from scanning.models import Scan
from tcss.lifecycle import State
from tests.invariants import assert_hourly_limits_held

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
ZERO = timedelta(0)


def make_registry(limit: int | None, name: str = "harbor") -> Registry:
    return Registry.objects.create(
        name=name,
        address="https://h.example",
        username="u",
        password=Secret.of("p"),
        hourly_pull_limit=limit,
    )


def make_images(count: int, start: int = 0) -> list[int]:
    numbers = range(start, start + count)
    made = Image.objects.bulk_create(Image(image_id=f"sha256:{number:064x}") for number in numbers)
    return [image.pk for image in made]


def pulled(registry: Registry, image_pk: int, ago: timedelta) -> datetime:
    """As if the image had been pulled so long ago."""
    at = database_now() - ago
    Pull.objects.create(registry=registry, image_id=image_pk, granted_at=at)
    return at


def let_pass(time: timedelta) -> None:
    """As if so much time had passed."""
    Pull.objects.update(granted_at=F("granted_at") - time)
    Scan.objects.update(available_at=F("available_at") - time)


def waits(registry: Registry, image_pk: int, priority: int = 9) -> Scan:
    """A scan that was told to wait for the registry."""
    return Scan.objects.create(
        image_id=image_pk, waits_for=registry, priority=priority, available_at=database_now() + HOUR
    )


def is_close(found: datetime | None, wanted: datetime) -> bool:
    return found is not None and abs(found - wanted) < 5 * SECOND


@pytest.mark.django_db(transaction=True)
def test_fifty_at_once_get_ten_places_and_the_others_times_to_come_back() -> None:
    registry = make_registry(10)
    barrier = Barrier(50)

    def ask(image_pk: int) -> datetime | None:
        try:
            connection.ensure_connection()
            barrier.wait(60)
            return grant(registry.pk, image_pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, make_images(50)))
    assert answers.count(None) == Pull.objects.count() == 10
    assert all(is_close(at, database_now() + HOUR) for at in answers if at is not None)
    assert_hourly_limits_held()


@pytest.mark.django_db
def test_a_place_is_free_again_when_its_pull_is_an_hour_old_and_not_before() -> None:
    registry = make_registry(5)
    images = make_images(6)
    for number, image_pk in enumerate(images[:5]):
        pulled(registry, image_pk, timedelta(minutes=59 - number))
    refused = grant(registry.pk, images[5])
    assert is_close(refused, database_now() + MINUTE)
    let_pass(55 * SECOND)
    assert grant(registry.pk, images[5]) is not None
    let_pass(6 * SECOND)
    assert grant(registry.pk, images[5]) is None
    assert_hourly_limits_held()


@pytest.mark.django_db
def test_the_time_that_is_told_is_the_time_at_which_there_is_a_place() -> None:
    registry = make_registry(5)
    *first, last = make_images(6)
    for image_pk in first:
        assert grant(registry.pk, image_pk) is None
    told = grant(registry.pk, last)
    assert told is not None
    let_pass(told - database_now())
    assert grant(registry.pk, last) is None
    assert_hourly_limits_held()


@pytest.mark.django_db
def test_the_same_image_takes_one_place_an_hour_which_counts_from_its_last_pull() -> None:
    registry = make_registry(5)
    first, *others, new = make_images(6)
    pulled(registry, first, 50 * MINUTE)
    for image_pk in others:
        assert grant(registry.pk, image_pk) is None
    assert grant(registry.pk, first) is None
    assert Pull.objects.count() == 5
    # Its bytes flow now: an hour from its first pull there is no place yet.
    let_pass(11 * MINUTE)
    assert grant(registry.pk, new) is not None


@pytest.mark.django_db
def test_an_unlimited_registry_permits_everything_and_writes_nothing() -> None:
    images = make_images(20)
    for limit in (None, 0):
        registry = make_registry(limit, f"limit {limit}")
        assert [grant(registry.pk, image_pk) for image_pk in images] == [None] * 20
    assert not Pull.objects.exists()


@pytest.mark.django_db
def test_every_registry_has_a_limit_of_its_own() -> None:
    one, other = make_registry(5, "one"), make_registry(5, "other")
    images = make_images(6)
    for image_pk in images[:5]:
        assert grant(one.pk, image_pk) is None
    assert grant(one.pk, images[5]) is not None
    assert grant(other.pk, images[5]) is None


@pytest.mark.django_db
def test_a_limit_that_is_changed_holds_for_the_next_question() -> None:
    registry = make_registry(20)
    images = make_images(30)
    times = [pulled(registry, image_pk, timedelta(minutes=50 - n)) for n, image_pk in enumerate(images[:20])]
    Registry.objects.update(hourly_pull_limit=5)
    # Four of the newest five have to be too old first.
    assert is_close(grant(registry.pk, images[20]), times[15] + HOUR)
    Registry.objects.update(hourly_pull_limit=50)
    assert grant(registry.pk, images[20]) is None
    Registry.objects.update(hourly_pull_limit=None)
    assert grant(registry.pk, images[21]) is None
    assert Pull.objects.count() == 21


@pytest.mark.django_db
def test_a_deleted_registry_permits_nothing() -> None:
    registry = make_registry(5)
    key = registry.pk
    registry.delete()
    with pytest.raises(NotThereError):
        grant(key, make_images(1)[0])


@pytest.mark.django_db
def test_everybody_who_waits_is_told_a_place_of_their_own() -> None:
    registry = make_registry(5)
    images = make_images(17)
    times = [pulled(registry, image_pk, timedelta(minutes=50 - n)) for n, image_pk in enumerate(images[:5])]
    told = []
    for image_pk in images[5:]:
        at = grant(registry.pk, image_pk)
        assert at is not None
        Scan.objects.create(image_id=image_pk, waits_for=registry, available_at=at, priority=9)
        told.append(at)
    wanted = [times[n % 5] + HOUR * (1 + n // 5) for n in range(12)]
    assert all(is_close(at, right) for at, right in zip(told, wanted, strict=True))
    assert len(set(told)) == 12


@pytest.mark.django_db
def test_who_waits_goes_before_who_comes_and_a_person_goes_before_a_schedule() -> None:
    registry = make_registry(5)
    images = make_images(9)
    for image_pk in images[:4]:
        pulled(registry, image_pk, 30 * MINUTE)
    waiting = waits(registry, images[5], priority=9)
    late = Scan.objects.create(image_id=images[6], priority=9)
    urgent = Scan.objects.create(image_id=images[7], priority=0)
    # The one free place is kept for the one who waited, but not against a person.
    assert grant(registry.pk, late.image_id) is not None
    assert grant(registry.pk, urgent.image_id) is None
    assert grant(registry.pk, waiting.image_id) is not None
    let_pass(31 * MINUTE)
    assert grant(registry.pk, late.image_id) is None
    assert_hourly_limits_held()


@pytest.mark.django_db
def test_places_are_not_kept_for_scans_that_ended_or_wait_for_something_else() -> None:
    registry = make_registry(5)
    images = make_images(9)
    for image_pk in images[:4]:
        pulled(registry, image_pk, MINUTE)
    cancelled, asked_to_pause, stopping = (waits(registry, image_pk) for image_pk in images[4:7])
    Scan.objects.filter(pk=cancelled.pk).update(state=State.CANCELLED)
    Scan.objects.filter(pk=asked_to_pause.pk).update(error_code="REG_RATE")
    Scan.objects.filter(pk=stopping.pk).update(state=State.RUNNING, cancel_requested=True)
    assert grant(registry.pk, images[7]) is None


@pytest.mark.django_db
def test_the_page_learns_of_all_limits_in_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    full, half, lowered = (make_registry(limit, name) for limit, name in ((5, "a"), (20, "b"), (5, "c")))
    unlimited, unused = make_registry(None, "d"), make_registry(10, "e")
    images = make_images(8)
    ages = [timedelta(minutes=50 - n) for n in range(8)]
    for registry, count in ((full, 5), (half, 3), (lowered, 8)):
        for image_pk, ago in zip(images[:count], ages[:count], strict=True):
            pulled(registry, image_pk, ago)
    pulled(half, images[7], HOUR + MINUTE)
    registries = [full, half, lowered, unlimited, unused]
    with django_assert_num_queries(1):
        budgets = budgets_of(registries)
    assert {pk: (each.used, each.limit) for pk, each in budgets.items()} == {
        full.pk: (5, 5),
        half.pk: (3, 20),
        lowered.pk: (8, 5),
        unused.pk: (0, 10),
    }
    with django_assert_num_queries(1):
        times = next_pull_at(registries)
    assert times.keys() == {full.pk, lowered.pk}
    assert is_close(times[full.pk], database_now() + 10 * MINUTE)
    assert is_close(times[lowered.pk], database_now() + 13 * MINUTE)
    with django_assert_num_queries(0):
        assert next_pull_at([unlimited]) == {}


@pytest.mark.django_db
def test_rows_are_forgotten_when_they_are_two_hours_old() -> None:
    registry = make_registry(5)
    [image_pk] = make_images(1)
    for ago in (MINUTE, HOUR + MINUTE, 2 * HOUR - MINUTE, 2 * HOUR + MINUTE, 9 * HOUR):
        pulled(registry, image_pk, ago)
    assert forget_old_pulls() == 2
    assert Pull.objects.count() == 3


@given(
    limit=st.sampled_from((5, 10, 20)),
    ages=st.lists(st.integers(0, 3599), max_size=40),
    lines=st.integers(0, 60),
)
def test_told_times_are_those_at_which_a_line_of_scans_would_be_let_in(
    limit: int, ages: list[int], lines: int
) -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    taken = sorted(now - age * SECOND for age in ages)
    places = Places(limit, now, tuple(taken))
    let_in = deque(taken[-limit:], maxlen=limit)
    for ahead in range(lines):
        # Played through one by one: the next is let in when the limit-th newest before it is an hour old.
        earliest = let_in[0] + HOUR + timedelta(milliseconds=1) if len(let_in) == limit else now
        right = max(now, earliest)
        assert ZERO <= right - places.at(ahead) < SECOND
        let_in.append(right)


class AnyTimes(TestCase):
    """A simulated clock: instead of time passing, what was pulled gets older."""

    @settings(max_examples=25, deadline=None)
    @given(
        limit=st.sampled_from((5, 10)),
        steps=st.lists(
            st.tuples(st.integers(0, 900), st.integers(0, 14), st.sampled_from((None, 5, 10, 20))),
            min_size=20,
            max_size=60,
        ),
    )
    def test_no_hour_has_more_images_than_the_limit_allowed_in_it(
        self, limit: int, steps: list[tuple[int, int, int | None]]
    ) -> None:
        registry = make_registry(limit)
        images = make_images(15)
        clock = ZERO
        # When each image was pulled and the limit that held then.
        seen: list[tuple[timedelta, int]] = []
        for wait, number, changed in steps:
            let_pass(wait * SECOND)
            clock += wait * SECOND
            if changed is not None:
                limit = changed
                Registry.objects.update(hourly_pull_limit=limit)
            refused = grant(registry.pk, images[number])
            hour = {image for at, image in seen if clock - at < HOUR - SECOND}
            if refused is None:
                seen.append((clock, images[number]))
                assert images[number] in hour or len(hour) < limit
            else:
                assert images[number] not in hour
                # Refused only when there is no place.
                exact = {image for at, image in seen if clock - at <= HOUR + SECOND}
                assert len(exact) >= limit
        places = places_of(registry.pk)
        assert places is not None
        assert len(places.pulled) == Pull.objects.filter(granted_at__gte=places.now - HOUR).count()
