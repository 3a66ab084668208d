"""Nights: when registries are updated by themselves, on every clock there is, and exactly once."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings as hypothesis_settings, strategies as st
from pytest_django import Settings

from repositories import updates
from repositories.models import Registry, Sync, SyncTrigger
from repositories.nights import Night, night_at
from repositories.updates import cancel_sync, request_nightly, request_sync
from tcss.lifecycle import State

# Two that change by an hour, one that does not, one that changes by half an hour, one whose nights skip 3:00
# or strike it twice, and two whose nights skip 0:00.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Havana",
    "Africa/Cairo",
)
FIRST_DAY = date(2026, 1, 1)
DAYS = 2 * 365
KEYS = (1, 2, 3)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Console:
    """Asks for nightly updates as the database would let it: a registry and a night's date, once."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self.rows: set[tuple[int, date]] = set()
        self.asked: list[tuple[int, date, datetime]] = []

    def tick(self, now: datetime) -> None:
        night = night_at(now, self.zone)
        for key in KEYS if night else ():
            assert night is not None
            if night.moment_of(key) <= now and (key, night.date) not in self.rows:
                self.rows.add((key, night.date))
                self.asked.append((key, night.date, now))


def moments(day: date, zone: ZoneInfo, step: timedelta) -> Iterator[datetime]:
    """The moments of the day and a night around it."""
    now = datetime.combine(day, time(0), UTC) - timedelta(hours=14)
    for _ in range(timedelta(days=1) // step):
        yield now
        now += step


def two_years(zone: ZoneInfo) -> Iterator[datetime]:
    """Two years of ticks: every minute on days when the clocks change and beside them, else every ten."""
    for number in range(DAYS + 2):
        day = FIRST_DAY + timedelta(days=number)
        offsets = {
            datetime.combine(day + timedelta(days=near), time(0), UTC).astimezone(zone).utcoffset()
            for near in (-2, -1, 0, 1, 2)
        }
        yield from moments(day, zone, MINUTE if len(offsets) > 1 else 10 * MINUTE)


@pytest.mark.parametrize("name", ZONES)
def test_two_years_have_exactly_one_nightly_update_a_night(name: str) -> None:
    zone = ZoneInfo(name)
    console = Console(zone)
    for now in two_years(zone):
        console.tick(now)
    days = [FIRST_DAY + timedelta(days=number) for number in range(DAYS)]
    asked = Counter((key, night) for key, night, _ in console.asked)
    assert {(key, day): asked[key, day] for key in KEYS for day in days} == dict.fromkeys(
        ((key, day) for key in KEYS for day in days), 1
    )
    for _, night, now in console.asked:
        local = now.astimezone(zone)
        assert (local.date(), local.hour < 3) == (night, True)


@pytest.mark.parametrize("name", ZONES)
def test_it_is_night_exactly_while_the_clocks_say_so(name: str) -> None:
    zone = ZoneInfo(name)
    for now in two_years(zone):
        local, night = now.astimezone(zone), night_at(now, zone)
        assert (night is not None) is (local.hour < 3), now
        if night is not None:
            assert night.date == local.date()
            assert night.began <= now < night.ends
            assert timedelta(hours=2) <= night.ends - night.began <= timedelta(hours=4)


def night_of(day: date, zone: ZoneInfo) -> Night:
    """The night of a date: none of the clocks ever skips 1:30."""
    night = night_at(datetime.combine(day, time(1, 30), zone).astimezone(UTC), zone)
    assert night is not None
    return night


@pytest.mark.parametrize("name", ZONES)
def test_a_night_begins_and_ends_to_the_second(name: str) -> None:
    zone = ZoneInfo(name)
    second = timedelta(seconds=1)
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        night = night_of(day, zone)
        before, after = night_at(night.began - second, zone), night_at(night.began, zone)
        assert (before, after and after.date) == (None, night.date)
        assert night_at(night.ends - second, zone) == night
        assert night_at(night.ends, zone) is None


patterns = st.lists(
    # Seconds between one tick and the next: two beats at once, the usual minute, a restart, days of silence.
    st.one_of(st.just(0), st.integers(1, 120), st.integers(60, 3 * 3600), st.integers(3600, 60 * 3600)),
    max_size=60,
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(ZONES),
    begin=st.integers(0, DAYS * 24 * 3600),
    beats=st.lists(patterns, min_size=1, max_size=3),
)
def test_whatever_ticks_no_night_has_two_and_none_is_left_out(
    name: str, begin: int, beats: list[list[int]]
) -> None:
    zone = ZoneInfo(name)
    console = Console(zone)
    ticks = sorted(tick for beat in beats for tick in running(beat, begin))
    for now in ticks:
        console.tick(now)
    asked = Counter((key, night) for key, night, _ in console.asked)
    assert set(asked.values()) <= {1}
    late = {night.date for night in (in_last_third(now, zone) for now in ticks) if night}
    assert {(key, night) for key in KEYS for night in late} <= set(asked)
    ticked = {local.date() for local in (now.astimezone(zone) for now in ticks) if local.hour < 3}
    assert {night for _, night in asked} <= ticked


def running(beat: Iterable[int], begin: int) -> Iterator[datetime]:
    now = datetime.combine(FIRST_DAY, time(0), UTC) + timedelta(seconds=begin)
    for seconds in beat:
        now += timedelta(seconds=seconds)
        yield now


def in_last_third(now: datetime, zone: ZoneInfo) -> Night | None:
    night = night_at(now, zone)
    return night if night and now >= night.began + (night.ends - night.began) * 2 / 3 else None


@pytest.mark.parametrize("minutes_left", [61, 1])
@pytest.mark.parametrize("name", ZONES)
def test_a_console_switched_on_late_still_asks_for_tonights(name: str, minutes_left: int) -> None:
    zone = ZoneInfo(name)
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        console = Console(zone)
        ends = night_of(day, zone).ends
        for minutes in range(minutes_left, -60, -5):
            console.tick(ends - minutes * MINUTE)
        asked = {(key, night) for key, night, _ in console.asked if night == day}
        assert asked == {(key, day) for key in KEYS}, day


@pytest.mark.parametrize(
    ("name", "now", "began", "ends"),
    [
        ("UTC", "2026-03-10T00:00", "2026-03-10T00:00", "2026-03-10T03:00"),
        ("UTC", "2026-03-10T02:59", "2026-03-10T00:00", "2026-03-10T03:00"),
        # The clocks go from 2:00 to 3:00: two hours.
        ("Europe/Berlin", "2026-03-29T00:30", "2026-03-28T23:00", "2026-03-29T01:00"),
        ("America/New_York", "2026-03-08T06:00", "2026-03-08T05:00", "2026-03-08T07:00"),
        # From 3:00 or 2:00 back by an hour: four.
        ("Europe/Berlin", "2026-10-25T01:30", "2026-10-24T22:00", "2026-10-25T02:00"),
        ("America/New_York", "2026-11-01T04:30", "2026-11-01T04:00", "2026-11-01T08:00"),
        ("Asia/Shanghai", "2026-03-09T16:30", "2026-03-09T16:00", "2026-03-09T19:00"),
        # Half an hour forth, and back.
        ("Australia/Lord_Howe", "2026-10-03T14:00", "2026-10-03T13:30", "2026-10-03T16:00"),
        ("Australia/Lord_Howe", "2026-04-04T14:00", "2026-04-04T13:00", "2026-04-04T16:30"),
        # From 2:45 to 3:45, so that 3:00 is skipped.
        ("Pacific/Chatham", "2026-09-26T13:00", "2026-09-26T11:15", "2026-09-26T14:00"),
        # From 3:45 to 2:45: the clocks show 3:00 twice, and a quarter of an hour is night again.
        ("Pacific/Chatham", "2026-04-04T13:00", "2026-04-04T10:15", "2026-04-04T13:15"),
        ("Pacific/Chatham", "2026-04-04T14:10", "2026-04-04T10:15", "2026-04-04T14:15"),
        # From 0:00 to 1:00: midnight is skipped.
        ("America/Havana", "2026-03-08T05:00", "2026-03-08T05:00", "2026-03-08T07:00"),
        ("Africa/Cairo", "2026-04-23T23:00", "2026-04-23T22:00", "2026-04-24T00:00"),
        # From 1:00 back to 0:00, which is shown twice.
        ("America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-01T08:00"),
        # From 0:00 back to 23:00 of the day before, so that midnight comes late.
        ("Africa/Cairo", "2026-10-29T22:30", "2026-10-29T22:00", "2026-10-30T01:00"),
    ],
)
def test_a_night_is_from_midnight_to_three_whatever_the_clocks_do(
    name: str, now: str, began: str, ends: str
) -> None:
    night = night_at(datetime.fromisoformat(f"{now}Z"), ZoneInfo(name))
    assert night is not None
    assert (night.began, night.ends) == tuple(datetime.fromisoformat(f"{each}Z") for each in (began, ends))


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("UTC", "2026-03-10T03:00"),
        ("UTC", "2026-03-10T23:59"),
        ("Europe/Berlin", "2026-03-29T01:00"),
        ("Pacific/Chatham", "2026-04-04T13:30"),
        ("Africa/Cairo", "2026-10-29T21:30"),
    ],
)
def test_by_day_there_is_no_night(name: str, now: str) -> None:
    assert night_at(datetime.fromisoformat(f"{now}Z"), ZoneInfo(name)) is None


