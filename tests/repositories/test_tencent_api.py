"""Calls of Tencent Cloud's API: signatures, retries, pace, and a sentence for every way to be refused."""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from demo.faults import GATEWAY_PAGE, Fault
from demo.tencent import DemoCloud
from demo.tencent_api import refusal
from repositories.cloud_views import POLICY
from repositories.registries import client, tencent_api
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    NoLoginError,
    NotThereError,
    NotTrustedError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.pace import Pace
from repositories.registries.tencent_api import CloudCredentials, Rate, TencentAPI
from repositories.registries.tencent_failures import ACTIONS, NotInitializedError, WrongRegionError
from tcss.outbound_sockets import Limits

LOOPBACK = (ip_network("127.0.0.0/8"),)
REGION = "ap-guangzhou"
CANARY = "canary-of-the-answer"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


Connect = Callable[..., TencentAPI]


@pytest.fixture
def connect(cloud: DemoCloud) -> Connect:
    def make(tries: int = 3, limits: Limits | None = None, **fields: object) -> TencentAPI:
        words: dict[str, object] = {
            "secret_id": cloud.account.secret_id,
            "secret_key": lambda: cloud.account.secret_key,
            "endpoint": cloud.api_url,
            "allowed_networks": LOOPBACK,
        }
        return TencentAPI(CloudCredentials(**{**words, **fields}), tries=tries, limits=limits)

    return make


def refused(api: TencentAPI, action: str = "DescribeInstances", region: str = REGION) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        api.call(action, region)
    error = caught.value
    assert error.reason.endswith(".")
    assert error.remedy
    assert CANARY not in f"{error} {error.reason} {error.remedy}"
    return error


def test_a_signed_call_is_answered_with_values(cloud: DemoCloud, connect: Connect) -> None:
    answer = connect().call("DescribeInstances", REGION, Limit=100, Offset=0)
    assert answer["TotalCount"] == 1
    assert [(call.action, call.region, call.error) for call in cloud.calls] == [
        ("DescribeInstances", REGION, None)
    ]


def test_a_wrong_key_is_told_from_an_unknown_id(connect: Connect) -> None:
    wrong = refused(connect(secret_key=lambda: "another"))
    unknown = refused(connect(secret_id="AKIDnobodyhasthisone0"))
    assert wrong.code == unknown.code == "REG_AUTH"
    assert isinstance(wrong, AccessRefusedError)
    assert "secret key is not the one" in wrong.reason
    assert "does not know this secret ID" in unknown.reason


def test_a_refused_key_is_tried_once(cloud: DemoCloud, connect: Connect) -> None:
    refused(connect(secret_key=lambda: "another", tries=5))
    assert len(cloud.calls) == 1


def test_a_wrong_clock_is_named_with_both_times(cloud: DemoCloud, connect: Connect) -> None:
    cloud.clock.ahead = timedelta(minutes=20)
    error = refused(connect())
    theirs = re.search(r"Tencent Cloud's says (\S+ \S+) UTC", error.reason)
    assert theirs
    shown = datetime.fromisoformat(theirs[1]).replace(tzinfo=UTC)
    assert timedelta(minutes=19) < shown - datetime.now(UTC) < timedelta(minutes=21)
    assert error.code == "REG_AUTH"
    assert isinstance(error, NoLoginError)
    assert error.reason.count("UTC") == 2
    assert "NTP" in error.remedy


@pytest.mark.parametrize(
    ("status", "kind", "expected", "words"),
    [
        (401, BadAnswerError, "REG_PROTOCOL", "something before it, with status 401"),
        (403, BadAnswerError, "REG_PROTOCOL", "something before it, with status 403"),
        (404, BadAnswerError, "REG_PROTOCOL", "something before it, with status 404"),
        (407, BadAnswerError, "REG_PROTOCOL", "something before it, with status 407"),
        (429, TryLaterError, "REG_RATE", "or a proxy before it, asks for fewer"),
        (502, TryLaterError, "REG_5XX", "or a proxy before it, reports a fault"),
    ],
)
def test_what_a_proxy_before_the_api_says_is_not_told_of_the_account(
    cloud: DemoCloud, connect: Connect, status: int, kind: type[RegistryError], expected: str, words: str
) -> None:
    cloud.api.faults.add(Fault(match=".", status=status, body=CANARY.encode(), times=None))
    error = refused(connect(tries=1))
    assert (type(error), error.code, error.status) == (kind, expected, status)
    assert words in error.reason
    assert "username" not in f"{error.reason} {error.remedy}"
    assert "127.0.0.1" in error.remedy


def test_a_clock_that_the_answer_does_not_show_is_not_made_up(cloud: DemoCloud, connect: Connect) -> None:
    cloud.clock.ahead = timedelta(minutes=-20)
    cloud.api.faults.add(Fault(match=".", headers={"Date": CANARY}))
    error = refused(connect())
    assert isinstance(error, NoLoginError)
    assert error.reason.count("UTC") == 1


