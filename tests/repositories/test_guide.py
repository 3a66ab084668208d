"""The Operation Guide, and the pages of built-in connections."""

import json
import re
from collections.abc import Callable
from html import unescape
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from repositories.credentials import Secret
from repositories.models import CloudAccount, Network, Registry, RegistryKind
from repositories.registries.failures import NotThereError
from repositories.registries.tencent_failures import ACTIONS
from repositories.services import note_health

pytestmark = pytest.mark.django_db

GUIDE = "/registries/guide/"


def reader(role: str) -> Client:
    user = User.objects.create_user(role)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return reader("Operator")


@pytest.fixture
def account() -> CloudAccount:
    return CloudAccount.objects.create(secret_id="AKIDguidexxxx", secret_key=Secret.of("key"))


@pytest.fixture
def make_built_in(account: CloudAccount) -> Callable[..., Registry]:
    def make(kind: str = RegistryKind.TCR, **fields: object) -> Registry:
        words: dict[str, object] = {
            "name": f"{kind} shop",
            "kind": kind,
            "region": "ap-guangzhou",
            "address": "https://shop.tencentcloudcr.com",
            "password": Secret.of(""),
            "account": account,
            "instance_id": "tcr-shop0000",
        }
        return Registry.objects.create(**{**words, **fields})

    return make


def shown(client: Client, path: str = GUIDE) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return unescape(response.content.decode())


def test_the_guide_shows_the_addresses_to_allow(operator: Client, settings: Settings) -> None:
    settings.EGRESS_ADDRESSES = [ip_network("203.0.113.7"), ip_network("198.51.100.0/28")]
    page = shown(operator)
    assert "<code>203.0.113.7</code>" in page
    assert "<code>198.51.100.0/28</code>" in page
    assert "TCSS_EGRESS_ADDRESSES" not in page


def test_without_them_the_guide_says_where_they_are_set(operator: Client, settings: Settings) -> None:
    settings.EGRESS_ADDRESSES = []
    assert "TCSS_EGRESS_ADDRESSES" in shown(operator)


def test_the_policy_can_be_copied_and_allows_every_call_that_is_made(operator: Client) -> None:
    (text,) = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", shown(operator), re.DOTALL)
    (statement,) = json.loads(text)["statement"]
    assert statement["effect"] == "allow"
    allowed = [re.compile(word.removeprefix("tcr:").replace("*", ".*")) for word in statement["action"]]
    assert all(any(pattern.fullmatch(action) for pattern in allowed) for action in ACTIONS)
    changing = ("Create", "Modify", "Delete", "Manage", "Push")
    assert [word for word in statement["action"] if word[4:].startswith(changing)] == [
        "tcr:CreateInstanceToken"
    ]


def test_the_guide_says_whether_an_account_is_set(operator: Client, account: CloudAccount) -> None:
    assert "account is set" in shown(operator)
    account.delete()
    assert "No Tencent Cloud account is set yet" in shown(operator)


def test_the_guide_and_the_lists_lead_to_one_another(operator: Client) -> None:
    for page in ("/images/", "/registries/"):
        assert f'href="{GUIDE}"' in shown(operator, page)


def test_the_guide_switches_an_instance_to_the_other_network(
    operator: Client, make_built_in: Callable[..., Registry]
) -> None:
    registry = make_built_in()
    assert f'action="/registries/{registry.pk}/network/"' in shown(operator)
    operator.post(f"/registries/{registry.pk}/network/", {"network": "vpc"})
    registry.refresh_from_db()
    assert (registry.network, registry.address) == (
        Network.VPC,
        "https://shop-vpc.tencentcloudcr.com",
    )
    assert "Switch to public network" in shown(operator, f"/registries/{registry.pk}/")


def test_more_instances_cost_the_guide_no_more_queries(
    operator: Client, make_built_in: Callable[..., Registry]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert shown(operator).count("/network/") == Registry.objects.count()
        return len(captured)

    make_built_in()
    first = queries()
    for number in range(3):
        make_built_in(name=f"tcr {number}", instance_id=f"tcr-more000{number}")
    assert queries() == first


def test_who_may_only_look_is_shown_no_button(make_built_in: Callable[..., Registry]) -> None:
    registry = make_built_in()
    viewer = reader("Viewer")
    assert "/network/" not in shown(viewer)
    assert viewer.post(f"/registries/{registry.pk}/network/", {"network": "vpc"}).status_code == 403


@pytest.mark.parametrize(
    ("kind", "fields", "network"),
    [
        (RegistryKind.CCR, {}, "vpc"),
        (RegistryKind.HARBOR, {"account": None}, "vpc"),
        (RegistryKind.TCR, {}, "moon"),
        (RegistryKind.TCR, {}, ""),
    ],
)
def test_nothing_else_is_switched(
    operator: Client,
    make_built_in: Callable[..., Registry],
    kind: str,
    fields: dict[str, Any],
    network: str,
) -> None:
    registry = make_built_in(kind, **fields)
    response = operator.post(f"/registries/{registry.pk}/network/", {"network": network}, follow=True)
    assert "Only a built-in TCR connection" in response.content.decode()
    registry.refresh_from_db()
    assert registry.network == Network.PUBLIC


def test_of_a_built_in_connection_only_limit_and_network_are_edited(
    operator: Client, make_built_in: Callable[..., Registry]
) -> None:
    registry = make_built_in()
    path = f"/registries/{registry.pk}/edit/"
    page = shown(operator, path)
    assert 'name="address"' not in page
    assert 'name="password"' not in page
    operator.post(
        path,
        {"hourly_pull_limit": "50", "network": "vpc", "address": "https://evil.example", "name": "x"},
    )
    registry.refresh_from_db()
    assert (registry.hourly_pull_limit, registry.network) == (50, Network.VPC)
    assert (registry.name, registry.address) == ("tcr shop", "https://shop-vpc.tencentcloudcr.com")


def test_a_limit_that_is_none_of_the_choices_is_an_error_of_the_form(
    operator: Client, make_built_in: Callable[..., Registry]
) -> None:
    registry = make_built_in(RegistryKind.CCR)
    path = f"/registries/{registry.pk}/edit/"
    assert 'name="network"' not in shown(operator, path)
    assert operator.post(path, {"hourly_pull_limit": "7"}).status_code == 200
    registry.refresh_from_db()
    assert registry.hourly_pull_limit is None


def test_a_built_in_connection_is_deleted_only_when_its_instance_is_gone(
    operator: Client, make_built_in: Callable[..., Registry]
) -> None:
    registry = make_built_in()
    path = f"/registries/{registry.pk}/delete/"
    kept = shown(operator, path)
    assert "is built in" in kept
    # It begins without one.
    assert "a limit can keep it" in kept
    operator.post(path)
    assert Registry.objects.filter(pk=registry.pk).exists()
    for page in ("/registries/", f"/registries/{registry.pk}/"):
        assert path not in shown(operator, page)
    Registry.objects.filter(pk=registry.pk).update(gone_since=Now())
    # What a data update finds does not take it back.
    note_health(registry, NotThereError("REG_NOT_FOUND", "Something else is not there."))
    for page in ("/registries/", f"/registries/{registry.pk}/"):
        assert f'href="{path}"' in shown(operator, page)
    assert path not in shown(reader("Viewer"), f"/registries/{registry.pk}/")
    assert "is built in" not in shown(operator, path)
    operator.post(path)
    assert not Registry.objects.filter(pk=registry.pk).exists()
