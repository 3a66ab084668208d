"""Who may do what: every address, every method, every role."""

from collections.abc import Iterator
from dataclasses import dataclass

import django
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from images.models import ArtifactKind, Image, Manifest
from repositories.credentials import Secret
from repositories.models import Registry, Repository, Tag
from scanning.models import Scan, ScanTask, TaskTrigger

pytestmark = pytest.mark.django_db

ROLES = ("nobody", "viewer", "operator", "administrator")
EVERYBODY = frozenset(ROLES)
VIEWERS = frozenset({"viewer", "operator", "administrator"})
OPERATORS = frozenset({"operator", "administrator"})
NOBODY: frozenset[str] = frozenset()

# Open to everybody in the world; every other address leads to the login page first.
# /metrics asks for a token instead of a login.
PUBLIC = {"livez", "readyz", "login", "metrics", "webhook"}
# Programs post here and show a token of their own, which is their only permission: no login opens it. Without
# the token nobody learns whether there is something.
OPENED_BY_TOKEN = {"webhook"}

# name: who may GET it, who may POST to it. An address that is not here fails the test below.
ALLOWED = {
    "home": (EVERYBODY, NOBODY),
    "livez": (EVERYBODY, NOBODY),
    "readyz": (EVERYBODY, NOBODY),
    "statusz": (VIEWERS, NOBODY),
    "metrics": (VIEWERS, NOBODY),
    "login": (EVERYBODY, EVERYBODY),
    "logout": (NOBODY, EVERYBODY),
    "images:image-list": (VIEWERS, NOBODY),
    "images:image-panel": (VIEWERS, NOBODY),
    "images:image-rows": (VIEWERS, NOBODY),
    "images:image-detail": (VIEWERS, NOBODY),
    "images:image-status": (VIEWERS, NOBODY),
    "images:image-vulnerabilities": (VIEWERS, NOBODY),
    "images:image-malware": (VIEWERS, NOBODY),
    "images:image-sensitive": (VIEWERS, NOBODY),
    "images:image-packages": (VIEWERS, NOBODY),
    "images:image-history": (VIEWERS, NOBODY),
    "images:image-export": (VIEWERS, VIEWERS),
    "images:image-scan": (NOBODY, OPERATORS),
    "images:image-cancel": (NOBODY, OPERATORS),
    "images:image-license": (NOBODY, OPERATORS),
    "repositories:registry-list": (VIEWERS, NOBODY),
    "repositories:registry-detail": (VIEWERS, NOBODY),
    "repositories:registry-add": (OPERATORS, OPERATORS),
    "repositories:registry-edit": (OPERATORS, OPERATORS),
    "repositories:registry-delete": (OPERATORS, OPERATORS),
    "repositories:registry-test": (NOBODY, OPERATORS),
    "repositories:registry-sync": (NOBODY, OPERATORS),
    "repositories:registry-sync-all": (NOBODY, OPERATORS),
    "repositories:registry-cancel": (NOBODY, OPERATORS),
    "repositories:registry-network": (NOBODY, OPERATORS),
    "repositories:guide": (VIEWERS, NOBODY),
    "repositories:registry-confirm-removal": (NOBODY, OPERATORS),
    "repositories:registry-webhook": (OPERATORS, OPERATORS),
    "webhook": (NOBODY, NOBODY),
    "scanning:task-cancel": (NOBODY, OPERATORS),
    "scanning:task-retry": (NOBODY, OPERATORS),
    "scanning:task-list": (VIEWERS, NOBODY),
    "scanning:task-detail": (VIEWERS, NOBODY),
    "scanning:scan-new": (OPERATORS, OPERATORS),
    "licensing:entitlement-list": (VIEWERS, NOBODY),
}


@dataclass(frozen=True)
class Address:
    """One pattern of the URL map."""

    name: str
    parameters: tuple[str, ...]
    namespace: str

    def __str__(self) -> str:
        return self.name


def addresses(patterns: list[URLPattern | URLResolver], namespace: str = "") -> Iterator[Address]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from addresses(pattern.url_patterns, inner)
        elif pattern.name:
            yield Address(
                f"{namespace}{pattern.name}", tuple(pattern.pattern.regex.groupindex), namespace.rstrip(":")
            )


ADDRESSES = list(addresses(get_resolver().url_patterns))
PAGES = [address for address in ADDRESSES if address.namespace != "admin"]
ADMIN_PAGES = [address for address in ADDRESSES if address.namespace == "admin"]


