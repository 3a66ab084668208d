"""Support's admin: every page shows hostile text inert and no secret, changes nothing, and stays cheap."""

import html
from collections.abc import Iterator
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from images.models import ArtifactKind, Image, ImageLayer, Layer, Manifest, Platform
from licensing.models import Entitlement, LicenseAssignment
from repositories.credentials import EncryptedTextField, Secret
from repositories.models import CloudAccount, Registry, Repository, Sync, SyncTrigger, Tag
from scanning.engine_models import MatchNews, MatchRun, PastMatch
from scanning.models import (
    Category,
    Inventory,
    MalwareFinding,
    Match,
    Outcome,
    Package,
    Scan,
    ScanCategory,
    ScanTask,
    SecretFinding,
    TaskItem,
    TaskTrigger,
    Vulnerability,
)
from tcss.lifecycle import State

pytestmark = pytest.mark.django_db

CANARY = "'\"><script>alert('canary')</script><img src=x onerror=alert(1)>"
SECRET = "canary-registry-password"
PAGES = sorted(admin.site._registry, key=lambda model: model._meta.label)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


class Maker:
    """Makes one row of everything, again and again, each time with other keys."""

    def __init__(self) -> None:
        self._number = 0

    def make(self) -> list[models.Model]:
        self._number += 1
        number = self._number * 100
        person = User.objects.create_user(f"person{number}", password=SECRET)
        registry = Registry.objects.create(
            name=f"registry{number}", address="https://r", username="u", password=Secret.of(SECRET)
        )
        repository = Repository.objects.create(registry=registry, name=f"a/{number}", namespace="a")
        image = Image.objects.create(image_id=digest(number))
        manifest = Manifest.objects.create(digest=digest(number + 1), kind=ArtifactKind.IMAGE, image=image)
        index = Manifest.objects.create(digest=digest(number + 2), kind=ArtifactKind.INDEX)
        layer = Layer.objects.create(diff_id=digest(number + 3))
        tag = Tag.objects.create(
            registry=registry,
            repository=repository,
            repository_name=repository.name,
            name="v1",
            manifest=manifest,
            manifest_digest=manifest.digest,
            image=image,
            pushed_at=timezone.now(),
        )
        task = ScanTask.objects.create(
            trigger=TaskTrigger.MANUAL, categories=["vulnerabilities"], scope="one", requested_by=person
        )
        scan = Scan.objects.create(image=image)
        package = Package.objects.create(identity=f"{number}", name="n", version="1", kind="debian")
        vulnerability = Vulnerability.objects.create(identifier=f"CVE-2026-{number}")
        matching = MatchRun.objects.create(database_version="demo 2026-11-24 00:00", state=State.SUCCEEDED)
        entitlement = Entitlement.objects.create(kind="purchased", quantity=10, used=1)
        return [
            person,
            registry,
            repository,
            image,
            manifest,
            layer,
            tag,
            task,
            scan,
            package,
            vulnerability,
            entitlement,
            Platform.objects.create(index=index, manifest=manifest),
            ImageLayer.objects.create(image=image, position=0, layer=layer),
            Sync.objects.create(registry=registry, trigger=SyncTrigger.MANUAL, requested_by=person),
            TaskItem.objects.create(task=task, image=image, scan=scan, outcome=Outcome.STARTED),
            ScanCategory.objects.create(scan=scan, category=Category.VULNERABILITIES),
            Match.objects.create(package=package, vulnerability=vulnerability),
            matching,
            MatchNews.objects.create(run=matching, vulnerability=vulnerability, image_count=14),
            PastMatch.objects.create(
                package=package, vulnerability=vulnerability, data_source="s", first_seen_at=timezone.now()
            ),
            SecretFinding.objects.create(layer=layer, fingerprint="f", rule_id="r", title="t"),
            MalwareFinding.objects.create(
                layer=layer, fingerprint="f", engine="e", signature="s", kind="k", path="p"
            ),
            Inventory.objects.create(content_hash=f"{number}", layer=layer),
            LicenseAssignment.objects.create(image=image, entitlement=entitlement, assigned_by=person),
            CloudAccount.objects.create(
                secret_id=f"AKIDcanary{number}",
                secret_key=Secret.of(SECRET),
                personal_password=Secret.of(SECRET),
            ),
            Group.objects.get(name="Viewer"),
            AccessAttempt.objects.create(
                username=f"u{number}", ip_address="192.0.2.1", user_agent="a", failures_since_start=1
            ),
            AccessLog.objects.create(username=f"u{number}", ip_address="192.0.2.1", user_agent="a"),
            AccessFailureLog.objects.create(username=f"u{number}", ip_address="192.0.2.1", user_agent="a"),
        ]


