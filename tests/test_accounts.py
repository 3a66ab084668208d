"""Accounts made by command: one role each, a password by file or environment, no account by default."""

from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import RequestFactory

GOOD = "correct-horse-battery-9"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_password_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TCSS_ADMIN_PASSWORD", raising=False)
    monkeypatch.delenv("TCSS_ADMIN_PASSWORD_FILE", raising=False)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def can_log_in(username: str, password: str) -> bool:
    return authenticate(RequestFactory().get("/"), username=username, password=password) is not None


def test_a_fresh_installation_has_no_account() -> None:
    assert not User.objects.exists()


def test_the_administrator_gets_the_password_of_the_environment_and_it_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TCSS_ADMIN_PASSWORD", GOOD)
    output = run("create_administrator")
    user = User.objects.get(username="admin")
    assert user.is_superuser
    assert user.is_staff
    assert can_log_in("admin", GOOD)
    assert GOOD not in output


def test_a_password_that_nobody_gave_is_generated_and_shown_once() -> None:
    output = run("create_administrator")
    password = output.rsplit(maxsplit=1)[-1]
    assert can_log_in("admin", password)
    assert password not in run("create_administrator")


def test_making_the_administrator_again_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCSS_ADMIN_PASSWORD", GOOD)
    run("create_administrator")
    monkeypatch.setenv("TCSS_ADMIN_PASSWORD", "another-good-password-7")
    assert "nothing was changed" in run("create_administrator")
    assert can_log_in("admin", GOOD)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_user_has_the_role_asked_for_and_no_other(role: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{GOOD}\n")
    run("create_user", "ada", "--role", role, "--password-file", str(file))
    user = User.objects.get(username="ada")
    assert [group.name for group in user.groups.all()] == [role.capitalize()]
    assert not user.is_staff
    assert not user.is_superuser
    assert can_log_in("ada", GOOD)


def test_a_password_file_named_in_the_environment_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(GOOD)
    monkeypatch.setenv("TCSS_ADMIN_PASSWORD_FILE", str(file))
    run("create_user", "ada", "--role", "administrator")
    assert can_log_in("ada", GOOD)
    assert User.objects.get().is_superuser


@pytest.mark.parametrize("weak", ["short-word", "123456789012345", "password1234", "administrator"])
def test_a_weak_password_is_refused_and_no_account_is_left(
    weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCSS_ADMIN_PASSWORD", weak)
    with pytest.raises(CommandError, match="password") as raised:
        run("create_administrator", "--username", "administrator")
    assert weak not in str(raised.value)
    assert not User.objects.exists()


def test_a_name_that_is_taken_is_refused() -> None:
    run("create_user", "ada")
    with pytest.raises(CommandError, match="already exists"):
        run("create_user", "ada")


@pytest.mark.parametrize("name", ["", "two words", "a" * 151, "new\nline"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(CommandError):
        run("create_user", name)
    assert not User.objects.exists()


def test_a_missing_or_empty_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="absent"):
        run("create_user", "ada", "--password-file", str(tmp_path / "absent"))
    (tmp_path / "empty").touch()
    with pytest.raises(CommandError, match="is empty"):
        run("create_user", "ada", "--password-file", str(tmp_path / "empty"))


def test_no_command_takes_a_password_as_an_argument() -> None:
    with pytest.raises(CommandError):
        run("create_user", "ada", "--password", GOOD)
    with pytest.raises((CommandError, TypeError)):
        run("create_administrator", "--password", GOOD)


def test_an_account_that_is_there_stays_as_it_is_where_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(GOOD)
    command = ("create_user", "anna", "--role", "operator", "--password-file", str(file), "--if-absent")
    assert "was made" in run(*command)
    file.write_text("another-horse-battery-9")
    assert "nothing was changed" in run(*command)
    assert can_log_in("anna", GOOD)
