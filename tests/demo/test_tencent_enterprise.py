"""The demo Tencent API's actions for TCR: what they list, how they page, and the forms of what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.blobs import BlobStore
from demo.catalog import OCI_INDEX, Project, Tag
from demo.tencent import DemoCloud, running
from demo.tencent_model import Instance
from demo.tencent_times import go_time, offset_time, zulu_time
from tests.demo.small_cloud import INSTANCE, OTHER, call, content, refused
from tests.demo.small_registry import START, image

HERE = {"RegistryId": INSTANCE}
FRONT = {**HERE, "NamespaceName": "team", "RepositoryName": "app/web/front"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DemoCloud]:
    with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
        yield cloud
    assert cloud.unexpected == []


def pages(
    cloud: DemoCloud, action: str, rows: str, name: str, asked: list[dict[str, Any]]
) -> list[list[str]]:
    """The names on each page asked for."""
    return [[each[name] for each in call(cloud, action, page)[rows]] for page in asked]


ROWS = {
    "DescribeRegions": ("Regions", "Alias RegionId RegionName Status Remark CreatedAt UpdatedAt Id"),
    "DescribeInstances": (
        "Registries",
        (
            "RegistryId RegistryName RegistryType Status PublicDomain CreatedAt RegionName RegionId "
            "EnableAnonymous TokenValidTime InternalEndpoint TagSpecification ExpiredAt PayMod RenewFlag "
            "DeletionProtection"
        ),
    ),
    "DescribeNamespaces": (
        "NamespaceList",
        (
            "Name CreationTime Public NamespaceId TagSpecification Metadata CVEWhitelistItems AutoScan "
            "PreventVUL Severity"
        ),
    ),
    "DescribeRepositories": (
        "RepositoryList",
        "Name Namespace CreationTime Public Description BriefDescription UpdateTime",
    ),
    "DescribeImages": ("ImageInfoList", "Digest Size ImageVersion UpdateTime Kind KmsSignature"),
    "DescribeInternalEndpoints": ("AccessVpcSet", "VpcId SubnetId Status AccessIp"),
    "DescribeSecurityPolicies": ("SecurityPolicySet", "PolicyIndex Description CidrBlock PolicyVersion"),
}
"""Where each action's rows are, and the fields that the examples of the definition show in them."""


@pytest.mark.parametrize("action", ROWS)
def test_rows_have_the_fields_of_the_definitions_examples(cloud: DemoCloud, action: str) -> None:
    rows, fields = ROWS[action]
    parameters: dict[str, Any] = {} if action in ("DescribeRegions", "DescribeInstances") else HERE
    found = call(cloud, action, FRONT if action == "DescribeImages" else parameters)
    assert set(found) <= {rows, "TotalCount"}
    assert found[rows]
    for row in found[rows]:
        assert set(row) == set(fields.split())


def test_instances_are_listed_by_offset_in_one_region_or_in_all(cloud: DemoCloud) -> None:
    for number in range(3):
        cloud.content = cloud.content.with_instance(Instance(f"tcr-more{number}", "more", "eu-frankfurt"))
    assert call(cloud, "DescribeInstances")["TotalCount"] == 1
    assert call(cloud, "DescribeInstances", {"AllRegion": True})["TotalCount"] == 5
    asked: list[dict[str, Any]] = [
        {"AllRegion": True, "Limit": 2, "Offset": offset} for offset in (0, 1, 2, 4, 5)
    ]
    assert pages(cloud, "DescribeInstances", "Registries", "RegistryId", asked) == [
        [INSTANCE, OTHER],
        [OTHER, "tcr-more0"],
        ["tcr-more0", "tcr-more1"],
        ["tcr-more2"],
        [],
    ]


def test_instances_are_found_by_id_and_by_tag(cloud: DemoCloud) -> None:
    def found(**parameters: Any) -> list[str]:
        answer = call(cloud, "DescribeInstances", {"AllRegion": True, **parameters})
        return [each["RegistryId"] for each in answer["Registries"]]

    assert found(Registryids=[OTHER]) == [OTHER]
    assert found(Filters=[{"Name": "Tags", "Values": ["team:shop", "team:none"]}]) == [INSTANCE]
    assert found(Filters=[{"Name": "Tags", "Values": ["team:none"]}]) == []


