"""The scan pages: tasks while they run, one task, the quick scan, and who may do what."""

import pytest
from django.contrib.auth.models import Group, User
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from images.models import ArtifactKind, Image, Manifest
from repositories.credentials import Secret
from repositories.models import Registry, Repository, Tag
from scanning.models import Category, Scan, ScanTask, TaskTrigger
from scanning.parts import fail_categories
from scanning.services import request_scan
from scanning.summaries import refresh_summaries
from tcss.lifecycle import Failure, State

pytestmark = pytest.mark.django_db

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)
HOSTILE = "<script>alert(1)</script>{{7*7}}"


def person(name: str, role: str) -> Client:
    user = User.objects.create_user(name, password="a-long-enough-password")
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return person("operator", "Operator")


@pytest.fixture
def viewer() -> Client:
    return person("viewer", "Viewer")


def make_tags(count: int, *, licensed: bool = True, prefix: str = "shop/web") -> list[Tag]:
    registry, _ = Registry.objects.get_or_create(
        name="harbor",
        defaults={"address": "https://h.example", "username": "u", "password": Secret.of("p")},
    )
    repository, _ = Repository.objects.get_or_create(registry=registry, name=prefix, namespace="shop")
    tags = []
    for number in range(count):
        digest = f"sha256:{abs(hash((prefix, number))):064x}"[:71]
        image = Image.objects.create(image_id=digest, is_licensed=licensed)
        manifest = Manifest.objects.create(digest=digest, kind=ArtifactKind.IMAGE, image=image)
        tags.append(
            Tag.objects.create(
                registry=registry,
                repository=repository,
                repository_name=prefix,
                name=f"1.{number}",
                manifest=manifest,
                manifest_digest=digest,
                image=image,
                pushed_at=Now(),
            )
        )
    return tags


def make_task(count: int = 3) -> ScanTask:
    images = [tag.image_id for tag in make_tags(count)]
    return request_scan([pk for pk in images if pk], BOTH, TaskTrigger.QUICK, None, HOSTILE)


def fail(scan: Scan) -> None:
    failure = Failure("REG_AUTH", f"The account was refused {HOSTILE}.", "Check the password.")
    held = Scan.objects.claim(scan.pk)
    assert held is not None
    Scan.objects.end(held.pk, fence=held.fence, state=State.FAILED, failure=failure)
    fail_categories([held.pk], failure)
    refresh_summaries([held.image_id])


def test_the_first_page_of_tasks_leads_to_the_first_scan(operator: Client, viewer: Client) -> None:
    assert b"Nothing has been scanned yet" in operator.get("/scans/").content
    assert reverse("scanning:scan-new").encode() in operator.get("/scans/").content
    assert reverse("scanning:scan-new").encode() not in viewer.get("/scans/").content


def test_a_task_polls_while_it_is_under_way_and_not_after(operator: Client) -> None:
    task = make_task()
    for path in ("/scans/", f"/scans/{task.pk}/"):
        assert b"every 2s" in operator.get(path).content
    for scan in Scan.objects.all():
        fail(scan)
    for path in ("/scans/", f"/scans/{task.pk}/"):
        assert b"every 2s" not in operator.get(path).content


def test_a_task_shows_its_images_and_groups_failures_by_cause(operator: Client) -> None:
    task = make_task()
    for scan in Scan.objects.order_by("pk")[:2]:
        fail(scan)
    page = operator.get(f"/scans/{task.pk}/").content.decode()
    assert "2 images:" in page
    assert page.count("Check the password.") >= 1
    assert "shop/web:1.0" in page
    assert "2 of 3 images done" in page
    assert "<script>alert" not in page


def test_htmx_gets_the_part_and_a_person_the_page(operator: Client) -> None:
    task = make_task()
    part = operator.get(f"/scans/{task.pk}/", headers={"HX-Request": "true"}).content
    assert b"<html" not in part
    assert b'id="task"' in part
    assert b"<html" in operator.get(f"/scans/{task.pk}/").content


def test_cancelling_a_task_ends_what_waits(operator: Client) -> None:
    task = make_task()
    response = operator.post(f"/scans/{task.pk}/cancel/")
    assert (response.status_code, response["Location"]) == (303, f"/scans/{task.pk}/")
    assert set(Scan.objects.values_list("state", flat=True)) == {State.CANCELLED}
    assert operator.post(f"/scans/{task.pk}/cancel/").status_code == 303


def test_what_failed_is_scanned_again_as_a_task_of_its_own(operator: Client) -> None:
    task = make_task()
    for scan in Scan.objects.order_by("pk"):
        fail(scan) if scan.pk % 2 else None
    failed = Scan.objects.filter(state=State.FAILED).count()
    response = operator.post(f"/scans/{task.pk}/retry/")
    again = ScanTask.objects.latest("pk")
    assert response["Location"] == f"/scans/{again.pk}/"
    assert again.items.count() == failed > 0


