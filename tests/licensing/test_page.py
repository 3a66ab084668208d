"""The licenses page: what there is, what is left, who licensed what."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from images.models import ArtifactKind, Image, Manifest
from licensing import listing, services
from licensing.models import Entitlement, EntitlementKind
from repositories.credentials import Secret
from repositories.models import Registry, Repository, Tag

pytestmark = pytest.mark.django_db

PAGE = "/licenses/"


@pytest.fixture
def viewer(client: Client) -> Client:
    user = User.objects.create_user("vera")
    user.groups.add(Group.objects.get(name="Viewer"))
    client.force_login(user)
    return client


def tagged_images(count: int) -> list[int]:
    registry = Registry.objects.create(
        name="main", address="https://r", username="u", password=Secret.of("p")
    )
    repository = Repository.objects.create(registry=registry, name="shop/api", namespace="shop")
    pks = []
    for number in range(count):
        image = Image.objects.create(image_id=f"sha256:{number:064x}")
        manifest = Manifest.objects.create(
            digest=f"sha256:{number + 10_000:064x}", kind=ArtifactKind.IMAGE, image=image
        )
        Tag.objects.create(
            registry=registry,
            repository=repository,
            repository_name="shop/api",
            name=f"v{number}",
            manifest=manifest,
            manifest_digest=manifest.digest,
            image=image,
            pushed_at=timezone.now(),
        )
        pks.append(image.pk)
    return pks


def test_a_fresh_installation_comes_with_a_thousand_licenses(viewer: Client) -> None:
    page = viewer.get(PAGE).content.decode()
    assert "Built in" in page
    assert "0 of 1,000" in page
    assert "No license has been assigned" in page


def test_the_page_shows_use_and_who_licensed_which_image(viewer: Client) -> None:
    pks = tagged_images(3)
    services.assign(pks[:2], User.objects.get(username="vera"))
    page = viewer.get(PAGE).content.decode()
    assert "2 of 1,000" in page
    assert "shop/api:v0" in page
    assert "shop/api:v2" not in page
    assert "<bdi>vera</bdi>" in page


def test_validity_is_said_in_words(viewer: Client) -> None:
    now = timezone.now()
    Entitlement.objects.create(
        kind=EntitlementKind.TRIAL, quantity=5, starts_at=now - timedelta(9), ends_at=now - timedelta(2)
    )
    Entitlement.objects.create(kind=EntitlementKind.PURCHASED, quantity=5, starts_at=now + timedelta(2))
    page = viewer.get(PAGE).content.decode()
    for word in ("Valid", "Ended", "Not begun", "Does not end"):
        assert f">{word}<" in page


def test_running_out_of_licenses_is_said(viewer: Client) -> None:
    Entitlement.objects.all().delete()
    page = viewer.get(PAGE).content.decode()
    assert "No license is left" in page
    assert "There is no entitlement" in page


def test_the_log_is_paged_and_leads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 2)
    pks = tagged_images(5)
    services.assign(pks, None)
    shown = []
    page = listing.assignment_page()
    pages = [page]
    while page.older_than is not None:
        page = listing.assignment_page(older_than=page.older_than)
        pages.append(page)
    shown = [assignment.image_id for page in pages for assignment in page.assignments]
    assert sorted(shown) == pks
    assert len(shown) == 5
    assert pages[0].newer_than is None
    assert listing.assignment_page(newer_than=pages[2].newer_than).assignments == pages[1].assignments
    assert listing.assignment_page(newer_than=pages[1].newer_than).assignments == pages[0].assignments
    assert listing.assignment_page(newer_than=pages[1].newer_than).newer_than is None


@pytest.mark.parametrize(
    "query", ["older=abc", "older=-1", "newer=999999999999999999", "older=" + "9" * 400, "older=¹"]
)
def test_a_senseless_position_shows_the_newest_or_nothing(viewer: Client, query: str) -> None:
    services.assign(tagged_images(1), None)
    assert viewer.get(f"{PAGE}?{query}").status_code == 200


def test_the_number_of_queries_does_not_grow_with_the_rows(
    viewer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    services.assign(tagged_images(40), User.objects.get(username="vera"))
    with django_assert_max_num_queries(12):
        viewer.get(PAGE)


def test_somebody_without_a_role_sees_nothing(client: Client) -> None:
    client.force_login(User.objects.create_user("nobody"))
    assert client.get(PAGE).status_code == 403


def test_only_support_is_led_to_adding_entitlements(viewer: Client) -> None:
    address = "/admin/licensing/entitlement/add/"
    assert address not in viewer.get(PAGE).content.decode()
    viewer.force_login(User.objects.create_superuser("root"))
    assert address in viewer.get(PAGE).content.decode()


@pytest.fixture
def support(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def entered(**fields: object) -> dict[str, object]:
    """The admin's form, filled in."""
    return {
        "kind": "purchased",
        "quantity": 10,
        "starts_at_0": "2026-01-01",
        "starts_at_1": "00:00:00",
        "ends_at_0": "",
        "ends_at_1": "",
        "note": "",
        **fields,
    }


