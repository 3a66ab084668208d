"""Chooses a registry's adapter, and hands it the registry's row as plain values."""

from collections.abc import Callable

from django.conf import settings

from repositories.credentials import CredentialKeyError
from repositories.models import Registry, RegistryKind, RegistryVersion
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import AccessRefusedError, BadAnswerError, RegistryError
from repositories.registries.harbor_v1 import HarborV1
from repositories.registries.harbor_v2 import HarborV2
from repositories.registries.protocol import (
    CheckReport,
    CheckStep,
    PullClient,
    Registry as RegistryAdapter,
    StepState,
)

Alive = Callable[[], None]


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


def connection_of(registry: Registry, alive: Alive = _nothing_to_do) -> Connection:
    """A registry's row as the values an adapter takes; ``alive`` is called while it waits and may raise."""
    return Connection(
        address=registry.address,
        username=registry.username,
        password=lambda: _reveal(registry),
        verify_tls=registry.verify_tls,
        custom_ca=registry.custom_ca,
        allowed_networks=tuple(settings.ALLOWED_NETWORKS),
        own_services=tuple(settings.OWN_SERVICES),
        alive=alive,
    )


def _reveal(registry: Registry) -> str:
    try:
        return str(registry.password.reveal())
    except CredentialKeyError:
        raise AccessRefusedError(
            "REG_AUTH",
            "The stored password cannot be read: it was stored with another key.",
            "Enter the password again, or give the console the key it had (TCSS_FIELD_KEYS).",
        ) from None


def connect(registry: Registry, *, alive: Alive = _nothing_to_do) -> RegistryAdapter:
    """The adapter for listing what a registry holds; BadAnswerError where there is none for its kind."""
    if registry.kind == RegistryKind.HARBOR:
        adapter = HarborV1 if registry.version == RegistryVersion.V1 else HarborV2
        return adapter(connection_of(registry, alive))
    raise BadAnswerError("REG_PROTOCOL", "This release does not list this type of registry.")


def pull_client(registry: Registry, *, alive: Alive = _nothing_to_do) -> PullClient:
    """The client for reading a registry's content by digest."""
    return DistributionClient(connection_of(registry, alive))


def test_connection(registry: Registry) -> CheckReport:
    """Try a registry's connection step by step; the row need not be saved, and is not changed."""
    try:
        return connect(registry).check()
    except RegistryError as error:
        return CheckReport((CheckStep("Address", StepState.FAILED, error.reason, error),))
