"""Why a registry could not be used: a tree of errors named for what the caller can do, each a fixed text.

A text never holds a byte of the registry's answer: what the server behind an address says is not to be read
through us. The codes are those of the catalogue of bad inputs.
"""

from typing import ClassVar


class RegistryError(Exception):
    """The registry could not do what was asked; ``code``, ``reason`` and ``remedy`` are for the operator."""

    default_remedy: ClassVar[str] = "Look at the registry's own log, then try again."
    status: int | None = None
    """The HTTP status behind the error, where there was an answer."""

    def __init__(self, code: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.remedy = remedy or self.default_remedy


class TryLaterError(RegistryError):
    """Nothing is wrong with the question: ask again later, not before ``retry_after`` seconds."""

    default_remedy = "Nothing needs to be done: it is tried again by itself."

    def __init__(self, code: str, reason: str, remedy: str = "", *, retry_after: float = 0.0) -> None:
        super().__init__(code, reason, remedy)
        self.retry_after = retry_after


class AccessRefusedError(RegistryError):
    """The account is unknown or may not do this: asking again is of no use, and may lock the account."""

    default_remedy = "Check username, password and the account's rights in the registry."


class LoginRefusedError(AccessRefusedError):
    """The username and password themselves are refused, whatever the repository: no other is worth a try."""


class NoLoginError(AccessRefusedError):
    """No username and password were refused: there was none to try, or it was not looked at."""


class NotThereError(RegistryError):
    """What was asked for does not exist, or not for this account."""

    default_remedy = "Run a data update: it may have been deleted."


class NotTrustedError(RegistryError):
    """The server may not be talked to: its address is blocked or its certificate is not good."""

    default_remedy = "Check the address."


class BadAnswerError(RegistryError):
    """The answer makes no sense, is too large, or is not what its digest says."""

    default_remedy = "Check that the address is that of the registry itself, and look at its log."


class TooLargeError(BadAnswerError):
    """The answer is longer than such an answer may be; a smaller part of it may be asked for."""


class ListingCutError(BadAnswerError):
    """A listing was ended by us because it did not end by itself."""


class CannotPullError(BadAnswerError):
    """This content cannot be scanned as it is; the code begins with IMG_."""

    default_remedy = "Push the image again."
