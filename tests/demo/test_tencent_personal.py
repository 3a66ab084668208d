"""The demo Tencent API's actions for CCR, the personal edition: true offsets, and times without a zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.blobs import BlobStore
from demo.tencent import DemoCloud, running
from demo.tencent_model import Personal
from demo.tencent_times import bare_time, zoned_time
from tests.demo.small_cloud import INSTANCE, REGION, call, content, refused

REPOSITORY_FIELDS = (
    "RepoName RepoType TagCount Public IsUserFavor IsQcloudOfficial FavorCount PullCount Description "
    "CreationTime UpdateTime"
)
IMAGE_FIELDS = (
    "TagName TagId ImageId Size CreationTime DurationDays Author Architecture DockerVersion OS SizeByte "
    "Id UpdateTime PushTime Kind"
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DemoCloud]:
    with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
        yield cloud
    assert cloud.unexpected == []


def test_rows_have_the_fields_of_the_definitions_examples(cloud: DemoCloud) -> None:
    def data(action: str, **parameters: Any) -> Any:
        return call(cloud, action, parameters)["Data"]

    namespaces = data("DescribeNamespacePersonal", Namespace="", Limit=10, Offset=0)
    assert set(namespaces) == {"NamespaceCount", "NamespaceInfo"}
    assert set(namespaces["NamespaceInfo"][0]) == {"Namespace", "CreationTime", "RepoCount"}
    repositories = data("DescribeRepositoryOwnerPersonal")
    assert set(repositories) == {"TotalCount", "RepoInfo", "Server"}
    assert set(repositories["RepoInfo"][0]) == set(REPOSITORY_FIELDS.split())
    images = data("DescribeImagePersonal", RepoName="me/web")
    assert set(images) == {"TagCount", "TagInfo", "Server", "RepoName"}
    assert set(images["TagInfo"][0]) == set(IMAGE_FIELDS.split())
    quotas = data("DescribeUserQuotaPersonal")
    assert set(quotas["LimitInfo"][0]) == {"Username", "Type", "Value"}


def test_namespaces_are_found_by_part_of_their_name_and_paged_by_offset(cloud: DemoCloud) -> None:
    def found(name: str, limit: int, offset: int) -> tuple[int, list[str]]:
        parameters = {"Namespace": name, "Limit": limit, "Offset": offset}
        data = call(cloud, "DescribeNamespacePersonal", parameters)["Data"]
        return data["NamespaceCount"], [each["Namespace"] for each in data["NamespaceInfo"]]

    assert found("", 10, 0) == (2, ["me", "us"])
    assert found("", 1, 1) == (2, ["us"])
    assert found("", 1, 2) == (2, [])
    assert found("u", 10, 0) == (1, ["us"])


def test_repositories_are_paged_by_offset_and_say_where_the_registry_is(cloud: DemoCloud) -> None:
    def found(**parameters: Any) -> tuple[int, list[str]]:
        data = call(cloud, "DescribeRepositoryOwnerPersonal", parameters)["Data"]
        assert data["Server"] == cloud.personal().address
        return data["TotalCount"], [each["RepoName"] for each in data["RepoInfo"]]

    assert found() == (3, ["me/web", "me/job", "us/web"])
    assert found(Limit=2, Offset=1) == (3, ["me/job", "us/web"])
    assert found(Limit=2, Offset=3) == (3, [])
    assert found(RepoName="web") == (2, ["me/web", "us/web"])
    rows = call(cloud, "DescribeRepositoryOwnerPersonal")["Data"]["RepoInfo"]
    assert [(each["TagCount"], each["Public"]) for each in rows] == [(2, 0), (5, 0), (0, 1)]
    assert rows[0]["CreationTime"] == "2024-05-01 18:00:00"


def test_images_tell_image_id_and_digest_and_are_paged_by_offset(cloud: DemoCloud) -> None:
    def found(**parameters: Any) -> tuple[int, list[str]]:
        data = call(cloud, "DescribeImagePersonal", {"RepoName": "me/job", **parameters})["Data"]
        assert data["RepoName"] == "me/job"
        return data["TagCount"], [each["TagName"] for each in data["TagInfo"]]

    assert found() == (5, ["1.4", "1.3", "1.2", "1.1", "1.0"])
    assert found(Limit=2, Offset=1) == (5, ["1.3", "1.2"])
    assert found(Limit=2, Offset=4) == (5, ["1.0"])
    assert found(Limit=2, Offset=5) == (5, [])
    assert found(Tag=".2") == (1, ["1.2"])
    row = call(cloud, "DescribeImagePersonal", {"RepoName": "me/web"})["Data"]["TagInfo"][0]
    assert row["ImageId"] in cloud.blobs
    assert b"WORD=app" in cloud.blobs.read(row["ImageId"])
    assert row["ImageId"].encode() in cloud.blobs.read(row["TagId"])
    assert (row["OS"], row["Architecture"]) == ("linux", "amd64")
    assert row["PushTime"] == row["UpdateTime"] == "2024-05-01 18:00:00 +0800 CST"


def test_the_same_image_has_the_same_digests_in_both_editions(cloud: DemoCloud) -> None:
    repository = {"RegistryId": INSTANCE, "NamespaceName": "team", "RepositoryName": "app"}
    enterprise = call(cloud, "DescribeImages", repository)["ImageInfoList"][0]
    personal = call(cloud, "DescribeImagePersonal", {"RepoName": "me/web"})["Data"]["TagInfo"][0]
    assert enterprise["Digest"] == personal["TagId"]


def test_what_is_not_there_has_a_code_of_its_own(cloud: DemoCloud) -> None:
    assert refused(cloud, "DescribeImagePersonal", {"RepoName": "me/none"}) == "ResourceNotFound.ErrNoRepo"
    for action, parameters in {
        "DescribeNamespacePersonal": {"Namespace": "", "Limit": 10, "Offset": 0},
        "DescribeRepositoryOwnerPersonal": {},
        "DescribeImagePersonal": {"RepoName": "me/web"},
        "DescribeUserQuotaPersonal": {},
    }.items():
        code = refused(cloud, action, parameters, region="ap-tokyo")
        assert code == "UnsupportedOperation.ErrNoUserInitialized"


def test_the_quotas_are_told(cloud: DemoCloud) -> None:
    quotas = call(cloud, "DescribeUserQuotaPersonal")["Data"]["LimitInfo"]
    assert {each["Type"]: each["Value"] for each in quotas} == {"namespace": 10, "repo": 500, "tag": 100}
    cloud.content = cloud.content.with_personal(Personal("ap-tokyo", quotas={"namespace": 1}))
    quotas = call(cloud, "DescribeUserQuotaPersonal", region="ap-tokyo")["Data"]["LimitInfo"]
    assert [each["Value"] for each in quotas] == [1]


def test_the_total_follows_what_is_deleted_between_two_pages(cloud: DemoCloud) -> None:
    parameters = {"RepoName": "me/job", "Limit": 3}
    assert call(cloud, "DescribeImagePersonal", parameters)["Data"]["TagCount"] == 5
    personal = cloud.content.personal_in(REGION)
    assert personal is not None
    smaller = replace(personal, catalog=personal.catalog.without_tag("me", "job", "1.4"))
    cloud.content = cloud.content.with_personal(smaller)
    rest = call(cloud, "DescribeImagePersonal", {**parameters, "Offset": 3})["Data"]
    assert (rest["TagCount"], [each["TagName"] for each in rest["TagInfo"]]) == (4, ["1.0"])


def test_times_of_rows_that_name_no_zone_are_chinas_all_the_same() -> None:
    at = datetime(2024, 12, 31, 18, 5, tzinfo=UTC)
    assert bare_time(at) == "2025-01-01 02:05:00"
    assert zoned_time(at) == "2025-01-01 02:05:00 +0800 CST"
