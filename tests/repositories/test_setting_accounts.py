"""Setting a cloud account: by the installer's environment, or by support staff in the admin."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks

from repositories.credentials import Secret
from repositories.models import CloudAccount, Registry
from tcss.celery import app

pytestmark = pytest.mark.django_db

ADMIN = "/admin/repositories/cloudaccount/"
KEY = "canary-secret-key"
ID = "AKIDcanary0001"


@pytest.fixture(autouse=True)
def bells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    rung: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(app, "send_task", lambda name, args: rung.append((name, args)))
    return rung


Give = Callable[..., None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    def set_all(**values: str) -> None:
        for name in ("SECRET_ID", "SECRET_ID_FILE", "SECRET_KEY", "SECRET_KEY_FILE", "REGIONS", "SITE"):
            monkeypatch.delenv(f"TCSS_TENCENT_{name}", raising=False)
        for name, value in values.items():
            monkeypatch.setenv(f"TCSS_TENCENT_{name}", value)

    return set_all


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("set_cloud_account", *arguments, stdout=output)
    assert KEY not in output.getvalue()
    return output.getvalue()


def test_the_installers_account_is_stored_and_listed(
    give: Give,
    bells: list[tuple[str, list[int]]],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    give(SECRET_ID=ID, SECRET_KEY=KEY, REGIONS=" ap-guangzhou, ap-Singapore,,ap-guangzhou", SITE="intl")
    with django_capture_on_commit_callbacks(execute=True):
        run()
    account = CloudAccount.objects.get()
    assert (account.secret_id, account.site) == (ID, "intl")
    assert account.regions == ["ap-guangzhou", "ap-singapore"]
    assert account.secret_key.reveal() == KEY
    assert bells == [("repositories.discover", [account.pk])]


def test_both_may_come_from_files(give: Give, tmp_path: Path) -> None:
    (tmp_path / "id").write_text(f"{ID}\n")
    (tmp_path / "key").write_text(f"{KEY}\n")
    give(SECRET_ID_FILE=str(tmp_path / "id"), SECRET_KEY_FILE=str(tmp_path / "key"))
    run("--if-absent")
    assert CloudAccount.objects.get().secret_key.reveal() == KEY


def test_empty_files_are_no_account(give: Give, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    give(SECRET_ID_FILE=str(tmp_path / "empty"), SECRET_KEY_FILE=str(tmp_path / "empty"))
    assert "nothing was changed" in run("--if-absent")
    assert not CloudAccount.objects.exists()


def test_one_that_is_there_is_left_alone_if_that_is_wished(give: Give) -> None:
    CloudAccount.objects.create(secret_id="AKIDother0000", secret_key=Secret.of("old"))
    give(SECRET_ID=ID, SECRET_KEY=KEY)
    assert "nothing was changed" in run("--if-absent")
    assert CloudAccount.objects.get().secret_key.reveal() == "old"
    run()
    account = CloudAccount.objects.get()
    assert (account.secret_id, account.secret_key.reveal()) == (ID, KEY)


def test_among_several_the_one_of_that_name_is_changed(give: Give) -> None:
    for name in (ID, "AKIDother0000"):
        CloudAccount.objects.create(
            secret_id=name,
            secret_key=Secret.of("old"),
            personal_username="100",
            personal_password=Secret.of("fixed"),
        )
    give(SECRET_ID=ID, SECRET_KEY=KEY)
    run()
    keys = {account.secret_id: account.secret_key.reveal() for account in CloudAccount.objects.all()}
    assert keys == {ID: KEY, "AKIDother0000": "old"}
    kept = CloudAccount.objects.get(secret_id=ID)
    assert kept.personal_password is not None
    assert kept.personal_password.reveal() == "fixed"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"SECRET_ID": ID}, "TCSS_TENCENT_SECRET_KEY"),
        ({"SECRET_KEY": KEY}, "TCSS_TENCENT_SECRET_ID"),
        ({"SECRET_ID": ID, "SECRET_KEY": KEY, "SITE": "moon"}, "TCSS_TENCENT_SITE"),
        ({"SECRET_ID": ID, "SECRET_KEY": KEY, "REGIONS": "ap guangzhou"}, "TCSS_TENCENT_REGIONS"),
        ({"SECRET_ID": "a b", "SECRET_KEY": KEY}, "TCSS_TENCENT_SECRET_ID"),
        ({"SECRET_ID": ID, "SECRET_KEY": f"{KEY} \x01"}, "TCSS_TENCENT_SECRET_KEY"),
        ({"SECRET_ID": ID, "SECRET_KEY_FILE": "/nowhere/key"}, "TCSS_TENCENT_SECRET_KEY_FILE"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(give: Give, values: dict[str, str], named: str) -> None:
    give(**values)
    with pytest.raises(CommandError, match=named) as caught:
        run()
    assert KEY not in str(caught.value)
    assert not CloudAccount.objects.exists()


@pytest.fixture
def support(client: Client) -> Client:
    """Staff who may look at accounts, add and change them, and no more."""
    user = User.objects.create_user("support", is_staff=True)
    names = ["view_cloudaccount", "add_cloudaccount", "change_cloudaccount"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


def form(**fields: str) -> dict[str, str]:
    empty = dict.fromkeys(("secret_key", "regions", "personal_username", "personal_password"), "")
    return {"site": "china", "secret_id": ID, **empty, **fields}


def test_support_enters_an_account_and_never_sees_its_secrets(
    support: Client,
    bells: list[tuple[str, list[int]]],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    entered = form(secret_key=KEY, personal_username="100000000001", personal_password="canary-personal")
    with django_capture_on_commit_callbacks(execute=True):
        assert support.post(f"{ADMIN}add/", entered).status_code == 302
    account = CloudAccount.objects.get()
    assert account.secret_key.reveal() == KEY
    assert account.personal_password is not None
    assert account.personal_password.reveal() == "canary-personal"
    assert bells == [("repositories.discover", [account.pk])]
    page = f"{ADMIN}{account.pk}/"
    for path in (ADMIN, f"{page}change/", f"{page}history/"):
        content = support.get(path).content.decode()
        for secret in (KEY, "canary-personal", account.secret_key.stored, account.personal_password.stored):
            assert secret not in content
    assert "canary" not in LogEntry.objects.get().change_message.replace(ID, "")


def test_a_blank_secret_is_kept_and_a_new_id_demands_its_own(support: Client) -> None:
    support.post(f"{ADMIN}add/", form(secret_key=KEY, personal_username="1", personal_password="fixed"))
    account = CloudAccount.objects.get()
    page = f"{ADMIN}{account.pk}/change/"
    assert support.post(page, form(regions="ap-guangzhou", personal_username="1")).status_code == 302
    account.refresh_from_db()
    assert account.regions == ["ap-guangzhou"]
    assert account.secret_key.reveal() == KEY
    assert account.personal_password is not None
    assert account.personal_password.reveal() == "fixed"
    refused = support.post(page, form(secret_id="AKIDanother00", personal_username="1"))
    assert b"Enter the secret key of this secret ID" in refused.content
    account.refresh_from_db()
    assert account.secret_id == ID
    support.post(page, form(personal_username="2"))
    account.refresh_from_db()
    assert account.personal_password is None


def test_an_account_that_somebody_saw_to_is_asked_by_itself_again(support: Client) -> None:
    support.post(f"{ADMIN}add/", form(secret_key=KEY))
    account = CloudAccount.objects.get()
    row = Registry.objects.create(
        name="ccr", kind="ccr", address="https://r", password=Secret.of(""), account=account, refused_logins=3
    )
    entered = form(personal_username="1", personal_password="fixed")
    assert support.post(f"{ADMIN}{account.pk}/change/", entered).status_code == 302
    row.refresh_from_db()
    assert row.refused_logins == 0


def test_a_new_account_needs_its_key(support: Client) -> None:
    assert b"Enter the secret key" in support.post(f"{ADMIN}add/", form()).content
    assert not CloudAccount.objects.exists()


def test_nobody_deletes_an_account_or_looks_without_the_right(support: Client, client: Client) -> None:
    support.post(f"{ADMIN}add/", form(secret_key=KEY))
    account = CloudAccount.objects.get()
    assert support.post(f"{ADMIN}{account.pk}/delete/", {"post": "yes"}).status_code == 403
    client.force_login(User.objects.create_user("other", is_staff=True))
    assert client.get(ADMIN).status_code == 403
    assert client.post(f"{ADMIN}add/", form(secret_id="AKIDother0000", secret_key=KEY)).status_code == 403
    assert CloudAccount.objects.count() == 1
