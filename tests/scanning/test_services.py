"""Asking for scans and cancelling them: who is scanned, who joins, what is told, what it costs."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks

from images.models import Image, ScanStatus
from scanning.models import Category, CategoryState, Outcome, Scan, ScanCategory, ScanTask, TaskTrigger
from scanning.parts import fail_categories
from scanning.progress import Totals, failures_of, totals_of
from scanning.services import (
    FIRST_BELLS,
    preview,
    refresh_summary,
    request_cancel,
    request_scan,
)
from tcss.lifecycle import Failure, State
from tests.invariants import assert_books_balance, assert_nothing_is_stuck

VULNERABILITIES, SENSITIVE = Category.VULNERABILITIES, Category.SENSITIVE


def images(count: int, *, licensed: bool = True, start: int = 0) -> list[int]:
    made = Image.objects.bulk_create(
        Image(image_id=f"sha256:{number:064x}", is_licensed=licensed)
        for number in range(start, start + count)
    )
    return [image.pk for image in made]


def ask(pks: list[int], *categories: Category, trigger: TaskTrigger = TaskTrigger.MANUAL) -> ScanTask:
    return request_scan(pks, categories or (VULNERABILITIES,), trigger, None, "test")


def outcomes(task: ScanTask) -> dict[int, str]:
    return dict(task.items.values_list("image_id", "outcome"))


@pytest.mark.django_db
def test_a_licensed_image_is_scanned_and_an_unlicensed_one_is_told_so() -> None:
    [able] = images(1)
    [unable] = images(1, licensed=False, start=1)
    task = ask([able, unable, able, 10**9])
    assert outcomes(task) == {able: Outcome.STARTED, unable: Outcome.UNLICENSED}
    assert Image.objects.get(pk=able).scan_status == ScanStatus.SCANNING
    assert Image.objects.get(pk=unable).scan_status == ScanStatus.NOT_SCANNED
    assert_books_balance()


@pytest.mark.django_db
def test_asking_twice_joins_the_scan_and_adds_what_is_new_to_it() -> None:
    [pk] = images(1)
    ask([pk], VULNERABILITIES, trigger=TaskTrigger.SCHEDULE)
    second = ask([pk], VULNERABILITIES, SENSITIVE)
    scan = Scan.objects.get()
    assert outcomes(second) == {pk: Outcome.JOINED}
    assert set(scan.categories.values_list("category", flat=True)) == {VULNERABILITIES, SENSITIVE}
    assert scan.priority == 0, "what a person waits for goes first"


@pytest.mark.django_db
def test_a_category_that_is_not_there_is_refused_and_nothing_is_written() -> None:
    [pk] = images(1)
    with pytest.raises(ValueError, match="rootkits"):
        request_scan([pk], ["rootkits"], TaskTrigger.MANUAL, None, "test")
    with pytest.raises(ValueError, match="category"):
        request_scan([pk], [], TaskTrigger.MANUAL, None, "test")
    assert not ScanTask.objects.exists()


@pytest.mark.django_db
def test_cancelling_ends_what_waits_at_once_and_tells_what_runs_to_stop() -> None:
    waiting, running, idle = images(3)
    ask([waiting, running])
    held = Scan.objects.claim(Scan.objects.get(image=running).pk)
    assert held is not None
    assert request_cancel([waiting, running, idle], None) == 2
    assert Image.objects.get(pk=waiting).scan_status == ScanStatus.CANCELLED
    assert Image.objects.get(pk=running).scan_status == ScanStatus.SCANNING
    assert Scan.objects.get(pk=held.pk).cancel_requested
    assert ScanCategory.objects.get(scan__image=waiting).state == CategoryState.CANCELLED
    assert request_cancel([idle], None) == 0
    assert_books_balance()


@pytest.mark.django_db
def test_a_scan_asked_for_while_another_is_stopping_is_a_new_one_and_the_old_worker_writes_nothing() -> None:
    [pk] = images(1)
    ask([pk])
    old = Scan.objects.claim(Scan.objects.get().pk)
    assert old is not None
    request_cancel([pk], None)
    task = ask([pk])
    assert outcomes(task) == {pk: Outcome.STARTED}
    assert Scan.objects.get(pk=old.pk).state == State.CANCELLED
    assert Scan.objects.active().get().pk != old.pk
    assert not Scan.objects.end(old.pk, fence=old.fence, state=State.SUCCEEDED)
    assert_nothing_is_stuck()


@pytest.mark.django_db
def test_after_cancelling_all_a_scan_of_all_is_accepted_at_once() -> None:
    pks = images(5)
    ask(pks)
    assert request_cancel(pks, None) == 5
    assert set(outcomes(ask(pks)).values()) == {Outcome.STARTED}


@pytest.mark.django_db
def test_ten_thousand_images_take_a_few_statements_and_ring_a_few_bells(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    pks = images(10_000)
    with (
        django_capture_on_commit_callbacks() as bells,
        CaptureQueriesContext(
            connection,
        ) as queries,
    ):
        task = ask(pks, VULNERABILITIES, SENSITIVE)
    assert len(queries) < 20
    assert len(bells) == FIRST_BELLS
    assert totals_of([task])[task.pk] == Totals(queued=10_000)
    with CaptureQueriesContext(connection) as queries:
        assert request_cancel(pks, None) == 10_000
    assert totals_of([task])[task.pk] == Totals(cancelled=10_000)
    assert Image.objects.filter(scan_status=ScanStatus.CANCELLED).count() == 10_000


@pytest.mark.django_db
def test_what_a_scan_would_do_is_told_before_it_starts() -> None:
    licensed = images(3)
    unlicensed = images(2, licensed=False, start=10)
    ask(licensed[:1])
    told = preview([*licensed, *unlicensed])
    assert (told.images, told.licensed, told.unlicensed, told.scanning) == (5, 3, 2, 1)


@pytest.mark.django_db
def test_a_tasks_totals_and_causes_are_those_of_its_scans() -> None:
    pks = images(4)
    task = ask(pks)
    failure = Failure("REG_AUTH", "The registry refused the account.", "Check the password.")
    scans = [Scan.objects.claim(scan.pk) for scan in Scan.objects.order_by("pk")]
    for scan in scans[:2]:
        assert scan is not None
        Scan.objects.end(scan.pk, fence=scan.fence, state=State.FAILED, failure=failure)
        fail_categories([scan.pk], failure)
        refresh_summary(scan.image_id)
    totals = totals_of([task])[task.pk]
    assert (totals.failed, totals.running, totals.percent, totals.is_over) == (2, 2, 50, False)
    [group] = failures_of(task)
    assert (group.code, group.count) == ("REG_AUTH", 2)
    assert_books_balance()


@pytest.mark.django_db(transaction=True)
def test_many_people_asking_for_the_same_images_at_once_make_one_scan_of_each() -> None:
    pks = images(20)
    barrier = Barrier(6)

    def click(number: int) -> None:
        barrier.wait()
        try:
            ask(pks[::-1] if number % 2 else pks, VULNERABILITIES if number % 3 else SENSITIVE)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(click, range(6)))
    assert Scan.objects.count() == 20
    assert ScanTask.objects.count() == 6
    assert ScanCategory.objects.count() == 40
    started = [item for task in ScanTask.objects.all() for item in outcomes(task).values()]
    assert started.count(Outcome.STARTED) == 20


@pytest.mark.django_db(transaction=True)
def test_scan_and_cancel_at_the_same_moment_leave_one_state() -> None:
    pks = images(6)
    barrier = Barrier(4)

    def click(number: int) -> None:
        barrier.wait()
        try:
            ask(pks) if number % 2 else request_cancel(pks, None)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(click, range(4)))
    assert Scan.objects.active().count() in {0, 6}
    assert_books_balance()
    assert_nothing_is_stuck()