@pytest.fixture
def people() -> dict[str, User]:
    """One person of each role, named for it."""
    made = {name: User.objects.create_user(name) for name in ("nobody", "viewer", "operator")}
    made["viewer"].groups.add(Group.objects.get(name="Viewer"))
    made["operator"].groups.add(Group.objects.get(name="Operator"))
    made["administrator"] = User.objects.create_superuser("administrator")
    return made


@dataclass(frozen=True)
class Rows:
    """One row of what addresses name."""

    registry: Registry
    tag: Tag
    task: ScanTask


@pytest.fixture
def rows() -> Rows:
    # Nothing listens on port 9, so a connection test ends at once.
    registry = Registry.objects.create(
        name="main", address="http://127.0.0.1:9", username="u", password=Secret.of("p")
    )
    repository = Repository.objects.create(registry=registry, name="shop/api", namespace="shop")
    image = Image.objects.create(image_id=f"sha256:{1:064x}", is_licensed=True)
    manifest = Manifest.objects.create(digest=f"sha256:{2:064x}", kind=ArtifactKind.IMAGE, image=image)
    tag = Tag.objects.create(
        registry=registry,
        repository=repository,
        repository_name="shop/api",
        name="v1",
        manifest=manifest,
        manifest_digest=manifest.digest,
        image=image,
        pushed_at=timezone.now(),
    )
    Scan.objects.create(image=image)
    task = ScanTask.objects.create(trigger=TaskTrigger.MANUAL, categories=["vulnerabilities"], scope="one")
    return Rows(registry, tag, task)


def path_to(address: Address, rows: Rows, *, missing: bool = False) -> str:
    """A concrete address: of a row that is there, or of one that is not."""
    existing = {
        "images": rows.tag.pk,
        "repositories": rows.registry.pk,
        "scanning": rows.task.pk,
        "admin": 1,
    }
    key = 987_654_321 if missing else existing.get(address.namespace, 0)
    texts = {"app_label": "auth", "url": "nothing/here"}
    return django.urls.reverse(
        address.name, kwargs={name: texts.get(name, key) for name in address.parameters}
    )


def answer(client: Client, method: str, path: str) -> HttpResponse:
    """The answer, with everything it changed in the database taken back."""
    with transaction.atomic():
        response = client.get(path) if method == "GET" else client.post(path, {})
        getattr(response, "getvalue", lambda: b"")()
        transaction.set_rollback(True)
    return response


def leads_to_login(response: HttpResponse) -> bool:
    return response.status_code == 302 and response["Location"].startswith("/login/")


def test_the_table_names_every_address_and_no_other() -> None:
    assert {address.name for address in PAGES} == set(ALLOWED)


@pytest.mark.parametrize("address", PAGES, ids=str)
def test_without_a_login_only_public_addresses_answer(address: Address, client: Client, rows: Rows) -> None:
    for method in ("GET", "POST"):
        for missing in (False, True):
            response = answer(client, method, path_to(address, rows, missing=missing))
            assert leads_to_login(response) is (address.name not in PUBLIC), (method, missing)


@pytest.mark.parametrize("address", PAGES, ids=str)
def test_each_role_may_do_what_the_table_says_and_nothing_else(
    address: Address, client: Client, people: dict[str, User], rows: Rows
) -> None:
    may_get, may_post = ALLOWED[address.name]
    for role in ROLES:
        for method, may in (("GET", may_get), ("POST", may_post)):
            client.force_login(people[role])
            status = answer(client, method, path_to(address, rows)).status_code
            if role in may:
                assert status < 500, (role, method, status)
                assert status not in {401, 403, 404, 405}, (role, method, status)
            elif may:
                assert status == 403, (role, method, status)
            elif address.name in OPENED_BY_TOKEN and method == "POST":
                assert status == 404, (role, method, status)
            else:
                assert status in {403, 405}, (role, method, status)


@pytest.mark.parametrize("address", [page for page in PAGES if page.parameters], ids=str)
def test_a_missing_row_is_not_found_by_those_who_may_and_hidden_from_those_who_may_not(
    address: Address, client: Client, people: dict[str, User], rows: Rows
) -> None:
    may_get, may_post = ALLOWED[address.name]
    for role in ROLES:
        for method, may in (("GET", may_get), ("POST", may_post)):
            client.force_login(people[role])
            response = answer(client, method, path_to(address, rows, missing=True))
            expected = {404} if role in may else {403} if may else {403, 404, 405}
            assert response.status_code in expected, (role, method, response.status_code)


