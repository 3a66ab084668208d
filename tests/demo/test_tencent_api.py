"""The demo Tencent API holds a call's region, rights, rate and parameters against its definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from demo.blobs import BlobStore
from demo.faults import Fault
from demo.tencent import DemoCloud, running
from demo.tencent_api import Limits, refusal
from demo.tencent_calls import ACTIONS, ApiError
from tests.demo.small_cloud import INSTANCE, OTHER, call, content, refused

HERE = {"RegistryId": INSTANCE}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DemoCloud]:
    with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
        yield cloud


@pytest.mark.parametrize(
    ("region", "code", "noted"),
    [
        ("na-toronto", "UnsupportedRegion", 0),
        ("eu-nowhere", "InvalidParameterValue", 0),
        ("Guangzhou", "InvalidParameterValue", 1),
        ("", "MissingParameter", 1),
    ],
)
def test_regions_that_are_wrong_are_told_apart(cloud: DemoCloud, region: str, code: str, noted: int) -> None:
    assert refused(cloud, "DescribeInstances", region=region) == code
    assert len(cloud.unexpected) == noted


def test_only_the_list_of_regions_needs_no_region(cloud: DemoCloud) -> None:
    found = call(cloud, "DescribeRegions", region="")
    assert found["TotalCount"] == len(found["Regions"]) == 19
    assert {each["RegionName"] for each in found["Regions"]} >= {"ap-guangzhou", "ap-singapore"}


def test_an_instance_is_found_in_its_own_region_only(cloud: DemoCloud) -> None:
    assert refused(cloud, "DescribeNamespaces", {"RegistryId": OTHER}) == "ResourceNotFound"
    found = call(cloud, "DescribeNamespaces", {"RegistryId": OTHER}, region="ap-singapore")
    assert found == {"NamespaceList": [], "TotalCount": 0}


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("DescribeInstances", {"Limits": 20}, "UnknownParameter"),
        ("DescribeInstances", {"Limit": "20"}, "InvalidParameter"),
        ("DescribeInstances", {"AllRegion": "true"}, "InvalidParameter"),
        ("DescribeInstances", {"Offset": True}, "InvalidParameter"),
        ("DescribeInstances", {"Registryids": INSTANCE}, "InvalidParameter"),
        ("DescribeInstances", {"Filters": [{"Name": "Tags"}]}, "InvalidParameter"),
        ("DescribeInstances", {"Limit": 101}, "InvalidParameter"),
        ("DescribeInstances", {"Limit": 0}, "InvalidParameter"),
        ("DescribeInstances", {"Offset": -1}, "InvalidParameter"),
        ("DescribeNamespaces", {}, "MissingParameter"),
        ("DescribeNamespaces", {**HERE, "Filters": [{"Name": "x", "Values": []}]}, "InvalidParameter"),
        ("DescribeRepositories", {**HERE, "Limit": 101}, "InvalidParameter"),
        ("DescribeRepositories", {**HERE, "SortBy": "name"}, "InvalidParameter"),
        ("DescribeImages", {**HERE, "NamespaceName": "team"}, "MissingParameter"),
        ("CreateInstanceToken", {**HERE, "TokenType": "for ever"}, "InvalidParameter"),
        ("DescribeNamespacePersonal", {"Limit": 10, "Offset": 0}, "MissingParameter"),
        ("DescribeRepositoryOwnerPersonal", {"Limit": 101}, "InvalidParameter"),
        ("DescribeUserQuotaPersonal", {"Limit": 10}, "UnknownParameter"),
        ("ListTags", {}, "InvalidAction"),
    ],
)
def test_a_call_that_does_not_fit_the_definition_is_refused_and_noted(
    cloud: DemoCloud, action: str, parameters: dict[str, Any], code: str
) -> None:
    assert refused(cloud, action, parameters) == code
    assert len(cloud.unexpected) == 1
    assert cloud.unexpected[0].startswith(f"POST / {action} ap-guangzhou ")


def test_the_words_are_those_of_the_real_service(cloud: DemoCloud) -> None:
    with pytest.raises(TencentCloudSDKException) as failure:
        call(cloud, "DescribeInstances", {"Limits": 20})
    assert failure.value.message == "The parameter `Limits` is not recognized."


def test_an_isolated_instance_refuses_everything_but_its_row(cloud: DemoCloud) -> None:
    cloud.change(INSTANCE, status="Isolate")
    assert call(cloud, "DescribeInstances")["Registries"][0]["Status"] == "Isolate"
    repository = {**HERE, "NamespaceName": "team", "RepositoryName": "app"}
    for action, parameters in {
        "DescribeNamespaces": HERE,
        "DescribeRepositories": HERE,
        "DescribeImages": repository,
        "DescribeImageManifests": {**repository, "ImageVersion": "1.0"},
        "CreateInstanceToken": HERE,
    }.items():
        assert refused(cloud, action, parameters) == "ResourceInsufficient.ErrorInstanceNotRunning"
    assert cloud.unexpected == []


def test_arrears_and_missing_rights_have_codes_of_their_own(cloud: DemoCloud) -> None:
    denied = replace(cloud.account, denied=frozenset({"DescribeImages"}))
    cloud.content = replace(cloud.content, account=denied)
    repository = {**HERE, "NamespaceName": "team", "RepositoryName": "app"}
    assert refused(cloud, "DescribeImages", repository) == "AuthFailure.UnauthorizedOperation"
    assert call(cloud, "DescribeNamespaces", HERE)["TotalCount"] == 3
    cloud.content = replace(cloud.content, account=replace(denied, in_arrears=True))
    assert refused(cloud, "DescribeNamespaces", HERE) == "FailedOperation.TradeFailed"
    assert refused(cloud, "DescribeUserQuotaPersonal") == "FailedOperation.TradeFailed"


def test_too_many_calls_in_a_second_are_refused_when_limits_are_on(cloud: DemoCloud) -> None:
    cloud.clock.stop()
    cloud.limits.rates["DescribeNamespaces"] = 2
    for _ in range(3):
        call(cloud, "DescribeNamespaces", HERE)
    cloud.limits.on = True
    for _ in range(2):
        call(cloud, "DescribeNamespaces", HERE)
    with pytest.raises(TencentCloudSDKException, match="frequency limit `2` for a second") as failure:
        call(cloud, "DescribeNamespaces", HERE)
    assert failure.value.code == "RequestLimitExceeded"
    assert call(cloud, "DescribeRepositories", HERE)["TotalCount"] == 4
    cloud.clock.ahead = timedelta(seconds=1)
    assert call(cloud, "DescribeNamespaces", HERE)["TotalCount"] == 3
    assert cloud.unexpected == []


def test_a_limit_looks_at_the_second_before_and_does_not_count_what_it_refused() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = iter(start + timedelta(milliseconds=each) for each in (0, 500, 900, 1000, 1600))
    limits = Limits(lambda: next(times))
    limits.on, limits.rates["DescribeImages"] = True, 2
    limits.count("DescribeImages")
    limits.count("DescribeImages")
    with pytest.raises(ApiError, match="equals to `3` in a second"):
        limits.count("DescribeImages")
    limits.count("DescribeImages")
    limits.count("DescribeImages")


def test_the_rates_are_those_of_the_published_table(cloud: DemoCloud) -> None:
    rates = cloud.limits.rates
    assert set(rates) == set(ACTIONS)
    assert rates["DescribeImageManifests"] == 10
    assert {name for name, rate in rates.items() if rate == 100} == {
        "DescribeRepositories",
        "DescribeImages",
        "CreateInstanceToken",
        "DescribeRepositoryOwnerPersonal",
        "DescribeImagePersonal",
    }
    assert not cloud.limits.on


def test_a_fault_strikes_calls_by_action_and_body(cloud: DemoCloud) -> None:
    cloud.api.faults.add(refusal('DescribeRepositories .*"Offset": 2', "InternalError.DbError"))
    assert call(cloud, "DescribeRepositories", {**HERE, "Offset": 1})["TotalCount"] == 4
    assert refused(cloud, "DescribeRepositories", {**HERE, "Offset": 2}) == "InternalError.DbError"
    assert call(cloud, "DescribeRepositories", {**HERE, "Offset": 2})["RepositoryList"] == []
    cloud.api.faults.add(Fault(match="DescribeInstances", status=502))
    with pytest.raises(TencentCloudSDKException, match="ServerNetworkError"):
        call(cloud, "DescribeInstances")
