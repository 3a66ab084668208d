"""Image repository management: list, form, connection test, data update, delete, and who may do what."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from demo.faults import html_page
from demo.images import OPERATOR
from demo.server import DemoServer
from images.models import Image
from images.panel import data_update
from repositories import tasks
from repositories.forms import RegistryForm
from repositories.listing import registry_rows
from repositories.models import Health, Registry, Sync, SyncTrigger, Tag
from repositories.sync import run
from repositories.updates import request_sync
from tcss.lifecycle import State

LIST = "/registries/"
ADD = "/registries/add/"
HTMX = {"HX-Request": "true"}

pytestmark = pytest.mark.django_db


def client_of(role: str) -> Client:
    user = User.objects.create_user(role)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return client_of("Operator")


@pytest.fixture
def entered(demo: DemoServer, password: str) -> dict[str, str]:
    """What somebody types to connect the demo registry."""
    return {
        "name": "Production",
        "kind": "harbor",
        "version": "V2",
        "network": "public",
        "region": "default",
        "address": demo.url,
        "username": OPERATOR,
        "password": password,
        "hourly_pull_limit": "",
        "verify_tls": "on",
        "custom_ca": "",
        "action": "save",
    }


def test_an_empty_console_leads_to_adding_an_image_repository(operator: Client) -> None:
    page = operator.get(LIST).content.decode()
    assert "No image repository yet" in page
    assert f'href="{ADD}"' in page


def test_the_form_has_every_field_of_the_product_with_its_default(operator: Client) -> None:
    form = operator.get(ADD).context["form"]
    assert [str(field.label).lower() for field in form] == [
        "instance name",
        "repository type",
        "version",
        "network type",
        "region",
        "address",
        "username",
        "password",
        "limit",
        "validate remote certificates",
        "custom ca",
    ]
    assert [value for value, _ in form.fields["hourly_pull_limit"].choices] == [
        "",
        "5",
        "10",
        "20",
        "50",
        "100",
        "500",
        "1000",
    ]
    assert form["verify_tls"].value() is True
    assert form["version"].value() == "V2"


def test_a_working_connection_is_saved_and_its_data_update_begins(
    operator: Client, entered: dict[str, str]
) -> None:
    answer = operator.post(ADD, entered)
    assert (answer.status_code, answer["Location"]) == (302, LIST)
    registry = Registry.objects.get()
    assert (registry.name, registry.health, registry.hourly_pull_limit) == (
        "Production",
        Health.HEALTHY,
        None,
    )
    assert registry.password.reveal() == entered["password"]
    assert registry.syncs.get().state == State.QUEUED
    page = operator.get(LIST).content.decode()
    assert "Connected" in page
    assert "Unencrypted" in page


def test_htmx_is_sent_to_the_list_after_saving(operator: Client, entered: dict[str, str]) -> None:
    assert operator.post(ADD, entered, headers=HTMX)["HX-Redirect"] == LIST


def test_testing_shows_the_steps_and_saves_nothing(operator: Client, entered: dict[str, str]) -> None:
    page = operator.post(ADD, {**entered, "action": "test"}, headers=HTMX).content.decode()
    for step in ("Address", "Host name", "Connection", "Certificate", "API version", "Login"):
        assert f">{step}</th>" in page
    assert "The connection works." in page
    assert "<html" not in page
    assert not Registry.objects.exists()


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"password": "not-the-password"}, "REG_AUTH", "username and password"),
        ({"username": "nobody"}, "REG_AUTH", "username and password"),
        ({"address": "http://127.0.0.1:9"}, "REG_CONNECT", "could not be reached"),
        ({"address": "http://no-such-host.invalid"}, "REG_DNS", "DNS"),
        ({"address": "http://169.254.169.254"}, "REG_BLOCKED_ADDR", "may not connect"),
        ({"address": "https://10.1.2.3"}, "REG_BLOCKED_ADDR", "TCSS_ALLOWED_NETWORKS"),
    ],
)
def test_a_connection_that_does_not_work_says_why_and_what_to_do(
    operator: Client, entered: dict[str, str], changes: dict[str, str], code: str, word: str
) -> None:
    page = operator.post(ADD, {**entered, **changes}, headers=HTMX).content.decode()
    assert code in page
    assert word in page
    assert "notice__remedy" in page
    assert "Save all the same" in page
    assert not Registry.objects.exists()


def test_a_web_page_instead_of_the_api_is_told_apart(
    operator: Client, entered: dict[str, str], demo: DemoServer
) -> None:
    demo.faults.add(html_page("GET /api/", times=None))
    page = operator.post(ADD, entered, headers=HTMX).content.decode()
    assert "REG_PROTOCOL" in page
    assert "web page, not the registry&#x27;s API" in page
    assert "502 Bad Gateway" not in page


def test_a_connection_that_does_not_work_may_be_saved_all_the_same(
    operator: Client, entered: dict[str, str]
) -> None:
    operator.post(ADD, {**entered, "password": "wrong", "action": "save-anyway"})
    registry = Registry.objects.get()
    assert (registry.health, registry.health_code) == (Health.FAILING, "REG_AUTH")
    page = operator.get(LIST).content.decode()
    assert registry.health_reason in page
    assert registry.health_remedy in page


def test_a_name_is_taken_whatever_its_case(
    operator: Client, entered: dict[str, str], registry: Registry
) -> None:
    page = operator.post(ADD, {**entered, "name": registry.name.upper()}).content.decode()
    assert "This instance name is taken." in page
    assert Registry.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "   ", "required"),
        ("kind", "quay", "not one of the available choices"),
        ("hourly_pull_limit", "7", "not one of the available choices"),
        ("username", "a:b", "no colon"),
        ("custom_ca", "nonsense", "no certificate"),
        ("custom_ca", "-----BEGIN CERTIFICATE----- é", "no certificate"),
        ("address", "harbor.example.org", "https://"),
        ("address", "https://u:p@harbor.example.org", "account out of the address"),
        ("password", "", "required"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_asked_of_any_server(
    entered: dict[str, str], demo: DemoServer, field: str, value: str, sentence: str
) -> None:
    form = RegistryForm({**entered, field: value})
    assert not form.is_valid()
    assert sentence in " ".join(form.errors[field])
    assert demo.requests == []


def test_an_empty_password_keeps_the_stored_one(
    operator: Client, entered: dict[str, str], registry: Registry, password: str
) -> None:
    edit = f"/registries/{registry.pk}/edit/"
    operator.post(edit, {**entered, "name": "Renamed", "password": ""})
    registry.refresh_from_db()
    assert (registry.name, registry.password.reveal()) == ("Renamed", password)


@pytest.mark.parametrize("change", [{"address": "https://other.example.org"}, {"username": "somebody"}])
def test_a_changed_address_or_username_demands_the_password(
    operator: Client, entered: dict[str, str], registry: Registry, demo: DemoServer, change: dict[str, str]
) -> None:
    edit = f"/registries/{registry.pk}/edit/"
    page = operator.post(edit, {**entered, **change, "password": "", "action": "test"}).content.decode()
    assert "Enter the password again" in page
    assert demo.requests == []
    registry.refresh_from_db()
    assert (registry.address, registry.username) == (demo.url, OPERATOR)


def test_no_page_holds_the_password(operator: Client, entered: dict[str, str], registry: Registry) -> None:
    secrets = (entered["password"], registry.password.stored)
    pages = [
        operator.get(LIST),
        operator.get(f"/registries/{registry.pk}/"),
        operator.get(f"/registries/{registry.pk}/edit/"),
        operator.post(f"/registries/{registry.pk}/test/"),
        operator.post(ADD, {**entered, "name": ""}),
        operator.post(ADD, {**entered, "action": "test"}),
    ]
    for page in pages:
        assert page.status_code == 200
        assert not any(secret in page.content.decode() for secret in secrets)


def test_support_sees_no_password_in_the_admin(client: Client, registry: Registry) -> None:
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(f"/admin/repositories/registry/{registry.pk}/change/").content.decode()
    assert registry.address in page
    assert registry.password.stored not in page
    assert "assword" not in page.split("<main", 1)[-1].split("</main>")[0].replace("password_change", "")


def test_an_active_data_update_polls_and_an_ended_one_does_not(operator: Client, registry: Registry) -> None:
    row = f"/registries/{registry.pk}/"
    headers = {**HTMX, "HX-Target": f"registry-{registry.pk}"}
    begun = operator.post(f"{row}sync/", headers=headers).content.decode()
    assert 'hx-trigger="every 2s"' in begun
    assert "Queued" in begun
    again = operator.post(f"{row}sync/", headers=headers)
    assert again.status_code == 200
    sync = Sync.objects.get()
    run(sync.pk)
    ended = operator.get(row, headers=headers).content.decode()
    assert "hx-trigger" not in ended
    assert "Succeeded" in ended
    assert str(Tag.objects.count()) in ended


def ended(registry: Registry, state: State, *, days_ago: int = 0, **fields: object) -> Sync:
    moment = timezone.now() - timedelta(days=days_ago)
    words = {"trigger": SyncTrigger.MANUAL, "started_at": moment, "finished_at": moment, **fields}
    return Sync.objects.create(registry=registry, state=state, **words)


def test_a_data_update_by_webhook_does_not_cover_up_that_the_last_of_everything_failed(
    operator: Client, registry: Registry
) -> None:
    whole = ended(registry, State.FAILED)
    by_webhook = {"trigger": SyncTrigger.WEBHOOK, "is_partial": True}
    ended(registry, State.SUCCEEDED, repositories_total=3, **by_webhook)
    ended(registry, State.SUCCEEDED, repositories_total=1, **by_webhook)
    (row,) = registry_rows(Registry.objects.all())
    assert row.latest is not None
    assert row.latest.sync == whole
    assert data_update([registry]).failed == (whole,)
    page = operator.get(f"/registries/{registry.pk}/").content.decode()
    assert page.count("By webhook<") == 2
    assert "3 repositories</span>" in page
    assert "1 repository</span>" in page
    active = Sync.objects.create(registry=registry, **by_webhook)
    (row,) = registry_rows(Registry.objects.all())
    assert row.latest is not None
    assert row.latest.sync == active
    assert "By webhook ·" in operator.get(f"/registries/{registry.pk}/").content.decode()


def test_a_registry_of_which_only_webhooks_told_was_never_updated(registry: Registry) -> None:
    ended(registry, State.SUCCEEDED, is_partial=True)
    (row,) = registry_rows(Registry.objects.all())
    assert row.latest is None


def test_data_updates_of_long_ago_are_forgotten_but_for_the_last_ones_of_everything(
    registry: Registry, make_registry: Callable[..., Registry]
) -> None:
    other = make_registry("https://other.example.org")
    ended(registry, State.SUCCEEDED, days_ago=60, is_complete=True)
    complete = ended(registry, State.SUCCEEDED, days_ago=50, is_complete=True)
    ended(registry, State.FAILED, days_ago=45)
    whole = ended(registry, State.FAILED, days_ago=40)
    ended(registry, State.SUCCEEDED, days_ago=31, is_partial=True)
    recent = ended(registry, State.SUCCEEDED, days_ago=29, is_partial=True)
    ended(other, State.SUCCEEDED, days_ago=35, is_partial=True)
    active = Sync.objects.create(registry=other, trigger=SyncTrigger.MANUAL)
    tasks.purge()
    assert set(Sync.objects.all()) == {complete, whole, recent, active}


def test_a_waiting_data_update_is_cancelled(operator: Client, registry: Registry) -> None:
    sync = request_sync(registry, SyncTrigger.MANUAL)
    operator.post(f"/registries/{registry.pk}/cancel/")
    sync.refresh_from_db()
    assert sync.state == State.CANCELLED


def test_all_image_repositories_are_updated_at_once(
    operator: Client, demo: DemoServer, make_registry: Callable[..., Registry]
) -> None:
    first, second = make_registry(demo.url), make_registry(demo.url)
    joined = request_sync(first, SyncTrigger.MANUAL)
    operator.post("/registries/sync/")
    assert list(Sync.objects.order_by("pk").values_list("registry", flat=True)) == [first.pk, second.pk]
    assert Sync.objects.earliest("pk") == joined


def test_a_data_update_of_what_is_deleted_in_the_same_moment_is_not_found(
    operator: Client, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> Sync:
        raise Registry.DoesNotExist

    monkeypatch.setattr("repositories.views.request_sync", too_late)
    assert operator.post(f"/registries/{registry.pk}/sync/").status_code == 404


@pytest.mark.parametrize(
    ("back", "leads_to"),
    [
        ("/images/", "/images/"),
        ("", "/registries/"),
        ("//evil.example", "/registries/"),
        ("/\\evil", "/registries/"),
    ],
)
def test_a_data_update_of_all_leads_back_to_the_page_it_was_asked_for_on(
    operator: Client, back: str, leads_to: str
) -> None:
    response = operator.post("/registries/sync/", {"back": back})
    assert (response.status_code, response["Location"]) == (303, leads_to)


def test_deleting_says_what_goes_and_what_stays(operator: Client, registry: Registry) -> None:
    run(request_sync(registry, SyncTrigger.MANUAL).pk)
    images = set(Tag.objects.exclude(image=None).values_list("image", flat=True))
    delete = f"/registries/{registry.pk}/delete/"
    page = operator.get(delete).content.decode()
    assert f"{Tag.objects.count()} image versions" in page
    assert "What stays" in page
    operator.post(delete)
    assert not Registry.objects.exists()
    assert not Tag.objects.exists()
    assert set(Image.objects.values_list("pk", flat=True)) == images


def test_a_row_of_a_deleted_image_repository_stops_asking(operator: Client, registry: Registry) -> None:
    pk = registry.pk
    registry.delete()
    answer = operator.get(f"/registries/{pk}/", headers={**HTMX, "HX-Target": f"registry-{pk}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert operator.get(f"/registries/{pk}/").status_code == 404


def test_a_viewer_looks_and_changes_nothing(registry: Registry) -> None:
    viewer = client_of("Viewer")
    page = viewer.get(LIST)
    assert page.status_code == 200
    assert "Data update</button>" not in page.content.decode()
    assert viewer.get(f"/registries/{registry.pk}/").status_code == 200
    for path in ("add/", f"{registry.pk}/edit/", f"{registry.pk}/delete/"):
        assert viewer.get(f"{LIST}{path}").status_code == 403
        assert viewer.post(f"{LIST}{path}").status_code == 403
    for path in ("sync/", f"{registry.pk}/sync/", f"{registry.pk}/cancel/", f"{registry.pk}/test/"):
        assert viewer.post(f"{LIST}{path}").status_code == 403
    assert not Sync.objects.exists()
    assert Registry.objects.exists()


def test_the_list_costs_as_many_queries_for_many_rows_as_for_one(
    operator: Client,
    make_registry: Callable[..., Registry],
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(12):
        request_sync(make_registry(f"https://r{number}.example.org"), SyncTrigger.MANUAL)
    with django_assert_max_num_queries(12):
        operator.get(LIST)
