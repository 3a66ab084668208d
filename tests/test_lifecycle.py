"""The life of a job row: one holder at a time, three attempts, ends that stay ends."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from images.models import Image
from scanning.models import Scan
from tcss.lifecycle import (
    ACTIVE,
    MAX_ATTEMPTS,
    TERMINAL,
    WORKER_LOST,
    CancelRequestedError,
    LostLeaseError,
    State,
    held,
)

pytestmark = pytest.mark.django_db


def queued_scan(number: int = 0) -> Scan:
    image = Image.objects.create(image_id=f"sha256:{number:064x}")
    return Scan.objects.create(image=image)


def let_the_lease_run_out(scan: Scan) -> None:
    Scan.objects.filter(pk=scan.pk).update(lease_until=timezone.now() - timedelta(days=1))


def test_a_queued_row_is_claimed_once():
    scan = queued_scan()
    first = Scan.objects.claim(scan.pk)
    assert first is not None
    assert (first.state, first.attempt, first.fence) == (State.RUNNING, 1, 1)
    assert Scan.objects.claim(scan.pk) is None


def test_a_row_whose_worker_died_is_claimed_by_another_and_the_dead_one_writes_nothing():
    scan = queued_scan()
    old = Scan.objects.claim(scan.pk)
    let_the_lease_run_out(scan)
    new = Scan.objects.claim(scan.pk)
    assert (new.attempt, new.fence) == (2, 2)
    assert not Scan.objects.end(scan.pk, fence=old.fence, state=State.SUCCEEDED)
    with pytest.raises(LostLeaseError):
        Scan.objects.heartbeat(scan.pk, fence=old.fence)
    with pytest.raises(LostLeaseError), transaction.atomic():
        held(Scan.objects.all(), scan.pk, old.fence)
    assert Scan.objects.end(scan.pk, fence=new.fence, state=State.SUCCEEDED)


def test_the_third_lost_attempt_is_the_last():
    scan = queued_scan()
    for _ in range(MAX_ATTEMPTS):
        claimed = Scan.objects.claim(scan.pk)
        assert claimed is not None
        let_the_lease_run_out(scan)
    assert Scan.objects.claim(scan.pk) is None


def test_a_passing_error_gives_the_row_back_until_its_attempts_are_used():
    scan = queued_scan()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claimed = Scan.objects.claim(scan.pk)
        again = Scan.objects.give_back(scan.pk, fence=claimed.fence, failure=WORKER_LOST)
        assert again == (attempt < MAX_ATTEMPTS)
    scan.refresh_from_db()
    assert scan.state == State.FAILED
    assert scan.failure == WORKER_LOST
    assert scan.finished_at is not None


def test_a_row_handed_over_to_the_next_part_of_its_work_begins_with_no_attempt_used():
    scan = queued_scan()
    for _ in range(2):
        claimed = Scan.objects.claim(scan.pk)
        Scan.objects.give_back(scan.pk, fence=claimed.fence, failure=WORKER_LOST)
    claimed = Scan.objects.claim(scan.pk)
    assert Scan.objects.hand_over(scan.pk, fence=claimed.fence, progress=70)
    scan.refresh_from_db()
    assert (scan.state, scan.attempt, scan.fence, scan.progress) == (State.QUEUED, 0, 3, 70)
    assert (scan.failure, scan.lease_until, scan.available_at) == (None, None, None)
    assert Scan.objects.claim(scan.pk).attempt == 1
    assert not Scan.objects.end(scan.pk, fence=claimed.fence, state=State.SUCCEEDED)


def test_a_row_that_is_to_stop_or_is_no_longer_ours_is_not_handed_over():
    scan = queued_scan()
    assert not Scan.objects.hand_over(scan.pk, fence=0)
    claimed = Scan.objects.claim(scan.pk)
    assert not Scan.objects.hand_over(scan.pk, fence=claimed.fence - 1)
    Scan.objects.filter(pk=scan.pk).update(cancel_requested=True)
    assert not Scan.objects.hand_over(scan.pk, fence=claimed.fence)
    assert Scan.objects.get(pk=scan.pk).state == State.RUNNING


def test_the_holder_learns_of_cancellation_at_its_next_heartbeat():
    scan = queued_scan()
    claimed = Scan.objects.claim(scan.pk)
    Scan.objects.filter(pk=scan.pk).update(cancel_requested=True)
    with pytest.raises(CancelRequestedError):
        Scan.objects.heartbeat(scan.pk, fence=claimed.fence, progress=10)


def test_a_cancelled_row_is_never_claimed():
    scan = queued_scan()
    Scan.objects.filter(pk=scan.pk).update(cancel_requested=True)
    assert Scan.objects.claim(scan.pk) is None


@pytest.mark.parametrize("end", TERMINAL)
@pytest.mark.parametrize("target", list(State))
def test_nothing_leaves_an_end(end, target):
    scan = queued_scan()
    with pytest.raises(ValueError, match="never goes"):
        Scan.objects.advance(scan.pk, fence=0, source=end, target=target)


def test_two_rows_of_one_image_are_never_active_together():
    scan = queued_scan()
    with pytest.raises(Exception, match="scan_one_active"), transaction.atomic():
        Scan.objects.create(image=scan.image)
    assert Scan.objects.active().count() == 1


def test_holding_a_row_needs_a_transaction(transactional_db):
    scan = queued_scan()
    claimed = Scan.objects.claim(scan.pk)
    assert not connection.in_atomic_block
    with pytest.raises(RuntimeError):
        held(Scan.objects.all(), scan.pk, claimed.fence)


class JobLife(RuleBasedStateMachine):
    """Workers that claim, beat, end, give back and die in any order; the row obeys only the last claimant."""

    fences = Bundle("fences")

    def __init__(self) -> None:
        super().__init__()
        Image.objects.all().delete()
        self.scan = queued_scan()
        self.newest_fence = 0
        self.end: str | None = None

    @rule(target=fences)
    def claim(self):
        claimed = Scan.objects.claim(self.scan.pk)
        if claimed is not None:
            assert self.end is None
            assert claimed.fence > self.newest_fence
            self.newest_fence = claimed.fence
        return self.newest_fence

    @rule(fence=fences)
    def beat(self, fence):
        try:
            Scan.objects.heartbeat(self.scan.pk, fence=fence)
        except LostLeaseError:
            return
        assert fence == self.newest_fence

    @rule(fence=fences)
    def finish(self, fence):
        if Scan.objects.end(self.scan.pk, fence=fence, state=State.SUCCEEDED):
            assert fence == self.newest_fence
            assert self.end is None
            self.end = State.SUCCEEDED

    @rule(fence=fences)
    def give_back(self, fence):
        if Scan.objects.give_back(self.scan.pk, fence=fence, failure=WORKER_LOST):
            assert fence == self.newest_fence
        elif Scan.objects.get(pk=self.scan.pk).state == State.FAILED:
            self.end = self.end or State.FAILED

    @rule(fence=fences)
    def hand_over(self, fence):
        if Scan.objects.hand_over(self.scan.pk, fence=fence):
            assert fence == self.newest_fence
            assert self.end is None

    @rule()
    def die(self):
        let_the_lease_run_out(self.scan)

    @invariant()
    def ends_stay_ends_and_attempts_are_bounded(self):
        row = Scan.objects.get(pk=self.scan.pk)
        assert row.attempt <= MAX_ATTEMPTS
        assert row.fence == self.newest_fence
        assert row.state == self.end if self.end else row.state in ACTIVE


def test_whatever_workers_do_the_row_has_one_holder_and_one_end():
    run_state_machine_as_test(
        JobLife, settings=hypothesis_settings(max_examples=40, stateful_step_count=15, deadline=None)
    )