@pytest.fixture(autouse=True)
def quick_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def rows(maker: Maker) -> dict[type[models.Model], models.Model]:
    """One row of everything that has a page."""
    return {type(row): row for row in maker.make()}


@pytest.fixture
def support(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("support", password="unused-but-strong-1"))
    return client


def poison(row: models.Model) -> int:
    """Writes the canary into every text of a row that could come from outside; answers how many."""
    values: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        bounded = field.max_length or 1_000
        if isinstance(field, EncryptedTextField | models.GeneratedField) or field.choices:
            continue
        if isinstance(field, models.JSONField):
            values[field.name] = [CANARY]
        elif isinstance(field, models.CharField | models.TextField) and bounded >= 32:
            values[field.name] = CANARY[:bounded]
    values.pop("password", None)
    type(row)._base_manager.filter(pk=row.pk).update(**values)
    return len(values)


def stored(row: models.Model) -> dict[str, str]:
    """Every column of a row as the database has it."""
    values = type(row)._base_manager.filter(pk=row.pk).values().get()
    return {name: getattr(value, "stored", None) or str(value) for name, value in values.items()}


def address(model: type[models.Model], page: str = "") -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/{page}"


def pages_of(row: models.Model) -> Iterator[str]:
    yield address(type(row))
    yield address(type(row), f"?q={'%22%3E%3Cscript%3E'}")
    yield address(type(row), f"{row.pk}/change/")
    yield address(type(row), f"{row.pk}/history/")


def test_every_page_of_the_admin_is_looked_at(rows: dict[type[models.Model], models.Model]) -> None:
    assert set(PAGES) <= set(rows)


def test_support_finds_what_it_needs() -> None:
    names = {model._meta.label for model in PAGES}
    assert {
        "auth.User",
        "auth.Group",
        "images.Image",
        "licensing.Entitlement",
        "licensing.LicenseAssignment",
        "repositories.Registry",
        "repositories.Sync",
        "repositories.Tag",
        "scanning.Scan",
        "scanning.ScanTask",
    } <= names


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_hostile_text_is_shown_inert(
    model: type[models.Model], support: Client, rows: dict[type[models.Model], models.Model]
) -> None:
    # Names of other rows are shown too, so all of them are hostile.
    poisoned = {type(row): poison(row) for row in rows.values()}
    shown = ""
    for page in pages_of(rows[model]):
        response = support.get(page)
        assert response.status_code == 200, page
        content = response.content.decode()
        assert "<script>" not in content, page
        assert "<img src=x" not in content, page
        shown += html.unescape(content)
    # The text did arrive: the test would pass on an empty page otherwise.
    assert not poisoned[model] or CANARY[:20] in shown


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_no_secret_is_shown(
    model: type[models.Model], support: Client, rows: dict[type[models.Model], models.Model]
) -> None:
    registry = Registry.objects.get()
    password = registry.password
    person = User.objects.get(username__startswith="person")
    for page in pages_of(rows[model]):
        content = support.get(page).content.decode()
        assert SECRET not in content
        assert password.stored not in content
        # The hash's own part; the page names algorithm and number of rounds.
        assert person.password.rsplit("$", 1)[-1] not in content


