"""The demo Tencent API takes the signatures of the cloud's own client, and no others."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.blobs import BlobStore
from demo.exchange import Request
from demo.tencent import DemoCloud, running
from demo.tencent_signature import Claim, sign, text_to_sign
from tests.demo.small_cloud import INSTANCE, call, client, content, refused

MANUAL_BODY = b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DemoCloud]:
    with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
        yield cloud


def send(cloud: DemoCloud, headers: dict[str, str], body: bytes = b"{}", method: str = "POST") -> str | None:
    """The code that a hand-made request is refused with."""
    connection = http.client.HTTPConnection(cloud.api.address, timeout=10)
    try:
        connection.request(method, "/", body, headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
        response = json.load(answer)["Response"]
        return response["Error"]["Code"] if "Error" in response else None
    finally:
        connection.close()


def signed(
    cloud: DemoCloud,
    *,
    service: str = "tcr",
    date: str = "",
    names: str = "content-type;host",
    signed_body: bytes = b"{}",
    **others: str,
) -> dict[str, str]:
    """The headers of a call that this test signs itself."""
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "Host": cloud.api.address,
        "X-TC-Action": "DescribeInstances",
        "X-TC-Version": "2019-09-24",
        "X-TC-Region": "ap-guangzhou",
        "X-TC-Timestamp": str(int(now.timestamp())),
        **{name.replace("_", "-"): value for name, value in others.items()},
    }
    claim = Claim(cloud.account.secret_id, date or f"{now:%Y-%m-%d}", service, names, "")
    lower = {name.lower(): value for name, value in headers.items()}
    request = Request("POST", "/", "/", (), lower, "", body=signed_body)
    signature = sign(cloud.account.secret_key, claim.date, service, text_to_sign(request, claim, now))
    credential = f"{claim.secret_id}/{claim.date}/{service}/tc3_request"
    headers["Authorization"] = (
        f"TC3-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def test_the_worked_example_of_the_manual_comes_out() -> None:
    headers = {"content-type": "application/json; charset=utf-8", "host": "cvm.tencentcloudapi.com"}
    request = Request("POST", "/", "/", (), headers, "", body=MANUAL_BODY)
    claim = Claim("AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "2019-02-25", "cvm", "content-type;host", "")
    text = text_to_sign(request, claim, datetime.fromtimestamp(1551113065, UTC))
    signature = sign("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "2019-02-25", "cvm", text)
    assert signature == "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"


def test_the_clouds_own_client_is_understood(cloud: DemoCloud) -> None:
    assert call(cloud, "DescribeInstances")["TotalCount"] == 1
    assert [(each.action, each.region, each.error) for each in cloud.calls] == [
        ("DescribeInstances", "ap-guangzhou", None)
    ]
    assert cloud.unexpected == []


def test_an_unsigned_payload_is_understood_when_the_client_says_so(cloud: DemoCloud) -> None:
    asking = client(cloud)
    asking.profile.unsignedPayload = True
    parameters = {"RegistryId": INSTANCE, "All": True}
    assert asking.call_json("DescribeNamespaces", parameters)["Response"]["TotalCount"] == 3


def test_a_signature_made_by_hand_is_understood_with_more_headers_than_two(cloud: DemoCloud) -> None:
    assert send(cloud, signed(cloud)) is None
    assert send(cloud, signed(cloud, names="content-type;host;x-tc-action")) is None


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ({"secret_key": "wrong key"}, "AuthFailure.SignatureFailure"),
        ({"secret_id": "AKIDunknown"}, "AuthFailure.SecretIdNotFound"),
        ({"token": "of a temporary key"}, "AuthFailure.TokenFailure"),
    ],
)
def test_wrong_keys_are_told_apart(cloud: DemoCloud, account: dict[str, str], code: str) -> None:
    assert refused(cloud, "DescribeInstances", **account) == code
    assert cloud.calls[-1].error == code
    assert cloud.unexpected == []


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_clock_that_is_off_by_more_than_five_minutes_ends_the_signature(
    cloud: DemoCloud, minutes: int
) -> None:
    cloud.clock.ahead = timedelta(minutes=minutes)
    assert refused(cloud, "DescribeInstances") == "AuthFailure.SignatureExpire"
    cloud.clock.ahead = timedelta(minutes=minutes) * 4 / 6
    assert call(cloud, "DescribeInstances")["TotalCount"] == 1


def test_a_key_that_became_worthless_is_refused_from_then_on(cloud: DemoCloud) -> None:
    cloud.content = replace(cloud.content, account=replace(cloud.account, secret_key="another"))
    assert refused(cloud, "DescribeInstances", secret_key="right key") == "AuthFailure.SignatureFailure"


def test_what_was_signed_is_what_was_sent(cloud: DemoCloud) -> None:
    wrong = "AuthFailure.SignatureFailure"
    assert send(cloud, signed(cloud), b'{"Limit": 1}') == wrong
    assert send(cloud, signed(cloud, signed_body=b'{"Limit": 1}')) == wrong
    later = signed(cloud) | {"X-TC-Timestamp": str(int(time.time()) + 1)}
    assert send(cloud, later) == wrong
    other_action = signed(cloud, names="content-type;host;x-tc-action") | {"X-TC-Action": "DescribeRegions"}
    assert send(cloud, other_action) == wrong


def test_the_scope_is_this_service_on_the_day_of_the_timestamp(cloud: DemoCloud) -> None:
    assert send(cloud, signed(cloud, service="cvm")) == "AuthFailure.SignatureFailure"
    assert send(cloud, signed(cloud, date="2020-01-01")) == "AuthFailure.SignatureFailure"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic dXNlcjpwYXNz",
        "TC3-HMAC-SHA256 Credential=AKIDtest, SignedHeaders=content-type;host, Signature=00",
        "TC3-HMAC-SHA256 Credential=AKIDtest/2026-01-01/tcr/tc3_request, SignedHeaders=host, Signature="
        + "0" * 64,
    ],
)
def test_another_form_of_authorization_is_refused_and_noted(cloud: DemoCloud, authorization: str) -> None:
    headers = signed(cloud) | {"Authorization": authorization}
    assert send(cloud, headers) == "AuthFailure.InvalidAuthorization"
    assert len(cloud.unexpected) == 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-TC-Version": "2017-03-12"}, "NoSuchVersion"),
        ({"X-TC-Version": ""}, "MissingParameter"),
        ({"X-TC-Action": ""}, "MissingParameter"),
        ({"X-TC-Action": "DeleteInstance"}, "InvalidAction"),
        ({"X-TC-Timestamp": ""}, "MissingParameter"),
        ({"X-TC-Timestamp": "now"}, "InvalidParameter"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "InvalidParameter"),
    ],
)
def test_headers_that_do_not_fit_are_refused_and_noted(
    cloud: DemoCloud, headers: dict[str, str], code: str
) -> None:
    assert send(cloud, signed(cloud) | headers) == code
    assert len(cloud.unexpected) == 1


def test_only_posts_are_served(cloud: DemoCloud) -> None:
    assert send(cloud, signed(cloud), method="GET") == "InvalidParameter"
    assert len(cloud.unexpected) == 1