def test_an_instance_says_where_it_listens_and_in_what_state_it_is(cloud: DemoCloud) -> None:
    row = call(cloud, "DescribeInstances")["Registries"][0]
    assert row["PublicDomain"] == cloud.registry(INSTANCE).address
    assert row["InternalEndpoint"] == cloud.registry(INSTANCE, private=True).address
    assert row["InternalEndpoint"] != row["PublicDomain"]
    assert (row["RegionName"], row["RegionId"], row["Status"]) == ("ap-guangzhou", 1, "Running")
    assert (row["CreatedAt"], row["ExpiredAt"], row["PayMod"]) == ("2024-05-01T18:00:00+08:00", "", 0)
    cloud.change(INSTANCE, networks=(), expires=datetime(2034, 1, 2, tzinfo=UTC))
    row = call(cloud, "DescribeInstances")["Registries"][0]
    assert (row["InternalEndpoint"], row["ExpiredAt"]) == ("", "2034-01-02T08:00:00+08:00")


def test_namespaces_are_paged_by_page_number_or_listed_whole(cloud: DemoCloud) -> None:
    asked: list[dict[str, Any]] = [{**HERE, "Limit": 2, "Offset": page} for page in (0, 1, 2, 3)]
    asked += [{**HERE, "Limit": 1, "Offset": 2, "All": True}, {**HERE, "NamespaceName": "e"}]
    assert pages(cloud, "DescribeNamespaces", "NamespaceList", "Name", asked) == [
        ["team", "open"],
        ["team", "open"],
        ["empty"],
        [],
        ["team", "open", "empty"],
        ["team", "open", "empty"],
    ]
    assert call(cloud, "DescribeNamespaces", {**HERE, "KmsSignPolicy": True})["TotalCount"] == 0
    row = call(cloud, "DescribeNamespaces", {**HERE, "NamespaceName": "open"})["NamespaceList"][0]
    assert (row["Public"], row["CreationTime"]) == (True, "2024-05-01T10:00:00Z")


def test_repositories_have_their_namespace_in_their_name_and_come_by_page_number(cloud: DemoCloud) -> None:
    asked: list[dict[str, Any]] = [{**HERE, "Limit": 3, "Offset": page} for page in (0, 1, 2, 3)]
    asked += [
        {**HERE, "NamespaceName": "open"},
        {**HERE, "NamespaceName": "team", "RepositoryName": "web"},
        {**HERE, "SortBy": "-name"},
    ]
    first = ["open/tool", "team/app", "team/app/web/front"]
    assert pages(cloud, "DescribeRepositories", "RepositoryList", "Name", asked) == [
        first,
        first,
        ["team/multi"],
        [],
        ["open/tool"],
        ["team/app/web/front"],
        ["team/multi", *reversed(first)],
    ]
    row = call(cloud, "DescribeRepositories", {**HERE, "NamespaceName": "open"})["RepositoryList"][0]
    assert (row["Namespace"], row["Public"]) == ("open", True)
    assert row["UpdateTime"] == "2024-05-01 10:00:00 +0000 UTC"


def test_images_are_one_row_a_tag_the_newest_first_by_page_number(cloud: DemoCloud) -> None:
    asked: list[dict[str, Any]] = [{**FRONT, "Limit": 2, "Offset": page} for page in (0, 1, 2, 3, 4)]
    asked += [{**FRONT, "ImageVersion": ".3"}, {**FRONT, "ImageVersion": ".3", "ExactMatch": True}]
    assert pages(cloud, "DescribeImages", "ImageInfoList", "ImageVersion", asked) == [
        ["1.4", "1.3"],
        ["1.4", "1.3"],
        ["1.2", "1.1"],
        ["1.0"],
        [],
        ["1.3"],
        [],
    ]
    found = call(cloud, "DescribeImages", {**HERE, "NamespaceName": "team", "RepositoryName": "app"})
    assert found["TotalCount"] == 2
    assert len({each["Digest"] for each in found["ImageInfoList"]}) == 1
    by_digest = {**FRONT, "Digest": call(cloud, "DescribeImages", FRONT)["ImageInfoList"][1]["Digest"]}
    assert [each["ImageVersion"] for each in call(cloud, "DescribeImages", by_digest)["ImageInfoList"]] == [
        "1.3"
    ]


def test_what_has_no_tag_is_not_listed_and_an_index_is_its_own_kind(cloud: DemoCloud) -> None:
    found = call(cloud, "DescribeImages", {**HERE, "NamespaceName": "team", "RepositoryName": "multi"})
    assert found["TotalCount"] == 1
    row = found["ImageInfoList"][0]
    assert (row["ImageVersion"], row["Kind"]) == ("1.0", f"Artifact::{OCI_INDEX}")
    assert row["UpdateTime"] == "2024-05-01T10:00:00Z"


