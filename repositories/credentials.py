"""Passwords at rest: an encrypted column and its key ring; nothing else touches ciphertext."""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


class CredentialKeyError(Exception):
    """A stored password cannot be read with the keys in use: they are not those it was stored with."""


@lru_cache(maxsize=1)
def _key_ring() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_KEYS])


def encrypt(plain: str) -> str:
    """``plain`` under the first key of the ring."""
    return _key_ring().encrypt(plain.encode()).decode()


def decrypt(stored: str) -> str:
    """The text behind ``stored``; raises CredentialKeyError when no key of the ring opens it."""
    try:
        return _key_ring().decrypt(stored.encode()).decode()
    except InvalidToken:
        raise CredentialKeyError("a stored password does not open with the keys in TCSS_FIELD_KEYS") from None


class Secret:
    """A text that shows itself only to ``reveal()``: no repr, no log line, no traceback holds it."""

    __slots__ = ("_stored",)

    def __init__(self, stored: str) -> None:
        self._stored = stored

    @classmethod
    def of(cls, plain: str) -> "Secret":
        """Encrypt a new secret."""
        return cls(encrypt(plain))

    @property
    def stored(self) -> str:
        """The ciphertext, for the column."""
        return self._stored

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return decrypt(self._stored)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """A column whose value is a Secret in Python and ciphertext in the database."""

    description = "Text encrypted with the installation's key ring"

    def from_db_value(self, value: str | None, *_: object) -> Secret | None:
        """Wrap the column's ciphertext."""
        return None if value is None else Secret(value)

    def to_python(self, value: object) -> Secret | None:
        """A Secret from a Secret; a bare text is refused, so that no plain password is ever stored."""
        if value is None or isinstance(value, Secret):
            return value
        raise TypeError("assign Secret.of(text), never a bare text")

    def get_prep_value(self, value: object) -> str | None:
        """The ciphertext for the column."""
        secret = self.to_python(value)
        return None if secret is None else secret.stored

    def value_to_string(self, obj: models.Model) -> str:
        """Serializers see ciphertext."""
        return self.get_prep_value(self.value_from_object(obj)) or ""