@pytest.mark.parametrize("address", ADMIN_PAGES, ids=str)
def test_the_admin_is_for_support_only(
    address: Address, client: Client, people: dict[str, User], rows: Rows
) -> None:
    path = path_to(address, rows)
    for method in ("GET", "POST"):
        assert leads_to_login(answer(client, method, path)), method
        for role in ("nobody", "viewer", "operator"):
            client.force_login(people[role])
            response = answer(client, method, path)
            if response.status_code == 302:
                assert response["Location"].startswith(("/admin/login/", "/admin/")), (role, method)
                response = client.get(response["Location"], follow=True)
            assert response.status_code == 403, (role, method)
        client.force_login(people["administrator"])
        assert answer(client, method, path).status_code < 500, method
        client.logout()


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
def test_a_post_without_the_forms_token_is_refused(
    address: Address, people: dict[str, User], rows: Rows
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["administrator"])
    expected = {404} if address.name in OPENED_BY_TOKEN else {403, 405}
    assert answer(client, "POST", path_to(address, rows)).status_code in expected


def test_roles_hold_what_they_should() -> None:
    def names(group: str) -> set[str]:
        held = Permission.objects.filter(group__name=group)
        return {
            f"{app}.{codename}" for app, codename in held.values_list("content_type__app_label", "codename")
        }

    apps = ("repositories", "images", "scanning", "licensing")
    every_view = {
        f"{app}.{codename}"
        for app, codename in Permission.objects.filter(
            content_type__app_label__in=apps, codename__startswith="view_"
        )
        # Rows that only join two others, wait for a job, are counted or are what engines know already have no
        # page; accounts and matchings of the fleet are support's.
        .exclude(
            codename__in=[
                "view_inventory_images",
                "view_repositoryhint",
                "view_pull",
                "view_cloudaccount",
                "view_layerblob",
                "view_judgedcontent",
                "view_layeranalysis",
                "view_layerverdict",
                "view_layerwhiteout",
                "view_signatureset",
                "view_matchrun",
                "view_matchnews",
                "view_pastmatch",
            ]
        )
        .values_list("content_type__app_label", "codename")
    }
    assert names("Viewer") == every_view
    assert names("Operator") - names("Viewer") == {
        "repositories.add_registry",
        "repositories.change_registry",
        "repositories.delete_registry",
        "repositories.add_sync",
        "scanning.add_scan",
        "scanning.change_scan",
        "licensing.add_licenseassignment",
    }
    assert names("Viewer") <= names("Operator")


def test_permissions_are_named_as_django_names_them() -> None:
    for permission in Permission.objects.select_related("content_type"):
        model = permission.content_type.model_class()
        if model is None or permission.content_type.app_label == "axes":
            continue
        verb = permission.codename.partition("_")[0]
        assert permission.name == f"Can {verb} {model._meta.verbose_name_raw}"


def test_a_role_taken_away_ends_with_the_next_request(client: Client, people: dict[str, User]) -> None:
    client.force_login(people["viewer"])
    assert client.get("/licenses/").status_code == 200
    people["viewer"].groups.clear()
    assert client.get("/licenses/").status_code == 403
    people["viewer"].is_active = False
    people["viewer"].save()
    assert leads_to_login(client.get("/licenses/"))


@pytest.mark.parametrize(
    "path",
    ["/login/", "/images/", "/licenses/", "/no/such/page", "/admin/", "/livez", "/statusz", "/logout/"],
)
def test_every_page_carries_the_headers_that_protect_it(
    client: Client, people: dict[str, User], path: str
) -> None:
    for person in (None, people["nobody"], people["administrator"]):
        if person is not None:
            client.force_login(person)
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_foreign_host_header_is_refused(client: Client) -> None:
    assert client.get("/login/", headers={"Host": "evil.example"}).status_code == 400


def test_a_refused_form_says_so_on_a_page_of_ours(people: dict[str, User]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["viewer"])
    response = client.post("/logout/")
    assert response.status_code == 403
    assert b"the page was open for too long" in response.content


def test_django_has_the_fixes_this_console_relies_on() -> None:
    # 5.2.17 closed a script injection in the admin's address widget.
    assert django.VERSION[:3] >= (5, 2, 17)


def test_a_page_is_packed_for_a_browser_that_can_unpack_it() -> None:
    plain, packed = Client().get("/login/"), Client().get("/login/", headers={"Accept-Encoding": "gzip"})
    assert packed["Content-Encoding"] == "gzip"
    assert len(packed.content) < len(plain.content)
