"""A small content for tests of the demo Tencent cloud, and the cloud's own client to ask it with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from demo.blobs import BlobStore
from demo.catalog import DOCKER_MANIFEST, Artifact, Catalog, Project, Repository
from demo.tencent import DemoCloud
from demo.tencent_model import CloudAccount, CloudContent, Instance, Personal, Policy, Vpc
from tests.demo.small_registry import image, index

INSTANCE = "tcr-first000"
OTHER = "tcr-other000"
REGION = "ap-guangzhou"
OPEN = (Policy("0.0.0.0/0"),)


def as_docker(artifact: Artifact) -> Artifact:
    """The same artifact described as one of Docker's, which needs no Accept."""
    return replace(artifact, manifest_media_type=DOCKER_MANIFEST)


def content(store: BlobStore) -> CloudContent:
    """An open instance with two namespaces, a closed one elsewhere, and one personal edition."""
    child = image(store, word="child")
    words = [image(store, f"1.{number}", word=f"word {number}", day=number) for number in range(5)]
    first = Catalog(
        (
            Project(
                "team",
                (
                    Repository("app/web/front", tuple(as_docker(each) for each in words)),
                    Repository("app", (as_docker(image(store, "1.0", "latest", word="app")),)),
                    Repository("multi", (index(store, child, tag="1.0"), child)),
                ),
            ),
            Project(
                "open", (Repository("tool", (as_docker(image(store, "1.0", word="tool")),)),), public=True
            ),
            Project("empty"),
        )
    )
    personal = Catalog(
        (
            Project(
                "me",
                (
                    Repository("web", (as_docker(image(store, "1.0", "latest", word="app")),)),
                    Repository("job", tuple(as_docker(each) for each in words)),
                ),
            ),
            Project("us", (Repository("web", ()),), public=True),
        )
    )
    return CloudContent(
        CloudAccount("100000000007", "AKIDtest", "right key", "right password"),
        (
            Instance(
                INSTANCE,
                "first",
                REGION,
                first,
                entry="Opened",
                allowlist=OPEN,
                networks=(Vpc("vpc-1", "subnet-1"),),
                anonymous=True,
                tags={"team": "shop"},
            ),
            Instance(OTHER, "other", "ap-singapore"),
        ),
        (Personal(REGION, personal),),
    )


def client(cloud: DemoCloud, *, region: str = REGION, **account: str) -> CommonClient:
    """The cloud's own client, with the account's keys unless others are given."""
    known = cloud.account
    keys = Credential(
        account.get("secret_id", known.secret_id),
        account.get("secret_key", known.secret_key),
        account.get("token"),
    )
    profile = ClientProfile(
        httpProfile=HttpProfile(protocol="http", endpoint=cloud.api.address, reqTimeout=10)
    )
    return CommonClient("tcr", "2019-09-24", keys, region, profile=profile)


def call(cloud: DemoCloud, action: str, parameters: dict[str, Any] | None = None, **with_: str) -> Any:
    """What the API answers, without the envelope; `with_` goes to `client`."""
    response = client(cloud, **with_).call_json(action, parameters or {})["Response"]
    assert response.pop("RequestId")
    return response


def refused(cloud: DemoCloud, action: str, parameters: dict[str, Any] | None = None, **with_: str) -> str:
    """The code a call is refused with."""
    with pytest.raises(TencentCloudSDKException) as failure:
        call(cloud, action, parameters, **with_)
    assert failure.value.requestId
    return str(failure.value.code)