@pytest.mark.parametrize(
    "query", ["password__startswith=g", "password__gt=A", "password=g", "name=%00", "kind__exact=%00"]
)
def test_a_filter_tells_nothing_of_a_secret_and_breaks_nothing(
    support: Client, rows: dict[type[models.Model], models.Model], query: str
) -> None:
    assert support.get(f"{address(Registry)}?{query}").status_code == 400


@pytest.mark.parametrize(
    "model",
    [
        page
        for page in PAGES
        if page._meta.app_label != "axes" and page not in {User, Entitlement, CloudAccount}
    ],
    ids=lambda model: model._meta.label,
)
def test_what_the_console_writes_support_only_reads(
    model: type[models.Model], support: Client, rows: dict[type[models.Model], models.Model]
) -> None:
    row = rows[model]
    before = stored(row)
    assert support.get(address(model, "add/")).status_code == 403
    assert support.post(address(model, "add/"), {}).status_code == 403
    assert support.post(address(model, f"{row.pk}/change/"), {"name": "x"}).status_code == 403
    assert support.post(address(model, f"{row.pk}/delete/"), {"post": "yes"}).status_code == 403
    support.post(address(model), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert stored(row) == before


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_a_longer_list_costs_no_more_queries(
    model: type[models.Model], support: Client, maker: Maker
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert support.get(address(model)).status_code == 200
        return len(captured)

    maker.make()
    queries()  # content types are remembered from the first page on
    few = queries()
    for _ in range(12):
        maker.make()
    assert queries() <= few
    assert few <= 12


def test_a_hash_is_hidden_from_staff_who_may_only_look(client: Client) -> None:
    look = User.objects.create_user("look", is_staff=True)
    look.user_permissions.add(Permission.objects.get(codename="view_user"))
    other = User.objects.create_user("other", password=SECRET)
    client.force_login(look)
    content = client.get(address(User, f"{other.pk}/change/")).content.decode()
    assert "other" in content
    assert other.password.rsplit("$", 1)[-1] not in content
    assert other.password not in content


@pytest.fixture
def deputy(client: Client) -> User:
    """Staff who may change accounts and is no administrator."""
    user = User.objects.create_user("deputy", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_user", "change_user", "add_user"])
    )
    client.force_login(user)
    return user


def test_nobody_makes_himself_an_administrator(client: Client, deputy: User) -> None:
    form = {
        "username": "deputy",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [Group.objects.get(name="Operator").pk],
    }
    client.post(address(User, f"{deputy.pk}/change/"), form)
    deputy.refresh_from_db()
    assert not deputy.is_superuser
    assert not deputy.groups.exists()
    assert client.get("/admin/").status_code == 200


def test_only_an_administrator_touches_an_administrators_account(client: Client, deputy: User) -> None:
    chief = User.objects.create_superuser("chief", password=SECRET)
    form = {
        "username": "chief",
        "is_active": "",
        "password1": "taken-over-now-1",
        "password2": "taken-over-now-1",
    }
    assert client.post(address(User, f"{chief.pk}/change/"), form).status_code == 403
    assert client.post(address(User, f"{chief.pk}/password/"), form).status_code == 403
    chief.refresh_from_db()
    assert chief.is_active
    assert chief.check_password(SECRET)


def test_an_account_is_made_inactive_and_never_deleted(support: Client) -> None:
    person = User.objects.create_user("person")
    assert support.post(address(User, f"{person.pk}/delete/"), {"post": "yes"}).status_code == 403
    response = support.post(address(User, f"{person.pk}/change/"), {"username": "person"})
    assert response.status_code == 302
    person.refresh_from_db()
    assert not person.is_active


def test_an_administrator_gives_a_role(support: Client) -> None:
    person = User.objects.create_user("person")
    operator = Group.objects.get(name="Operator")
    form = {"username": "person", "is_active": "on", "groups": [operator.pk]}
    assert support.post(address(User, f"{person.pk}/change/"), form).status_code == 302
    assert list(person.groups.all()) == [operator]
