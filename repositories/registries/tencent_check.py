"""Tries a built-in connection step by step: Tencent Cloud's API first, then the registry's own host."""

from collections.abc import Callable
from dataclasses import replace

from repositories.registries.answers import MalformedError, as_list, as_mapping, text
from repositories.registries.connection import Connection
from repositories.registries.connection_test import (
    TEST_LIMITS,
    HostTest,
    Outcome,
    Step,
    in_time,
    run_steps,
)
from repositories.registries.failures import AccessRefusedError, BadAnswerError, RegistryError
from repositories.registries.protocol import CheckReport, Registry, StepState
from repositories.registries.tencent_api import TencentAPI
from repositories.registries.tencent_failures import NotInitializedError, WrongRegionError
from repositories.registries.tencent_places import (
    find_instance,
    home_region,
    list_regions,
    personal_host,
    require_running,
)
from repositories.registries.tencent_tokens import InstanceToken
from tcss.outbound_sockets import Budget, connect, resolve

_ENTRIES = 100
NO_ENTRY_REMEDY = "Open it on the instance's access page; the Operation Guide says how."
Adapter = Callable[[TencentAPI, Connection], Registry]


def check_instance(
    api: TencentAPI, connection: Connection, adapter: Adapter, *, region: str, instance_id: str, network: str
) -> CheckReport:
    """Try the connection to a TCR instance; raises nothing but what ``connection.alive`` raises."""
    connection = in_time(connection)
    api = api.hurried(TEST_LIMITS, connection.alive)
    token = InstanceToken(api, region, instance_id)
    test = _CloudTest(
        api, replace(connection, account=token), adapter, region=region, instance_id=instance_id
    )
    listing, pulling = test.right_steps()
    entry = test.public_entry if network == "public" else test.vpc_entry
    steps = [
        *test.api_steps(),
        ("Instance", test.instance),
        ("Network entry", entry),
        *test.host_steps(),
        listing,
        ("Registry token", lambda: test.token(token)),
        pulling,
    ]
    return run_steps(steps, test)


def check_personal(api: TencentAPI, connection: Connection, adapter: Adapter, *, region: str) -> CheckReport:
    """Try the connection to CCR in a region; raises nothing but what ``connection.alive`` raises."""
    connection = in_time(connection)
    test = _CloudTest(
        api.hurried(TEST_LIMITS, connection.alive), connection, adapter, region=region, instance_id=""
    )
    listing, pulling = test.right_steps()
    steps = [
        *test.api_steps(),
        ("Personal edition", test.personal),
        *test.host_steps(),
        listing,
        ("Registry account", test.account),
        pulling,
    ]
    return run_steps(steps, test)


class _CloudTest(HostTest):
    """The steps of a registry that Tencent Cloud runs; each may rely on those before it."""

    def __init__(
        self, api: TencentAPI, connection: Connection, adapter: Adapter, *, region: str, instance_id: str
    ) -> None:
        super().__init__(connection, lambda tested: adapter(api, tested))
        self._api = api
        self._region = region
        self._instance_id = instance_id
        self._regions: list[str] = []

    def api_steps(self) -> list[Step]:
        """From the API's host to the region."""
        return [
            ("Tencent Cloud's API", self._reach),
            ("Secret ID and key", self._credentials),
            ("Region", self._in_region),
        ]

    def _reach(self) -> Outcome:
        origin = self._api.origin(self._region)
        addresses = resolve(
            origin.host,
            origin.port,
            self._connection.allowed_networks,
            own_services=self._connection.own_services,
            budget=Budget(TEST_LIMITS, self._connection.alive),
        )
        connect(addresses, Budget(TEST_LIMITS, self._connection.alive)).close()
        return StepState.PASSED, f"{origin.host} takes connections."

    def _credentials(self) -> Outcome:
        self._regions = list_regions(self._api, home_region(self._region))
        return StepState.PASSED, "Tencent Cloud knows the secret ID, and the key belongs to it."

    def _in_region(self) -> Outcome:
        if self._region not in self._regions:
            raise WrongRegionError("REG_NOT_FOUND", f"TCR is not available in the region {self._region}.")
        return StepState.PASSED, f"TCR is available in {self._region}."

    def instance(self) -> Outcome:
        """The instance is there and running."""
        require_running(find_instance(self._api, self._region, self._instance_id))
        return StepState.PASSED, "The instance is running."

    def public_entry(self) -> Outcome:
        """The instance may be reached from the Internet, by those it allows."""
        call = self._called("DescribeExternalEndpointStatus")
        if call is None:
            return StepState.WARNED, "The account may not look whether the public entry is open."
        if _word(call, "Status") != "Opened":
            raise AccessRefusedError(
                "REG_FORBIDDEN", "The instance's public network entry is closed.", NO_ENTRY_REMEDY
            )
        policies = self._called("DescribeSecurityPolicies")
        if policies is None:
            return StepState.WARNED, "The public entry is open; the account may not look whom it allows."
        if not _entries(policies, "SecurityPolicySet"):
            raise AccessRefusedError(
                "REG_FORBIDDEN",
                "The instance's public network entry is open and allows nobody: its allowlist is empty.",
                "Add this console's addresses to its allowlist; the Operation Guide shows them.",
            )
        return StepState.PASSED, "The public network entry is open, and its allowlist has entries."

    def vpc_entry(self) -> Outcome:
        """The instance may be reached from a VPC."""
        call = self._called("DescribeInternalEndpoints")
        if call is None:
            return StepState.WARNED, "The account may not look which VPCs are linked."
        if not _entries(call, "AccessVpcSet"):
            raise AccessRefusedError(
                "REG_FORBIDDEN",
                "The instance is linked to no VPC.",
                "Link the VPC this console runs in on the instance's access page, or use the public network.",
            )
        return StepState.PASSED, "The instance is linked to a VPC."

    def token(self, token: InstanceToken) -> Outcome:
        """A temporary account can be had."""
        token.credentials()
        return StepState.PASSED, "Tencent Cloud gives a temporary token for pulling."

    def personal(self) -> Outcome:
        """The personal edition is in use in the region."""
        if personal_host(self._api, self._region) is None:
            raise NotInitializedError(
                "REG_NOT_FOUND", f"CCR, the personal edition, was never used in the region {self._region}."
            )
        return StepState.PASSED, "The personal edition is in use in this region."

    def account(self) -> Outcome:
        """There are username and password to pull with."""
        self._connection.credentials()
        return StepState.PASSED, "Username and password for pulling are set."

    def _called(self, action: str) -> dict[str, object] | None:
        """What the instance's network looks like; None where the account may not look."""
        try:
            return dict(self._api.call(action, self._region, RegistryId=self._instance_id))
        except AccessRefusedError as error:
            if error.code != "REG_FORBIDDEN":
                raise
            return None


def _word(answer: dict[str, object], key: str) -> str:
    try:
        return text(answer, key, limit=32)
    except MalformedError:
        raise _damaged() from None


def _entries(answer: dict[str, object], key: str) -> list[object]:
    try:
        return [as_mapping(entry) for entry in as_list(answer.get(key), limit=_ENTRIES)]
    except MalformedError:
        raise _damaged() from None


def _damaged() -> RegistryError:
    return BadAnswerError("REG_PROTOCOL", "Tencent Cloud's answer about the network is damaged.")