def test_a_thousand_registries_begin_one_after_another_in_two_hours() -> None:
    night = night_at(datetime(2026, 3, 10, 1, tzinfo=UTC), UTC)
    assert night is not None
    begins = [(night.moment_of(key) - night.began) // (10 * MINUTE) for key in range(1, 1001)]
    by_part = Counter(begins)
    assert set(by_part) == set(range(12))
    assert max(by_part.values()) < 2 * min(by_part.values())


def test_a_registry_begins_at_the_same_time_every_night() -> None:
    nights = [night_at(datetime(2026, 3, day, 1, tzinfo=UTC), UTC) for day in range(1, 30)]
    assert len({night.moment_of(7) - night.began for night in nights if night}) == 1


# What the database makes of it.

ONE = datetime(2026, 3, 10, 1, tzinfo=UTC)
END = datetime(2026, 3, 10, 3, tzinfo=UTC)
LATE = END - MINUTE
TONIGHT = ONE.date()


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The data updates whose bell was rung; no broker is asked."""
    rung: list[int] = []
    monkeypatch.setattr(updates, "ring", lambda task, pk: rung.append(pk))
    return rung


@pytest.fixture
def other(make_registry: Callable[..., Registry], bells: list[int]) -> Registry:
    return make_registry("https://harbor.example.org")


def finish(sync: Sync, state: State = State.SUCCEEDED) -> None:
    Sync.objects.filter(pk=sync.pk).update(state=state)


@pytest.mark.django_db
def test_every_registry_is_asked_for_once_a_night(
    make_registry: Callable[..., Registry], bells: list[int]
) -> None:
    registries = [make_registry(f"https://r{number}.example.org") for number in range(5)]
    begun: list[tuple[datetime, int]] = []
    for minutes in range(-60, 2 * 24 * 60 + 120, 7):
        now = ONE + minutes * MINUTE
        for sync in request_nightly(now):
            begun.append((now, sync.registry_id))
            finish(sync)
    nights = Sync.objects.values_list("registry", "night", "trigger").order_by("night", "registry")
    assert list(nights) == [
        (registry.pk, TONIGHT + timedelta(days=number), SyncTrigger.NIGHTLY)
        for number in range(3)
        for registry in registries
    ]
    assert len(bells) == len(begun) == 15
    assert len({now for now, _ in begun}) > 5


@pytest.mark.django_db
def test_nothing_is_asked_for_by_day(other: Registry) -> None:
    assert request_nightly(END) == []
    assert not Sync.objects.exists()


@pytest.mark.django_db
def test_it_is_the_night_of_the_servers_zone(other: Registry, settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    assert request_nightly(LATE) == []
    evening = datetime(2026, 3, 10, 18, 59, tzinfo=UTC)
    (sync,) = request_nightly(evening)
    assert (sync.night, sync.stop_at) == (date(2026, 3, 11), evening + MINUTE)


@pytest.mark.django_db
def test_tonights_knows_its_night_and_when_it_ends(other: Registry) -> None:
    (sync,) = request_nightly(LATE)
    assert (sync.trigger, sync.night, sync.stop_at) == (SyncTrigger.NIGHTLY, TONIGHT, END)


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.FAILED, State.INCOMPLETE, State.CANCELLED])
def test_one_that_did_not_come_through_is_not_asked_for_again_that_night(
    other: Registry, state: State
) -> None:
    (sync,) = request_nightly(LATE - HOUR / 2)
    finish(sync, state)
    assert request_nightly(LATE) == []
    assert len(request_nightly(LATE + timedelta(days=1))) == 1


@pytest.mark.django_db
def test_one_that_somebody_asked_for_counts_as_tonights(other: Registry, bells: list[int]) -> None:
    by_hand = request_sync(other, SyncTrigger.MANUAL)
    assert request_nightly(LATE - MINUTE) == [by_hand]
    by_hand.refresh_from_db()
    # It goes on past the end of the night.
    assert (by_hand.trigger, by_hand.night, by_hand.stop_at) == (SyncTrigger.MANUAL, TONIGHT, None)
    finish(by_hand)
    assert request_nightly(LATE) == []
    assert bells == [by_hand.pk]


@pytest.mark.django_db
def test_one_that_ended_before_the_registrys_moment_does_not_count(other: Registry) -> None:
    finish(request_sync(other, SyncTrigger.MANUAL))
    assert [sync.trigger for sync in request_nightly(LATE)] == [SyncTrigger.NIGHTLY]


@pytest.mark.django_db
def test_one_that_is_stopping_does_not_count_and_is_followed(other: Registry) -> None:
    by_hand = request_sync(other, SyncTrigger.MANUAL)
    Sync.objects.update(state=State.RUNNING)
    cancel_sync(by_hand.pk)
    assert request_nightly(LATE - MINUTE) == []
    finish(by_hand, State.CANCELLED)
    assert [sync.trigger for sync in request_nightly(LATE)] == [SyncTrigger.NIGHTLY]


@pytest.mark.django_db
def test_what_webhooks_asked_for_goes_on_as_tonights(other: Registry) -> None:
    partial = Sync.objects.create(registry=other, trigger=SyncTrigger.WEBHOOK, is_partial=True)
    (sync,) = request_nightly(LATE)
    assert sync == partial
    assert (sync.trigger, sync.is_partial) == (SyncTrigger.NIGHTLY, False)
    assert (sync.night, sync.stop_at) == (TONIGHT, END)


@pytest.mark.django_db
def test_last_nights_that_still_waits_is_followed_by_tonights(other: Registry) -> None:
    (last,) = request_nightly(LATE)
    next_night = LATE + timedelta(days=1)
    assert request_nightly(next_night - MINUTE) == []
    finish(last, State.INCOMPLETE)
    assert [sync.night for sync in request_nightly(next_night)] == [TONIGHT + timedelta(days=1)]


@pytest.mark.django_db
def test_the_database_refuses_a_second_one_of_a_night(other: Registry) -> None:
    (sync,) = request_nightly(LATE)
    finish(sync)
    with pytest.raises(IntegrityError, match="sync_once_a_night"), transaction.atomic():
        Sync.objects.create(registry=other, trigger=SyncTrigger.NIGHTLY, night=TONIGHT)


def at_once(tick: Callable[[], object]) -> None:
    """Four beats in the same moment."""
    barrier = threading.Barrier(4)

    def wait_and_tick() -> None:
        barrier.wait()
        tick()
        connection.close()

    threads = [threading.Thread(target=wait_and_tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_several_beats_at_once_ask_once(transactional_db: None, other: Registry, bells: list[int]) -> None:
    at_once(lambda: request_nightly(LATE))
    assert Sync.objects.get().night == TONIGHT
    assert bells == [Sync.objects.get().pk]


def test_several_beats_at_once_ask_once_where_each_update_ends_at_once(
    transactional_db: None, other: Registry
) -> None:
    def tick() -> None:
        for sync in request_nightly(LATE):
            finish(sync)

    at_once(tick)
    assert Sync.objects.filter(night=TONIGHT).count() == Sync.objects.count() == 1


def test_a_click_and_several_beats_at_once_make_one(transactional_db: None, other: Registry) -> None:
    def click_and_tick() -> None:
        request_sync(other, SyncTrigger.MANUAL)
        request_nightly(LATE)

    at_once(click_and_tick)
    assert Sync.objects.get().night == TONIGHT