def test_a_missing_right_names_the_action_and_the_policy(cloud: DemoCloud, connect: Connect) -> None:
    cloud.api.faults.add(refusal("DescribeInstances", "AuthFailure.UnauthorizedOperation", CANARY))
    error = refused(connect())
    assert error.code == "REG_FORBIDDEN"
    assert "tcr:DescribeInstances" in error.reason
    (statement,) = json.loads(POLICY)["statement"]
    assert all(action in error.remedy for action in statement["action"])


@pytest.mark.parametrize(
    ("code", "kind", "expected", "words"),
    [
        ("AuthFailure.SecretIdNotFound", AccessRefusedError, "REG_AUTH", "does not know this secret ID"),
        ("AuthFailure.InvalidSecretId", AccessRefusedError, "REG_AUTH", "does not know this secret ID"),
        ("AuthFailure.SignatureFailure", AccessRefusedError, "REG_AUTH", "not the one that belongs"),
        ("AuthFailure.TokenFailure", AccessRefusedError, "REG_AUTH", "does not accept"),
        ("UnauthorizedOperation.ErrorTcrUnauthorized", AccessRefusedError, "REG_FORBIDDEN", "CAM policy"),
        ("UnsupportedRegion", WrongRegionError, "REG_NOT_FOUND", "ap-guangzhou"),
        ("InvalidParameter.UnsupportedRegion", WrongRegionError, "REG_NOT_FOUND", "ap-guangzhou"),
        ("ResourceInsufficient.ErrorInstanceNotRunning", AccessRefusedError, "REG_FORBIDDEN", "not running"),
        ("FailedOperation.TradeFailed", AccessRefusedError, "REG_FORBIDDEN", "payment is overdue"),
        ("OperationDenied.AccountInArrears", AccessRefusedError, "REG_FORBIDDEN", "payment is overdue"),
        ("UnsupportedOperation.ErrNoUserInitialized", NotInitializedError, "REG_NOT_FOUND", "never used"),
        ("ResourceNotFound.TcrResourceNotFound", NotThereError, "REG_NOT_FOUND", "does not have"),
        ("InvalidParameterValue", BadAnswerError, "REG_PROTOCOL", "DescribeInstances"),
        (CANARY, BadAnswerError, "REG_PROTOCOL", "DescribeInstances"),
    ],
)
def test_every_code_has_its_sentence(
    cloud: DemoCloud, connect: Connect, code: str, kind: type[RegistryError], expected: str, words: str
) -> None:
    cloud.api.faults.add(refusal("DescribeInstances", code, CANARY, times=None))
    error = refused(connect())
    assert type(error) is kind
    assert error.code == expected
    assert words in error.reason
    assert len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("fault", "limits", "allowed"),
    [
        (refusal("DescribeInstances", "RequestLimitExceeded", times=None), None, 2),
        (Fault(match="DescribeInstances", status=503, times=None), None, 2),
        (Fault(match="DescribeInstances", delay=0.6, times=None), Limits(total=0.3), 2),
        # That is the question's fault, not its number's.
        (refusal("DescribeInstances", "InvalidParameterValue", times=None), None, 4),
    ],
)
def test_the_pace_falls_where_the_api_asks_for_fewer(
    cloud: DemoCloud, connect: Connect, fault: Fault, limits: Limits | None, allowed: int
) -> None:
    pace = Pace(first=4, most=4)
    cloud.api.faults.add(fault)
    refused(connect(pace=pace, limits=limits, tries=1))
    assert pace.allowed == allowed


@pytest.mark.parametrize("code", ["RequestLimitExceeded.UinLimitExceeded", "InternalError.DbError"])
def test_a_passing_refusal_is_asked_again(cloud: DemoCloud, connect: Connect, code: str) -> None:
    cloud.api.faults.add(refusal("DescribeInstances", code))
    assert connect().call("DescribeInstances", REGION)["TotalCount"] == 1
    assert len(cloud.calls) == 2


def test_a_limit_that_stays_exceeded_is_for_later(cloud: DemoCloud, connect: Connect) -> None:
    cloud.api.faults.add(refusal("DescribeInstances", "RequestLimitExceeded", CANARY, times=None))
    error = refused(connect(tries=1))
    assert isinstance(error, TryLaterError)
    assert error.code == "REG_RATE"
    assert error.retry_after > 0


@pytest.mark.parametrize(
    "fault",
    [Fault(match=".", status=502, body=GATEWAY_PAGE), Fault(match=".", cut_at=20), Fault(match=".", raw=b"")],
    ids=["gateway", "cut", "closed"],
)
def test_a_broken_answer_is_asked_again(cloud: DemoCloud, connect: Connect, fault: Fault) -> None:
    cloud.api.faults.add(fault)
    assert connect().call("DescribeInstances", REGION)["TotalCount"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"Response": 5}',
        b'{"Response": {"Error": "no"}}',
        b'{"Response": {"Error": {"Code": 5}}}',
        b'{"Response": {}, "Response": {}}',
        b"\xff",
        b"[" * 100_000,
        CANARY.encode(),
    ],
)
def test_nonsense_is_refused_without_being_shown(cloud: DemoCloud, connect: Connect, body: bytes) -> None:
    cloud.api.faults.add(Fault(match=".", times=None, body=body))
    error = refused(connect(tries=1))
    assert isinstance(error, BadAnswerError)
    assert error.code == "REG_PROTOCOL"


