"""Licensing images: newest first, as far as the seats go, and never one seat too many."""

import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, F
from django.utils import timezone
from hypothesis import settings as hypothesis_settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pytest_django import DjangoAssertNumQueries

from images.models import Image
from licensing import services
from licensing.models import Entitlement, EntitlementKind, LicenseAssignment

pytestmark = pytest.mark.django_db


def entitlement(quantity: int, *, kind: str = EntitlementKind.PURCHASED, **fields: object) -> Entitlement:
    return Entitlement.objects.create(kind=kind, quantity=quantity, **fields)


def images(count: int, *, start: int = 0) -> list[int]:
    """Keys of new images, the oldest first."""
    now = timezone.now()
    made = Image.objects.bulk_create(
        Image(image_id=f"sha256:{number:064x}", first_seen_at=now + timedelta(seconds=number))
        for number in range(start, start + count)
    )
    return [image.pk for image in made]


def licensed_pks() -> set[int]:
    return set(LicenseAssignment.objects.in_force().values_list("image_id", flat=True))


def assert_books_balance() -> None:
    """What the counters say is what the rows say, and no more than was sold."""
    counted = Entitlement.objects.annotate(count=Count("assignments"))
    assert not counted.exclude(used=F("count")).exists()
    assert not counted.filter(used__gt=F("quantity")).exists()
    assert set(Image.objects.filter(is_licensed=True).values_list("pk", flat=True)) == licensed_pks()


@pytest.fixture(autouse=True)
def only_our_entitlements(db: None) -> None:
    Entitlement.objects.all().delete()


def test_every_image_gets_a_license_while_seats_last() -> None:
    entitlement(5)
    pks = images(3)
    outcome = services.assign(pks, None)
    assert set(outcome.licensed) == set(pks)
    assert (outcome.already, outcome.refused) == ((), ())
    assert services.remaining() == 2
    assert_books_balance()


def test_the_newest_images_go_first_and_the_rest_is_named() -> None:
    entitlement(2)
    pks = images(5)
    shuffled = random.Random(1).sample(pks, k=5)
    outcome = services.assign(shuffled, None)
    assert outcome.licensed == (pks[4], pks[3])
    assert outcome.refused == (pks[2], pks[1], pks[0])
    assert_books_balance()


def test_images_first_seen_at_one_instant_are_taken_in_the_order_they_were_found() -> None:
    entitlement(1)
    moment = timezone.now()
    made = Image.objects.bulk_create(
        Image(image_id=f"sha256:{number:064x}", first_seen_at=moment) for number in range(3)
    )
    assert services.assign([image.pk for image in made], None).licensed == (made[2].pk,)


def test_an_image_keeps_its_license_and_takes_no_second_seat() -> None:
    entitlement(5)
    first, second = images(2)
    services.assign([first], None)
    outcome = services.assign([first, second, second, first], None)
    assert outcome.licensed == (second,)
    assert outcome.already == (first,)
    assert services.remaining() == 3
    assert_books_balance()


def test_an_image_that_is_gone_is_left_out() -> None:
    entitlement(5)
    (pk,) = images(1)
    outcome = services.assign([pk, 987_654_321], None)
    assert outcome == services.Assigned(licensed=(pk,), already=(), refused=())


def test_nothing_is_licensed_without_a_seat() -> None:
    pks = images(2)
    assert services.assign(pks, None).refused == (pks[1], pks[0])
    assert not Image.objects.filter(is_licensed=True).exists()
    assert services.remaining() == 0


def test_licensing_nothing_does_nothing() -> None:
    entitlement(1)
    assert services.assign([], None) == services.Assigned((), (), ())


def test_the_entitlement_that_ends_soonest_is_used_up_first() -> None:
    now = timezone.now()
    never = entitlement(10)
    late = entitlement(2, ends_at=now + timedelta(days=30))
    soon = entitlement(2, ends_at=now + timedelta(days=3))
    services.assign(images(5), None)
    used = dict(Entitlement.objects.values_list("pk", "used"))
    assert used == {soon.pk: 2, late.pk: 2, never.pk: 1}
    assert_books_balance()


def test_only_an_entitlement_that_is_valid_now_gives_seats() -> None:
    now = timezone.now()
    entitlement(5, starts_at=now + timedelta(hours=1))
    entitlement(5, starts_at=now - timedelta(days=2), ends_at=now - timedelta(hours=1))
    pks = images(1)
    assert services.remaining() == 0
    assert services.assign(pks, None).refused == tuple(pks)


def test_who_asked_is_remembered() -> None:
    entitlement(1)
    user = User.objects.create_user("ada")
    services.assign(images(1), user)
    assert LicenseAssignment.objects.get().assigned_by == user


def test_a_forecast_says_what_licensing_would_do_and_changes_nothing() -> None:
    entitlement(3)
    pks = images(5)
    services.assign(pks[:1], None)
    expected = services.Forecast(licensed=2, already=1, refused=2, remaining=2)
    assert services.forecast(pks) == expected
    assert services.forecast(pks) == expected
    outcome = services.assign(pks, None)
    assert (len(outcome.licensed), len(outcome.already), len(outcome.refused)) == (2, 1, 2)


