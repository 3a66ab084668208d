"""Scans whose registry refuses the stored password: they end with that cause, and do not lock the account."""

import pytest

from demo.faults import Fault
from repositories.credentials import Secret
from repositories.models import LOGIN_TRIES, Health, Registry
from repositories.registries import client
from scanning import pipeline
from scanning.models import Category, Scan, TaskTrigger
from scanning.services import request_scan
from tcss.lifecycle import State
from tests.scanning.world import World


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def test_many_scans_try_a_refused_password_three_times_and_no_more(world: World) -> None:
    world.registry.password = Secret.of("changed in the registry")
    world.registry.save()
    # To others Harbor gives a token that opens the public projects only.
    images = [image for name, image in world.names().items() if name.startswith(("shop/", "payments/"))]
    assert len(images) > LOGIN_TRIES + 2
    request_scan([each.pk for each in images], [Category.SENSITIVE], TaskTrigger.MANUAL, None, "test")
    asked = []
    for pk in Scan.objects.order_by("pk").values_list("pk", flat=True):
        before = len(world.server.requests)
        pipeline.run(pk)
        asked.append(len(world.server.requests) - before)
    assert all(asked[:LOGIN_TRIES])
    assert not any(asked[LOGIN_TRIES:])
    scans = Scan.objects.all()
    assert {(scan.state, scan.error_code) for scan in scans} == {(State.FAILED, "REG_AUTH")}
    assert scans.filter(error_reason__contains="not asked any more").count() == len(images) - LOGIN_TRIES
    registry = Registry.objects.get()
    assert (registry.health, registry.refused_logins) == (Health.FAILING, LOGIN_TRIES)


def test_a_login_refused_for_pulling_alone_is_counted_though_listing_works(world: World) -> None:
    # As with CCR, where listing goes by another account.
    world.server.faults.add(Fault(match="/service/token", status=401, times=None))
    images = list(world.names().values())[: LOGIN_TRIES + 1]
    request_scan([each.pk for each in images], [Category.SENSITIVE], TaskTrigger.MANUAL, None, "test")
    before = len(world.server.requests)
    for pk in Scan.objects.order_by("pk").values_list("pk", flat=True):
        pipeline.run(pk)
    asked = [seen for seen in world.server.requests[before:] if seen.path.startswith("/service/token")]
    assert len(asked) == LOGIN_TRIES
    assert not any(seen.path.startswith("/api/") for seen in world.server.requests[before:])
    registry = Registry.objects.get()
    assert (registry.health, registry.refused_logins) == (Health.FAILING, LOGIN_TRIES)