def test_an_error_is_seen_whatever_its_content_type(cloud: DemoCloud, connect: Connect) -> None:
    fault = refusal("DescribeInstances", "AuthFailure.SecretIdNotFound")
    cloud.api.faults.add(Fault(match=".", body=fault.body, headers={"Content-Type": "application/json; x=y"}))
    assert refused(connect()).code == "REG_AUTH"


def test_an_answer_without_end_is_cut(cloud: DemoCloud, connect: Connect) -> None:
    cloud.api.faults.add(Fault(match=".", times=None, body=b'{"Response": "' + b"a" * 3_000_000 + b'"}'))
    error = refused(connect(tries=1, limits=Limits(body=10_000)))
    assert isinstance(error, BadAnswerError)


def test_a_slow_answer_ends_at_the_deadline(cloud: DemoCloud, connect: Connect) -> None:
    cloud.api.faults.add(Fault(match=".", times=None, drip=(1, 0.2)))
    error = refused(connect(tries=1, limits=Limits(read=5, total=0.5)))
    assert error.code == "REG_TIMEOUT"
    assert "Tencent Cloud's API" in error.reason


def test_a_redirect_is_not_followed(cloud: DemoCloud, connect: Connect) -> None:
    away = {"Location": "http://127.0.0.1:9/elsewhere"}
    cloud.api.faults.add(Fault(match=".", times=None, status=307, headers=away))
    assert refused(connect(tries=1)).code == "REG_PROTOCOL"
    assert len(cloud.calls) == 1


def test_no_proxy_of_the_environment_is_asked(
    cloud: DemoCloud, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert connect().call("DescribeInstances", REGION)["TotalCount"] == 1


def test_an_address_that_is_not_allowed_is_not_connected_to(cloud: DemoCloud, connect: Connect) -> None:
    error = refused(connect(allowed_networks=()))
    assert isinstance(error, NotTrustedError)
    assert error.code == "REG_BLOCKED_ADDR"
    assert cloud.calls == []


def test_a_closed_port_names_the_host(connect: Connect) -> None:
    error = refused(connect(endpoint="http://127.0.0.1:9", tries=1))
    assert error.code == "REG_CONNECT"
    assert "127.0.0.1" in error.remedy


def test_somebody_who_wants_to_stop_is_heard_while_it_waits(cloud: DemoCloud, connect: Connect) -> None:
    class StopWantedError(Exception):
        pass

    def alive() -> None:
        if cloud.calls:
            raise StopWantedError

    cloud.api.faults.add(refusal("DescribeInstances", "RequestLimitExceeded", times=None))
    with pytest.raises(StopWantedError):
        connect(alive=alive, tries=5).call("DescribeInstances", REGION)


@pytest.mark.parametrize("region", ["", "AP-X", "a\r\nb", "ap.example", "x" * 40])
def test_a_name_that_is_no_regions_goes_into_no_header(
    cloud: DemoCloud, connect: Connect, region: str
) -> None:
    with pytest.raises(WrongRegionError):
        connect().call("DescribeInstances", region)
    assert cloud.calls == []


def test_finance_regions_and_sites_have_hosts_of_their_own() -> None:
    def address(site: str, region: str) -> str:
        return CloudCredentials("AKIDxxxxxxxx", str, site=site).address(region)

    assert address("china", REGION) == "https://tcr.tencentcloudapi.com"
    assert address("intl", REGION) == "https://tcr.intl.tencentcloudapi.com"
    assert address("china", "ap-shanghai-fsi") == "https://tcr.ap-shanghai-fsi.tencentcloudapi.com"


def test_no_more_calls_are_begun_in_a_second_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(tencent_api.time, "monotonic", lambda: now)
    rate = Rate(3)
    assert [rate.take() for _ in range(7)] == pytest.approx([0, 0, 0, 1.1, 1.1, 1.1, 2.2])
    now = 103.5
    assert rate.take() == pytest.approx(0)


def test_the_servers_own_limits_are_kept_by_threads_together(cloud: DemoCloud, connect: Connect) -> None:
    cloud.limits.on = True
    api = connect(tries=3)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(6):
                api.call("DescribeInstances", REGION)
        except RegistryError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    # Its second need not begin when ours does, so a few may come too early; they are asked again.
    assert 24 <= len(cloud.calls) <= 28


def test_credentials_show_no_key() -> None:
    assert CANARY not in repr(CloudCredentials("AKIDxxxxxxxx", lambda: CANARY))


def test_every_action_that_is_called_is_in_the_policy() -> None:
    read = Path(tencent_api.__file__).parent
    called = {
        action
        for path in read.glob("*.py")
        for action in re.findall(r'"((?:Describe|Create)[A-Za-z]+)"', path.read_text())
    }
    assert called - {"DescribeImageManifests"} == set(ACTIONS)