def test_a_license_lapses_with_its_entitlement_and_can_be_taken_anew() -> None:
    now = timezone.now()
    trial = entitlement(5, kind=EntitlementKind.TRIAL, starts_at=now - timedelta(days=7))
    pks = images(3)
    services.assign(pks, None)
    Entitlement.objects.filter(pk=trial.pk).update(ends_at=now - timedelta(minutes=1))
    assert services.lapse() == 3
    assert services.lapse() == 0
    assert not Image.objects.filter(is_licensed=True).exists()
    assert_books_balance()
    entitlement(2)
    outcome = services.assign(pks, None)
    assert outcome.licensed == (pks[2], pks[1])
    assert LicenseAssignment.objects.count() == 5
    assert_books_balance()


def test_licensing_lets_what_has_ended_lapse_first() -> None:
    now = timezone.now()
    ended = entitlement(1, starts_at=now - timedelta(days=7))
    pks = images(1)
    services.assign(pks, None)
    Entitlement.objects.filter(pk=ended.pk).update(ends_at=now - timedelta(minutes=1))
    entitlement(1)
    assert services.assign(pks, None).licensed == tuple(pks)
    assert_books_balance()


def test_ten_thousand_images_are_licensed_in_a_few_queries(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    entitlement(9_000)
    pks = images(10_000)
    with django_assert_max_num_queries(12):
        outcome = services.assign(pks, None)
    assert (len(outcome.licensed), len(outcome.refused)) == (9_000, 1_000)
    assert_books_balance()


def test_the_database_itself_refuses_one_seat_too_many() -> None:
    full = entitlement(1)
    services.assign(images(1), None)
    with pytest.raises(IntegrityError), transaction.atomic():
        Entitlement.objects.filter(pk=full.pk).update(used=F("used") + 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        LicenseAssignment.objects.create(image_id=licensed_pks().pop(), entitlement=full)


def _at_once(calls: Iterable[list[int]]) -> list[services.Assigned]:
    """Every call from a thread and a connection of its own, all released at one moment."""
    work = list(calls)
    barrier = threading.Barrier(len(work))

    def run(pks: list[int]) -> services.Assigned:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return services.assign(pks, None)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


@pytest.mark.django_db(transaction=True)
def test_fifty_clicks_at_once_never_take_more_seats_than_there_are() -> None:
    # Rounds of one test: two workers doing this side by side would want more connections than there are.
    for _ in range(10):
        LicenseAssignment.objects.all().delete()
        Image.objects.all().delete()
        Entitlement.objects.all().delete()
        entitlement(7, ends_at=timezone.now() + timedelta(days=1))
        entitlement(3)
        pks = images(51)
        # Ten people click the same image, forty click one each.
        outcomes = _at_once([[pks[50]]] * 10 + [[pk] for pk in pks[:40]])
        taken = [pk for outcome in outcomes for pk in outcome.licensed]
        assert len(taken) == len(set(taken)) == 10
        assert LicenseAssignment.objects.count() == 10
        assert sum(Entitlement.objects.values_list("used", flat=True)) == 10
        assert sum(len(o.licensed) + len(o.already) + len(o.refused) for o in outcomes) == 50
        assert_books_balance()


@pytest.mark.django_db(transaction=True)
def test_overlapping_selections_licensed_at_once_take_each_seat_once() -> None:
    Entitlement.objects.all().delete()
    entitlement(30)
    pks = images(40)
    chance = random.Random(7)
    outcomes = _at_once([chance.sample(pks, k=25) for _ in range(12)])
    taken = [pk for outcome in outcomes for pk in outcome.licensed]
    assert len(taken) == len(set(taken)) == 30
    assert_books_balance()


class Licensing(RuleBasedStateMachine):
    """Any order of buying, licensing and ending leaves the books balanced."""

    @initialize()
    def begin(self) -> None:
        LicenseAssignment.objects.all().delete()
        Entitlement.objects.all().delete()
        Image.objects.all().delete()
        self.pks = images(12)

    @rule(quantity=st.integers(0, 6), days=st.sampled_from([None, -1, 1, 30]))
    def buy(self, quantity: int, days: int | None) -> None:
        now = timezone.now()
        entitlement(
            quantity,
            starts_at=now - timedelta(days=5),
            ends_at=None if days is None else now + timedelta(days=days),
        )

    @rule(chosen=st.lists(st.integers(0, 11), max_size=12))
    def assign(self, chosen: list[int]) -> None:
        pks = [self.pks[index] for index in chosen]
        forecast = services.forecast(pks)
        outcome = services.assign(pks, None)
        assert set(pks) == {*outcome.licensed, *outcome.already, *outcome.refused}
        assert len(outcome.licensed) == forecast.licensed
        assert not outcome.refused or services.remaining() == 0
        assert list(outcome.licensed) == sorted(outcome.licensed, reverse=True)

    @rule()
    def end_one(self) -> None:
        first = Entitlement.objects.valid().first()
        if first:
            Entitlement.objects.filter(pk=first.pk).update(ends_at=timezone.now() - timedelta(days=1))
            services.lapse()

    @invariant()
    def books_balance(self) -> None:
        assert_books_balance()


def test_the_books_balance_after_any_history() -> None:
    run_state_machine_as_test(
        Licensing,
        settings=hypothesis_settings(max_examples=25, stateful_step_count=15, deadline=None),
    )
