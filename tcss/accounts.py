"""Makes accounts: a person gets one role, and a password that passes the rules."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from tcss.access import Role

# Letters and digits that nobody mistakes for one another.
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_ENVIRONMENT_NAME = "TCSS_ADMIN_PASSWORD"


class AccountError(Exception):
    """The account cannot be made as asked; the sentence says why and what would do."""


def generate_password() -> str:
    """A password of 20 letters and digits in four groups: about 115 bits."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def given_password(file_name: str | None, environment: Mapping[str, str]) -> str | None:
    """The password somebody gave, if any: by file, else by TCSS_ADMIN_PASSWORD or TCSS_ADMIN_PASSWORD_FILE.

    Never by argument: those can be read by everybody on the machine. Raises AccountError when a named file
    cannot be read or is empty.
    """
    file_name = file_name or environment.get(f"{_ENVIRONMENT_NAME}_FILE")
    if not file_name:
        return environment.get(_ENVIRONMENT_NAME) or None
    try:
        password = Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AccountError(f"The password file {file_name} cannot be read: {error}") from None
    if not password:
        raise AccountError(f"The password file {file_name} is empty")
    return password


def create_account(username: str, role: Role, password: str) -> User:
    """A new account with this role.

    Raises AccountError for a name that is taken or malformed, and for a password the rules refuse.
    """
    user = User(username=username)
    if role is Role.ADMINISTRATOR:
        user.is_staff = user.is_superuser = True
    user.set_password(password)
    try:
        user.full_clean()
        validate_password(password, user)
    except ValidationError as error:
        raise AccountError(" ".join(error.messages)) from None
    with transaction.atomic():
        user.save()
        if role is not Role.ADMINISTRATOR:
            user.groups.add(Group.objects.get(name=role.label))
    return user