def test_the_total_follows_what_is_pushed_and_deleted_between_two_pages(cloud: DemoCloud) -> None:
    first = call(cloud, "DescribeImages", {**FRONT, "Limit": 3})
    instance = cloud.content.instance(INSTANCE)
    assert instance is not None
    pushed = image(cloud.blobs, "9.9", word="pushed", day=9)
    cloud.change(INSTANCE, catalog=instance.catalog.with_artifact("team", "app/web/front", pushed))
    second = call(cloud, "DescribeImages", {**FRONT, "Limit": 3, "Offset": 2})
    assert (first["TotalCount"], second["TotalCount"]) == (5, 6)
    assert first["ImageInfoList"][-1] == second["ImageInfoList"][0]
    cloud.change(INSTANCE, catalog=instance.catalog.without_repository("team", "app/web/front"))
    assert refused(cloud, "DescribeImages", FRONT) == "ResourceNotFound.TcrResourceNotFound"


def test_a_manifest_comes_with_its_config_encoded_twice(cloud: DemoCloud) -> None:
    instance = cloud.content.instance(INSTANCE)
    assert instance is not None
    found = call(cloud, "DescribeImageManifests", {**FRONT, "ImageVersion": "1.3"})
    repository = instance.catalog.repository("team/app/web/front")
    assert repository is not None
    artifact = repository.find("1.3")
    assert artifact is not None
    assert found["Manifest"].encode() == cloud.blobs.read(artifact.digest)
    config = json.loads(json.loads(found["Config"]))
    assert config["config"]["Env"] == ["WORD=word 3"]
    assert (found["Size"], found["Labels"]) == (artifact.size, [])


def test_the_manifest_of_an_index_or_of_nothing_is_refused(cloud: DemoCloud) -> None:
    multi = {**HERE, "NamespaceName": "team", "RepositoryName": "multi", "ImageVersion": "1.0"}
    assert refused(cloud, "DescribeImageManifests", multi) == "FailedOperation.ErrorTcrInvalidMediaType"
    missing = "ResourceNotFound.TcrResourceNotFound"
    assert refused(cloud, "DescribeImageManifests", {**FRONT, "ImageVersion": "none"}) == missing
    assert refused(cloud, "DescribeRepositories", {**HERE, "NamespaceName": "none"}) == missing


def test_the_entries_and_the_allowlist_of_an_instance_are_told(cloud: DemoCloud) -> None:
    assert call(cloud, "DescribeExternalEndpointStatus", HERE) == {"Status": "Opened", "Reason": ""}
    assert call(cloud, "DescribeInternalEndpoints", HERE) == {
        "AccessVpcSet": [
            {
                "VpcId": "vpc-1",
                "SubnetId": "subnet-1",
                "Status": "Running",
                "AccessIp": cloud.registry(INSTANCE, private=True).address,
            }
        ],
        "TotalCount": 1,
    }
    policies = call(cloud, "DescribeSecurityPolicies", HERE)["SecurityPolicySet"]
    assert [(each["PolicyIndex"], each["CidrBlock"]) for each in policies] == [(0, "0.0.0.0/0")]
    there = {"RegistryId": OTHER}
    region = "ap-singapore"
    assert call(cloud, "DescribeExternalEndpointStatus", there, region=region)["Status"] == "Closed"
    assert call(cloud, "DescribeSecurityPolicies", there, region=region) == {"SecurityPolicySet": []}
    assert call(cloud, "DescribeInternalEndpoints", there, region=region)["TotalCount"] == 0


def test_times_have_the_form_of_their_kind_of_row() -> None:
    at = datetime(2022, 7, 16, 10, 34, 42, 697900, tzinfo=UTC)
    assert go_time(at) == "2022-07-16 10:34:42.6979 +0000 UTC"
    assert zulu_time(at) == "2022-07-16T10:34:42.6979Z"
    assert zulu_time(START) == "2024-05-01T10:00:00Z"
    assert offset_time(at) == "2022-07-16T18:34:42+08:00"


def test_a_content_is_changed_by_replacing_it(cloud: DemoCloud) -> None:
    instance = cloud.content.instance(INSTANCE)
    assert instance is not None
    catalog = instance.catalog.with_project(Project("new")).with_tag(
        "open", "tool", Tag("latest", START), "1.0"
    )
    cloud.content = cloud.content.with_instance(replace(instance, catalog=catalog))
    assert call(cloud, "DescribeNamespaces", HERE)["TotalCount"] == 4
    cloud.content = cloud.content.without_instance(INSTANCE)
    assert refused(cloud, "DescribeNamespaces", HERE) == "ResourceNotFound"
    with pytest.raises(LookupError):
        cloud.change(INSTANCE, status="Isolate")
