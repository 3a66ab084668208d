"""Chooses a registry's adapter, and hands it the registry's row as plain values."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from django.conf import settings

from repositories.credentials import CredentialKeyError, Secret
from repositories.models import CloudAccount, Registry, RegistryKind, RegistryVersion
from repositories.registries.ccr import CCR
from repositories.registries.connection import Account, Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import NoLoginError, RegistryError
from repositories.registries.harbor_v1 import HarborV1
from repositories.registries.harbor_v2 import HarborV2
from repositories.registries.pace import Pace
from repositories.registries.protocol import (
    CheckReport,
    CheckStep,
    PullClient,
    Registry as RegistryAdapter,
    StepState,
)
from repositories.registries.tcr import TCR
from repositories.registries.tencent_api import CloudCredentials, TencentAPI
from repositories.registries.tencent_tokens import InstanceToken

Alive = Callable[[], None]


def _nothing_to_do() -> None:
    """Nobody wants to stop."""


def connection_of(registry: Registry, alive: Alive = _nothing_to_do, pace: Pace | None = None) -> Connection:
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
        pace=pace,
    )


def _reveal(registry: Registry) -> str:
    return _open(registry.password, "password")


def _open(stored: Secret, what: str) -> str:
    try:
        return stored.reveal()
    except CredentialKeyError:
        raise NoLoginError(
            "REG_AUTH",
            f"The stored {what} cannot be read: it was stored with another key.",
            f"Enter the {what} again, or give the console the key it had (TCSS_FIELD_KEYS).",
        ) from None


def cloud_api(account: CloudAccount, alive: Alive = _nothing_to_do, pace: Pace | None = None) -> TencentAPI:
    """Tencent Cloud's API for an account's row."""
    return TencentAPI(
        CloudCredentials(
            secret_id=account.secret_id,
            secret_key=lambda: _open(account.secret_key, "secret key"),
            site=account.site,
            endpoint=settings.TENCENT_ENDPOINT,
            allowed_networks=tuple(settings.ALLOWED_NETWORKS),
            own_services=tuple(settings.OWN_SERVICES),
            pace=pace,
            alive=alive,
        )
    )


def connect(
    registry: Registry, *, alive: Alive = _nothing_to_do, pace: Pace | None = None
) -> RegistryAdapter:
    """The adapter for listing what a registry holds."""
    if registry.kind == RegistryKind.HARBOR:
        adapter = HarborV1 if registry.version == RegistryVersion.V1 else HarborV2
        return adapter(connection_of(registry, alive, pace))
    account = _account_of(registry)
    api = cloud_api(account, alive, pace)
    connection = _cloud_connection(registry, account, api, alive, pace)
    if registry.kind == RegistryKind.CCR:
        return CCR(api, registry.region, connection)
    return TCR(api, registry.region, registry.instance_id, connection, network=registry.network)


def pull_client(registry: Registry, *, alive: Alive = _nothing_to_do, pace: Pace | None = None) -> PullClient:
    """The client for reading a registry's content by digest."""
    if registry.kind == RegistryKind.HARBOR:
        return DistributionClient(connection_of(registry, alive, pace))
    account = _account_of(registry)
    return DistributionClient(_cloud_connection(registry, account, cloud_api(account, alive), alive, pace))


def _account_of(registry: Registry) -> CloudAccount:
    if registry.account is None:
        raise NoLoginError(
            "REG_AUTH",
            "This connection belongs to no Tencent Cloud account any more.",
            "Support staff can enter the account again in the admin.",
        )
    return registry.account


def _cloud_connection(
    registry: Registry, account: CloudAccount, api: TencentAPI, alive: Alive, pace: Pace | None
) -> Connection:
    """The connection to a built-in registry, whose username and password come from its account."""
    login: Account = _PersonalLogin(account)
    if registry.kind == RegistryKind.TCR:
        login = InstanceToken(api, registry.region, registry.instance_id)
    return replace(connection_of(registry, alive, pace), account=login)


@dataclass(frozen=True, slots=True)
class _PersonalLogin:
    """CCR's one username and password, which somebody has to enter."""

    account: CloudAccount

    def credentials(self) -> tuple[str, str]:
        """Both, or AccessRefusedError where they were not entered."""
        username, password = self.account.personal_username, self.account.personal_password
        if not (username and password):
            raise NoLoginError(
                "REG_AUTH",
                "CCR's username and password are not set, without which its images cannot be pulled.",
                "Support staff can enter them at the account in the admin; see the Operation Guide.",
            )
        return username, _open(password, "CCR password")

    def forget(self) -> bool:
        """There are no others."""
        return False


def test_connection(registry: Registry) -> CheckReport:
    """Try a registry's connection step by step; the row need not be saved, and is not changed."""
    try:
        return connect(registry).check()
    except RegistryError as error:
        return CheckReport((CheckStep("Address", StepState.FAILED, error.reason, error),))
