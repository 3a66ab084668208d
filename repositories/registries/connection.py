"""Where a registry is and who asks: plain values handed to an adapter."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from repositories.registries.pace import Pace
from tcss.outbound_addresses import Service

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _always_alive() -> None:
    """Nobody wants to stop."""


class Account(Protocol):
    """Username and password that come together, as a token that ends; used by several threads."""

    def credentials(self) -> tuple[str, str]:
        """Username and password as they are now; raises RegistryError."""
        ...

    def forget(self) -> bool:
        """The registry has refused them: whether others can be had in their place."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """One registry: origin, account, certificate rules, and the networks its host may be in.

    ``own_services`` are the console's own: no registry is there, whatever networks are allowed.

    ``password`` is called when it is needed, so that no copy lies about. ``alive`` is called at least every
    second while an answer is awaited; it raises to stop the work. Where there is an ``account``, it is
    asked instead of ``username`` and ``password``.

    ``pace`` is shared by all threads that ask this registry at once; they call the functions too.
    """

    address: str
    username: str
    password: Callable[[], str] = field(repr=False)
    verify_tls: bool = True
    custom_ca: str = field(default="", repr=False)
    allowed_networks: tuple[Network, ...] = ()
    own_services: tuple[Service, ...] = ()
    alive: Callable[[], None] = field(default=_always_alive, repr=False)
    account: Account | None = field(default=None, repr=False)
    pace: Pace | None = None

    def credentials(self) -> tuple[str, str]:
        """Username and password as they are now; an empty username where there is no account."""
        if self.account is not None:
            return self.account.credentials()
        return (self.username, self.password()) if self.username else ("", "")

    def forget_credentials(self) -> bool:
        """They were refused: whether it is worth asking again with others."""
        return self.account is not None and self.account.forget()
