"""Whose turn it is when a worker is free: urgent before old, registries in turn, however many wait."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from images.models import ArtifactKind, Image, Manifest
from repositories.credentials import Secret
from repositories.models import Registry, Repository, Tag
from scanning import pipeline, turns
from scanning.models import Category, Part, Scan, TaskTrigger
from scanning.services import request_scan
from scanning.turns import next_in_line
from tcss.lifecycle import State

URGENT, LATER = 0, 9
_numbers = iter(range(10**9))


def registry(name: str) -> Registry:
    return Registry.objects.create(
        name=name, address=f"https://{name}.example.com", username="robot", password=Secret.of("secret")
    )


def image() -> Image:
    return Image.objects.create(image_id=f"sha256:{next(_numbers):064x}", is_licensed=True)


def waiting(of: Registry | None = None, priority: int = URGENT, **fields: Any) -> Scan:
    return Scan.objects.create(image=image(), registry=of, priority=priority, **fields)


def running(of: Registry | None = None, **fields: Any) -> Scan:
    claimed = Scan.objects.claim(waiting(of, **fields).pk)
    assert claimed is not None
    return claimed


def taken(count: int) -> list[int]:
    """The next scans in line, each claimed."""
    found = []
    for _ in range(count):
        scan_pk = next_in_line(Part.CONTENT)
        assert scan_pk is not None
        assert Scan.objects.claim(scan_pk) is not None
        found.append(scan_pk)
    return found


@pytest.mark.django_db
def test_what_a_person_waits_for_overtakes_older_scans_of_every_registry() -> None:
    busy, idle = registry("busy"), registry("idle")
    old = [waiting(of, LATER) for of in (idle, busy, None)]
    running(busy)
    asked = waiting(busy, URGENT)
    assert taken(1) == [asked.pk]
    assert next_in_line(Part.CONTENT) == old[0].pk


@pytest.mark.django_db
def test_registries_take_turns_and_each_has_its_oldest_scan_first() -> None:
    first, second = registry("first"), registry("second")
    of_first = [waiting(first).pk for _ in range(4)]
    of_second = [waiting(second).pk for _ in range(2)]
    assert taken(6) == [of_first[0], of_second[0], of_first[1], of_second[1], of_first[2], of_first[3]]
    assert next_in_line(Part.CONTENT) is None


@pytest.mark.django_db
def test_a_registry_with_scans_at_work_lets_one_with_fewer_go_first() -> None:
    busy, idle = registry("busy"), registry("idle")
    running(busy)
    waiting(busy)
    later = waiting(idle)
    assert next_in_line(Part.CONTENT) == later.pk


@pytest.mark.django_db
def test_scans_of_images_that_no_registry_names_take_turns_too() -> None:
    named = registry("named")
    pks = [waiting(of).pk for of in (None, None, named)]
    assert taken(3) == [pks[0], pks[2], pks[1]]


@pytest.mark.django_db
def test_a_scan_that_waits_for_a_time_is_passed_over_until_then() -> None:
    one = registry("one")
    until = timezone.now() + timedelta(hours=1)
    later = waiting(one, available_at=until)
    assert next_in_line(Part.CONTENT) is None
    younger = waiting(one)
    assert next_in_line(Part.CONTENT) == younger.pk
    Scan.objects.filter(pk=later.pk).update(available_at=Now())
    assert next_in_line(Part.CONTENT) == later.pk


@pytest.mark.django_db
def test_each_part_has_a_line_and_running_scans_of_its_own() -> None:
    first, second = registry("first"), registry("second")
    running(first, part=Part.MALWARE)
    content = waiting(first)
    waiting(second)
    malware = [waiting(of, part=Part.MALWARE) for of in (first, second)]
    assert next_in_line(Part.CONTENT) == content.pk
    assert next_in_line(Part.MALWARE) == malware[1].pk


@pytest.mark.django_db
def test_what_cannot_be_claimed_does_not_stand_in_the_way() -> None:
    one = registry("one")
    waiting(one, cancel_requested=True)
    able = waiting(one)
    assert taken(1) == [able.pk]
    assert next_in_line(Part.CONTENT) is None


@pytest.mark.django_db
def test_a_scan_takes_the_turn_of_the_registry_that_was_pushed_to_last() -> None:
    old, new = registry("old"), registry("new")
    tagged, untagged = image(), image()
    manifest = Manifest.objects.create(digest=f"sha256:{1:064x}", kind=ArtifactKind.IMAGE)
    for of, hours in ((old, 2), (new, 1)):
        repository = Repository.objects.create(registry=of, name="a/b", namespace="a")
        Tag.objects.create(
            registry=of,
            repository=repository,
            repository_name=repository.name,
            name="1",
            manifest=manifest,
            manifest_digest=manifest.digest,
            image=tagged,
            pushed_at=timezone.now() - timedelta(hours=hours),
        )
    request_scan([tagged.pk, untagged.pk], [Category.MALWARE], TaskTrigger.MANUAL, None, "test")
    assert Scan.objects.get(image=tagged).registry == new
    assert Scan.objects.get(image=untagged).registry is None


def read_rows(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each step of a plan took from a table."""
    if plan.get("Relation Name") == "scanning_scan":
        yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for below in plan.get("Plans", ()):
        yield from read_rows(below)


@pytest.mark.django_db
def test_ten_thousand_waiting_scans_are_not_read_to_find_the_next() -> None:
    crowded, small = registry("crowded"), registry("small")
    images = Image.objects.bulk_create(Image(image_id=f"sha256:{next(_numbers):064x}") for _ in range(10_000))
    until = timezone.now() + timedelta(hours=1)
    Scan.objects.bulk_create(
        Scan(image=each, registry=crowded, priority=LATER, available_at=until if number % 2 else None)
        for number, each in enumerate(images)
    )
    running(crowded)
    next_one = waiting(small, LATER)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE scanning_scan")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {turns._NEXT}", {"part": Part.CONTENT, "attempts": 3})
        [answer] = cursor.fetchone()
    [explained] = json.loads(answer) if isinstance(answer, str) else answer
    assert sum(read_rows(explained["Plan"])) < 50
    assert next_in_line(Part.CONTENT) == next_one.pk


@pytest.mark.django_db
def test_a_worker_takes_the_scan_whose_turn_it_is_and_not_the_one_it_was_rung_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    monkeypatch.setattr(pipeline, "_do", lambda scan: done.append(scan.pk))
    rung_for, urgent = waiting(None, LATER), waiting(None, URGENT)
    for _ in range(3):
        pipeline.answer(Part.CONTENT)
    assert done == [urgent.pk, rung_for.pk]


@pytest.mark.django_db(transaction=True)
def test_workers_that_are_rung_at_once_take_a_scan_each(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(pipeline, "_do", lambda scan: done.append(scan.pk))
    pks = [waiting().pk for _ in range(8)]

    def hear(_: int) -> None:
        try:
            pipeline.answer(Part.CONTENT)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hear, range(8)))
    assert sorted(done) == pks
    assert set(Scan.objects.values_list("state", "attempt")) == {(State.RUNNING, 1)}