def test_the_quick_scan_tells_before_it_starts_what_it_will_do(operator: Client) -> None:
    licensed = make_tags(3)
    make_tags(2, licensed=False, prefix="shop/api")
    Tag.objects.create(
        registry=licensed[0].registry, repository=licensed[0].repository, repository_name="shop/web",
        name="again", manifest=licensed[0].manifest, manifest_digest=licensed[0].manifest_digest,
        image=licensed[0].image, pushed_at=Now(),
    )  # fmt: skip
    response = operator.get("/scans/new/")
    choice = response.context["choice"]
    assert (choice.versions, choice.outcome.images) == (6, 5)
    assert (choice.outcome.licensed, choice.outcome.unlicensed) == (3, 2)
    response = operator.post("/scans/new/", {"category": ["vulnerabilities"], "images": "all"})
    task = ScanTask.objects.get()
    assert response["Location"] == f"/scans/{task.pk}/"
    assert (task.categories, task.scope, task.trigger) == (
        ["vulnerabilities"],
        "All images",
        TaskTrigger.QUICK,
    )
    assert Scan.objects.count() == 3


def test_specified_images_are_searched_chosen_and_scanned(operator: Client) -> None:
    tags = make_tags(4)
    make_tags(2, prefix="shop/api")
    data = {"category": ["sensitive"], "images": "specified", "q": "api", "tag": [tags[1].pk]}
    choice = operator.get("/scans/new/", data).context["choice"]
    assert [tag.pk for tag in choice.chosen] == [tags[1].pk]
    assert {tag.repository_name for tag in choice.listed} == {"shop/api"}
    operator.post("/scans/new/", {**data, "tag": [tags[1].pk, tags[2].pk]})
    scanned = set(Scan.objects.values_list("image_id", flat=True))
    assert scanned == {tags[1].image_id, tags[2].image_id}
    assert ScanTask.objects.get().scope == "2 specified image versions"


@pytest.mark.parametrize(
    "data",
    [
        {"images": "all"},
        {"category": ["rootkits"], "images": "all"},
        {"category": ["vulnerabilities"], "images": "some"},
        {"category": ["vulnerabilities"], "images": "specified"},
        {"category": ["vulnerabilities"], "images": "specified", "tag": ["x", "-1", "9" * 30, "1 OR 1"]},
        {"category": ["vulnerabilities"], "images": "all", "q": "a\x00b"},
    ],
)
def test_settings_that_make_no_sense_start_nothing(operator: Client, data: dict[str, object]) -> None:
    make_tags(2)
    response = operator.post("/scans/new/", data)
    assert response.status_code == 422
    assert not ScanTask.objects.exists()


def test_without_a_licensed_image_nothing_can_be_started(operator: Client) -> None:
    make_tags(2, licensed=False)
    assert b"None of these images is licensed" in operator.get("/scans/new/").content
    response = operator.post("/scans/new/", {"category": ["vulnerabilities"], "images": "all"})
    assert response.status_code == 422
    assert not ScanTask.objects.exists()


def test_a_viewer_looks_and_does_not_touch(viewer: Client) -> None:
    task = make_task()
    page = viewer.get(f"/scans/{task.pk}/")
    assert page.status_code == 200
    assert b"/cancel/" not in page.content
    assert viewer.get("/scans/new/").status_code == 403
    for path in ("/scans/new/", f"/scans/{task.pk}/cancel/", f"/scans/{task.pk}/retry/"):
        assert viewer.post(path, {"category": ["vulnerabilities"], "images": "all"}).status_code == 403
    assert not Scan.objects.exclude(state=State.QUEUED).exists()


def test_strangers_are_led_to_the_login(client: Client) -> None:
    for path in ("/scans/", "/scans/1/", "/scans/new/"):
        assert client.get(path)["Location"].startswith("/login/")


@pytest.mark.parametrize("path", ["/scans/0/", "/scans/999999/", "/scans/99999999999999999999/"])
def test_a_task_that_is_not_there_is_not_found(operator: Client, path: str) -> None:
    assert operator.get(path).status_code == 404


@pytest.mark.parametrize("query", ["before=x", "before=-1", "before=" + "9" * 30, "before=0"])
def test_strange_addresses_of_the_list_are_no_error(operator: Client, query: str) -> None:
    make_task()
    assert operator.get(f"/scans/?{query}").status_code == 200


def test_the_pages_cost_the_same_whatever_they_show(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    task = make_task(60)
    for _ in range(25):
        ScanTask.objects.create(trigger=TaskTrigger.QUICK, categories=["vulnerabilities"], scope="x")
    with django_assert_max_num_queries(7):
        operator.get("/scans/")
    with django_assert_max_num_queries(12):
        page = operator.get(f"/scans/{task.pk}/")
    assert page.context["page"].next_offset == 50
    with django_assert_max_num_queries(12):
        assert len(operator.get(f"/scans/{task.pk}/?offset=50").context["page"].rows) == 10
    with django_assert_max_num_queries(12):
        operator.get("/scans/new/?images=specified&category=vulnerabilities")
