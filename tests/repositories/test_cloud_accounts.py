"""Tencent Cloud accounts: their instances as built-in connections, how they are set, and how they fail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from demo.faults import Fault
from demo.tencent import DemoCloud
from demo.tencent_api import refusal
from demo.tencent_model import Instance, Personal
from demo.tencent_samples import GUANGZHOU, SINGAPORE
from repositories import cloud as accounts, sync as data_update, tasks
from repositories.credentials import Secret
from repositories.models import CloudAccount, Health, Network, Registry, RegistryKind, Sync, SyncTrigger, Tag
from repositories.registries import client
from repositories.updates import request_sync
from tcss.celery import app

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


def discover(account: CloudAccount) -> CloudAccount:
    accounts.discover(account)
    account.refresh_from_db()
    return account


def as_stored() -> list[dict[str, Any]]:
    return [{**row, "password": row["password"].stored} for row in Registry.objects.order_by("pk").values()]


def names() -> dict[str, str]:
    return dict(Registry.objects.order_by("name").values_list("name", "instance_id"))


def of_instance(instance_id: str) -> Registry:
    return Registry.objects.get(instance_id=instance_id)


def test_every_instance_and_region_becomes_a_connection(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    # None named: all there are.
    cloud_account.regions = []
    account = discover(cloud_account)
    assert names() == {
        "ccr ap-guangzhou": "",
        "tcr demo-guangzhou": GUANGZHOU,
        "tcr demo-singapore": SINGAPORE,
    }
    row = of_instance(SINGAPORE)
    assert (row.kind, row.region, row.network) == (RegistryKind.TCR, "ap-singapore", Network.PUBLIC)
    assert row.address == cloud.registry(SINGAPORE).url
    assert row.is_built_in
    assert Registry.objects.get(kind=RegistryKind.CCR).address == cloud.personal().url
    assert account.health == Health.HEALTHY
    assert account.discovered_at is not None
    assert not any(call.region.endswith("-fsi") for call in cloud.calls)


def test_discovering_twice_changes_nothing(cloud_account: CloudAccount) -> None:
    discover(cloud_account)
    before = as_stored()
    discover(cloud_account)
    assert as_stored() == before


def test_only_the_accounts_regions_are_looked_in(cloud: DemoCloud, cloud_account: CloudAccount) -> None:
    cloud_account.regions = ["ap-singapore"]
    discover(cloud_account)
    assert names() == {"tcr demo-singapore": SINGAPORE}
    assert {call.region for call in cloud.calls if call.action == "DescribeInstances"} == {"ap-singapore"}


def test_a_finance_region_is_looked_in_where_it_is_named(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    cloud_account.regions = ["ap-shanghai-fsi"]
    assert discover(cloud_account).health == Health.HEALTHY
    assert {call.region for call in cloud.calls} == {"ap-shanghai-fsi"}


def test_a_region_that_is_none_is_named_and_the_others_are_listed(cloud_account: CloudAccount) -> None:
    cloud_account.regions = ["ap-singapore", "ap-nowhere"]
    account = discover(cloud_account)
    assert names() == {"tcr demo-singapore": SINGAPORE}
    assert (account.health, account.health_code) == (Health.FAILING, "REG_NOT_FOUND")
    assert "ap-nowhere" in account.health_reason


def test_a_name_that_is_taken_gets_a_number(cloud: DemoCloud, cloud_account: CloudAccount) -> None:
    Registry.objects.create(name="TCR demo-guangzhou", address="https://r", password=Secret.of(""))
    again = Instance("tcr-another0", "demo-guangzhou", "ap-guangzhou")
    cloud.content = cloud.content.with_instance(again)
    discover(cloud_account)
    taken = {row.name for row in Registry.objects.filter(name__istartswith="tcr demo-guangzhou")}
    assert taken == {"TCR demo-guangzhou", "tcr demo-guangzhou 2", "tcr demo-guangzhou 3"}


def test_what_a_person_changed_stays(cloud_account: CloudAccount) -> None:
    discover(cloud_account)
    Registry.objects.filter(instance_id=GUANGZHOU).update(name="Shop", hourly_pull_limit=5, network="vpc")
    discover(cloud_account)
    row = of_instance(GUANGZHOU)
    assert (row.name, row.hourly_pull_limit, row.network) == ("Shop", 5, "vpc")


def test_an_address_that_moved_is_followed(cloud: DemoCloud, cloud_account: CloudAccount) -> None:
    discover(cloud_account)
    Registry.objects.filter(instance_id=GUANGZHOU).update(address="https://old.example")
    discover(cloud_account)
    assert of_instance(GUANGZHOU).address == cloud.registry(GUANGZHOU).url


def test_an_instance_that_is_gone_keeps_its_row_and_says_so(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    discover(cloud_account)
    before = cloud.content
    cloud.content = before.without_instance(SINGAPORE)
    discover(cloud_account)
    row = of_instance(SINGAPORE)
    assert (row.health, row.health_code, row.health_reason) == (
        Health.FAILING,
        "REG_NOT_FOUND",
        accounts.GONE,
    )
    assert of_instance(GUANGZHOU).health == Health.UNKNOWN
    assert of_instance(GUANGZHOU).gone_since is None
    since = row.gone_since
    assert since is not None
    data_update.run(request_sync(row, SyncTrigger.MANUAL).pk)
    assert of_instance(SINGAPORE).health_reason != accounts.GONE
    discover(cloud_account)
    assert of_instance(SINGAPORE).gone_since == since
    cloud.content = before
    discover(cloud_account)
    row = of_instance(SINGAPORE)
    assert (row.health, row.health_reason, row.gone_since) == (Health.UNKNOWN, "", None)


def test_an_instance_that_is_back_and_does_not_run_says_only_that(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    discover(cloud_account)
    before = cloud.content
    cloud.content = before.without_instance(SINGAPORE)
    discover(cloud_account)
    cloud.content = before
    cloud.change(SINGAPORE, status="Isolate")
    discover(cloud_account)
    row = of_instance(SINGAPORE)
    assert row.gone_since is None
    assert "isolated" in row.health_reason


def test_an_instance_that_does_not_run_says_so(cloud: DemoCloud, cloud_account: CloudAccount) -> None:
    cloud.change(GUANGZHOU, status="Isolate")
    discover(cloud_account)
    row = of_instance(GUANGZHOU)
    assert row.health == Health.FAILING
    assert "isolated" in row.health_reason


@pytest.mark.parametrize(
    ("code", "words"),
    [("AuthFailure.SecretIdNotFound", "secret ID"), ("InternalError", "fault of its own")],
)
def test_an_account_that_cannot_be_listed_says_so_and_loses_nothing(
    cloud: DemoCloud, cloud_account: CloudAccount, code: str, words: str
) -> None:
    discover(cloud_account)
    before = as_stored()
    cloud.api.faults.add(refusal("DescribeInstances", code, times=None))
    account = discover(cloud_account)
    assert account.health == Health.FAILING
    assert words in account.health_reason
    assert as_stored() == before


def test_a_region_that_fails_does_not_make_its_instances_vanish(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    discover(cloud_account)
    cloud.content = cloud.content.without_instance(GUANGZHOU)
    cloud.api.faults.add(refusal("DescribeInstances ap-singapore", "ResourceNotFound", times=None))
    account = discover(cloud_account)
    assert account.health == Health.FAILING
    assert of_instance(SINGAPORE).health == Health.UNKNOWN
    assert of_instance(GUANGZHOU).health == Health.FAILING


def test_a_missing_right_for_one_edition_leaves_the_other(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    denied = frozenset({"DescribeRepositoryOwnerPersonal"})
    cloud.content = replace(cloud.content, account=replace(cloud.account, denied=denied))
    account = discover(cloud_account)
    assert names() == {"tcr demo-guangzhou": GUANGZHOU, "tcr demo-singapore": SINGAPORE}
    assert "tcr:DescribeRepositoryOwnerPersonal" in account.health_reason


def test_the_mainlands_one_personal_edition_is_one_connection(
    cloud: DemoCloud, cloud_account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = cloud.content.personal[0].catalog
    cloud_account.regions = ["ap-shanghai", "ap-beijing", "ap-guangzhou", "ap-hongkong"]
    for region in cloud_account.regions:
        cloud.content = cloud.content.with_personal(Personal(region, catalog))
    # Where the API does not say where a registry is, the table does.
    cloud.api.faults.add(Fault(match="DescribeRepositoryOwnerPersonal", times=None, change=without_server))
    discover(cloud_account)
    found = Registry.objects.filter(kind=RegistryKind.CCR).order_by("name").values_list("name", "address")
    assert list(found) == [
        ("ccr ap-guangzhou", "http://ccr.ccs.tencentyun.com"),
        ("ccr ap-hongkong", "http://hkccr.ccs.tencentyun.com"),
    ]


def without_server(answer: Any) -> Any:
    body = answer.body
    start = body.find(b'"Server":"')
    end = body.find(b'"', start + 10)
    return replace(answer, body=body[: start + 10] + body[end:]) if start >= 0 else answer


def test_a_host_that_is_none_makes_no_connection(cloud: DemoCloud, cloud_account: CloudAccount) -> None:
    def change(answer: Any) -> Any:
        address = cloud.registry(GUANGZHOU).address.encode()
        return replace(answer, body=answer.body.replace(address, b"u:p@evil.example/x"))

    cloud.api.faults.add(Fault(match="DescribeInstances ap-guangzhou", times=None, change=change))
    account = discover(cloud_account)
    assert "tcr demo-guangzhou" not in names()
    assert account.health_code == "REG_PROTOCOL"
    assert "evil" not in account.health_reason


def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    bells: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(app, "send_task", lambda name, args: bells.append((name, args)))
    return bells


def test_the_data_update_of_all_finds_new_instances_in_a_worker(
    cloud: DemoCloud,
    cloud_account: CloudAccount,
    admin_client: Any,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    bells = rung(monkeypatch)
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post("/registries/sync/")
    assert ("repositories.discover_and_update", [cloud_account.pk]) in bells
    assert cloud.calls == []
    with django_capture_on_commit_callbacks(execute=True):
        tasks.discover_and_update(cloud_account.pk)
    assert Sync.objects.count() == 3
    tasks.discover_and_update(cloud_account.pk)
    assert Sync.objects.count() == 3


def test_bells_for_an_account_that_is_gone_are_harmless(db: None) -> None:
    tasks.discover(4711)
    tasks.discover_and_update(4711)


@pytest.mark.django_db(transaction=True)
def test_the_command_lists_accounts_first_and_updates_all(cloud_account: CloudAccount) -> None:
    call_command("data_update", "--here")
    assert set(Sync.objects.values_list("trigger", "state")) == {("command", "succeeded")}
    assert Tag.objects.filter(registry__kind=RegistryKind.TCR, image__isnull=False).count() >= 7
    assert Tag.objects.filter(registry__kind=RegistryKind.CCR, image__isnull=False).count() == 3


def test_the_command_says_why_an_account_cannot_be_listed(
    cloud_account: CloudAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    CloudAccount.objects.update(secret_key=Secret.of("another"))
    call_command("data_update", "--no-wait")
    assert "REG_AUTH: The secret key is not the one" in capsys.readouterr().err


def test_an_account_is_listed_once_a_night(
    cloud_account: CloudAccount,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    bells = rung(monkeypatch)

    def tick(now: datetime) -> int:
        bells.clear()
        with django_capture_on_commit_callbacks(execute=True):
            accounts.ask_nightly_discovery(now)
        return len(bells)

    night = datetime(2026, 5, 4, 0, 1, tzinfo=UTC)
    assert tick(night - timedelta(hours=2)) == 0
    assert tick(night) == 1
    CloudAccount.objects.update(health_checked_at=night + timedelta(minutes=1))
    assert tick(night + timedelta(minutes=2)) == 0
    assert tick(night + timedelta(days=1)) == 1


def test_bells_that_waited_through_the_night_list_an_account_once(
    cloud: DemoCloud, cloud_account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = timezone.now().replace(hour=0, minute=1)
    monkeypatch.setattr(tasks, "database_now", lambda: night)
    for _ in range(3):
        tasks.discover_tonight(cloud_account.pk)
    listed = [call.region for call in cloud.calls if call.action == "DescribeInstances"]
    assert listed
    assert len(listed) == len(set(listed))
    # A bell that is heard by day is one of a night that is over.
    CloudAccount.objects.update(health_checked_at=None)
    night = night.replace(hour=12)
    tasks.discover_tonight(cloud_account.pk)
    assert len([call for call in cloud.calls if call.action == "DescribeInstances"]) == len(listed)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("https://shop.tencentcloudcr.com", "https://shop-vpc.tencentcloudcr.com"),
        ("https://shop-vpc.tencentcloudcr.com", "https://shop-vpc-vpc.tencentcloudcr.com"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_switching_the_network_switches_the_host(
    cloud_account: CloudAccount, address: str, inside: str
) -> None:
    discover(cloud_account)
    Registry.objects.filter(instance_id=GUANGZHOU).update(address=address)
    accounts.switch_network(of_instance(GUANGZHOU), Network.VPC)
    assert (of_instance(GUANGZHOU).network, of_instance(GUANGZHOU).address) == ("vpc", inside)
    accounts.switch_network(of_instance(GUANGZHOU), Network.PUBLIC)
    assert (of_instance(GUANGZHOU).network, of_instance(GUANGZHOU).address) == ("public", address)


@pytest.mark.parametrize(
    ("network", "address"),
    [
        (Network.PUBLIC, "https://shop-vpc.tencentcloudcr.com"),
        (Network.VPC, "https://shop-vpc-vpc.tencentcloudcr.com"),
    ],
)
def test_switching_to_the_network_it_has_touches_nothing(
    cloud_account: CloudAccount,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    network: Network,
    address: str,
) -> None:
    discover(cloud_account)
    Registry.objects.filter(instance_id=GUANGZHOU).update(network=network, address=address)
    row = of_instance(GUANGZHOU)
    bells = rung(monkeypatch)
    with django_capture_on_commit_callbacks(execute=True):
        accounts.switch_network(row, network)
        # A form has written the new network to the row at hand; what is stored decides.
        row.network = Network.VPC if network == Network.PUBLIC else Network.PUBLIC
        accounts.change_built_in(row, 5, network)
    row = of_instance(GUANGZHOU)
    assert (row.network, row.address, row.hourly_pull_limit) == (network, address, 5)
    assert bells == []


def test_a_listing_that_began_before_a_switch_does_not_bring_the_old_host_back(
    cloud_account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover(cloud_account)
    moved = "https://moved.tencentcloudcr.com"
    Registry.objects.filter(instance_id=GUANGZHOU).update(address=moved)
    chosen = accounts._address

    def switched_meanwhile(host: str) -> str:
        accounts.switch_network(of_instance(GUANGZHOU), Network.VPC)
        return chosen(host)

    monkeypatch.setattr(accounts, "_address", switched_meanwhile)
    discover(cloud_account)
    assert of_instance(GUANGZHOU).address == "https://moved-vpc.tencentcloudcr.com"


def test_discovery_keeps_to_the_network_that_was_chosen(
    cloud: DemoCloud, cloud_account: CloudAccount
) -> None:
    discover(cloud_account)
    accounts.switch_network(of_instance(GUANGZHOU), Network.VPC)
    discover(cloud_account)
    assert of_instance(GUANGZHOU).address == cloud.registry(GUANGZHOU, private=True).url
