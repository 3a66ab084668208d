"""What a data update has listed, and what it could not: the grounds for what it says at its end."""

from dataclasses import dataclass, field

from repositories.registries.failures import (
    AccessRefusedError,
    LoginRefusedError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.pace import LONGEST_PAUSE_SECONDS
from tcss.lifecycle import Failure

_FAILURES_IN_A_ROW = 3

NO_PROJECTS = Failure(
    "REG_PROTOCOL",
    "The registry answered with an empty list, though it had images before. Nothing was marked as missing.",
    "Check that the account still has its rights in the registry, then run the data update again.",
)


@dataclass(slots=True)
class Listed:
    """What was listed, and what could not be."""

    projects: set[str] = field(default_factory=set)
    # Namespaces whose repositories were all listed; nothing is known of others.
    complete_namespaces: set[str] = field(default_factory=set)
    projects_complete: bool = False
    repositories: int = 0
    # Listings of images that came to their end.
    images_listed: int = 0
    unlisted: int = 0
    unread: int = 0
    given_up: bool = False
    # The night ended before everything was listed.
    cut: bool = False
    cause: RegistryError | None = None
    # Listing may go by another account than pulling.
    pull_login: LoginRefusedError | None = None
    _unlisted_in_a_row: int = 0
    _unread_in_a_row: int = 0

    def note(self, error: RegistryError) -> None:
        """Remember the first cause; the others are counted."""
        self.cause = self.cause or error

    def note_listed(self) -> None:
        """A listing came to its end."""
        self._unlisted_in_a_row = 0

    def note_unlisted(self, error: RegistryError) -> None:
        """Count a listing that failed, and give up where going on is of no use or may lock the account."""
        self.unlisted += 1
        self._unlisted_in_a_row += 1
        refused = isinstance(error, AccessRefusedError) and error.code == "REG_AUTH"
        away = isinstance(error, TryLaterError) and self._unlisted_in_a_row >= _FAILURES_IN_A_ROW
        if refused or away or _wants_a_pause(error):
            self._give_up(error)
        self.note(error)

    def note_read(self) -> None:
        """A manifest was read."""
        self._unread_in_a_row = 0

    def note_unread(self, error: RegistryError) -> None:
        """Count a manifest that could not be read, and give up on a registry that is away."""
        self.unread += 1
        if isinstance(error, LoginRefusedError):
            self.pull_login = self.pull_login or error
        self._unread_in_a_row = self._unread_in_a_row + 1 if isinstance(error, TryLaterError) else 0
        if self._unread_in_a_row >= _FAILURES_IN_A_ROW or _wants_a_pause(error):
            self._give_up(error)
        self.note(error)

    def _give_up(self, error: RegistryError) -> None:
        if not self.given_up:
            self.given_up = True
            self.cause = error

    @property
    def pause(self) -> TryLaterError | None:
        """What the registry said where it is to be left alone for a time that it has named."""
        cause = self.cause
        return cause if self.given_up and isinstance(cause, TryLaterError) and cause.retry_after else None

    @property
    def is_complete(self) -> bool:
        """Whether every page of every project and repository was good."""
        return (
            self.projects_complete
            and self.projects <= self.complete_namespaces
            and not (self.unlisted or self.given_up or self.cut)
        )

    @property
    def is_nothing(self) -> bool:
        """Whether no listing of images came to its end though some were tried."""
        return self.unlisted > 0 and self.images_listed == 0

    @property
    def trouble(self) -> RegistryError | None:
        """What is wrong with the registry or the account as a whole, None where nothing is."""
        return self.cause if self.is_nothing or self.given_up else self.pull_login

    def failure(self) -> Failure | None:
        """The cause with the counts, None where there was no error."""
        if self.cause is None:
            return None
        counts = [
            f"{count} {what}"
            for count, what in (
                (self.unlisted, "listings could not be read to their end"),
                (self.unread, "manifests could not be read"),
            )
            if count
        ]
        reason = " ".join([self.cause.reason, f"({', '.join(counts)})" if counts else ""]).strip()
        return Failure(self.cause.code, reason, self.cause.remedy)


def _wants_a_pause(error: RegistryError) -> bool:
    """Whether the whole registry wants to be left alone for longer than a request waits."""
    return (
        isinstance(error, TryLaterError)
        and error.code == "REG_RATE"
        and error.retry_after > LONGEST_PAUSE_SECONDS
    )