def test_support_adds_an_entitlement(support: Client) -> None:
    response = support.post("/admin/licensing/entitlement/add/", entered(quantity=25, used=7))
    assert response.status_code == 302
    added = Entitlement.objects.get(kind=EntitlementKind.PURCHASED)
    assert (added.quantity, added.used) == (25, 0)


def test_the_built_in_entitlement_is_not_made_twice(support: Client) -> None:
    response = support.post("/admin/licensing/entitlement/add/", entered(kind="built_in"))
    assert response.status_code == 200
    assert Entitlement.objects.count() == 1


def test_seats_taken_while_support_types_are_kept(support: Client) -> None:
    entitlement = Entitlement.objects.get()
    address = f"/admin/licensing/entitlement/{entitlement.pk}/change/"
    support.get(address)
    services.assign(tagged_images(3), None)
    response = support.post(address, entered(kind="built_in", quantity=500, used=0))
    assert response.status_code == 302
    entitlement.refresh_from_db()
    assert (entitlement.quantity, entitlement.used) == (500, 3)


def test_a_quantity_below_what_is_taken_is_refused_with_the_number(support: Client) -> None:
    services.assign(tagged_images(3), None)
    entitlement = Entitlement.objects.get()
    address = f"/admin/licensing/entitlement/{entitlement.pk}/change/"
    response = support.post(address, entered(kind="built_in", quantity=2))
    assert response.status_code == 200
    assert "3 of its licenses are taken" in response.content.decode()


def test_an_end_before_the_start_is_refused(support: Client) -> None:
    response = support.post(
        "/admin/licensing/entitlement/add/", entered(ends_at_0="2025-01-01", ends_at_1="00:00:00")
    )
    assert response.status_code == 200
    assert Entitlement.objects.count() == 1


def test_nobody_deletes_an_entitlement_or_an_assignment(support: Client) -> None:
    services.assign(tagged_images(1), None)
    entitlement = Entitlement.objects.get()
    assert (
        support.post(f"/admin/licensing/entitlement/{entitlement.pk}/delete/", {"post": "yes"}).status_code
        == 403
    )
    assignment = entitlement.assignments.get()
    address = f"/admin/licensing/licenseassignment/{assignment.pk}"
    assert support.post(f"{address}/delete/", {"post": "yes"}).status_code == 403
    assert support.post(f"{address}/change/", {"image": 1}).status_code == 403


def test_staff_without_the_permission_changes_nothing(client: Client) -> None:
    user = User.objects.create_user("sam", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_entitlement"))
    client.force_login(user)
    entitlement = Entitlement.objects.get()
    address = f"/admin/licensing/entitlement/{entitlement.pk}/change/"
    assert client.get(address).status_code == 200
    assert client.post(address, entered(kind="built_in")).status_code == 403
    assert client.get("/admin/licensing/entitlement/add/").status_code == 403
