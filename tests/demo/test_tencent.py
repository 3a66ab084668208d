"""The demo Tencent cloud as a process, behind HTTPS, and with its samples."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from demo import images, tencent_samples
from demo.blobs import BlobStore
from demo.catalog import OCI_INDEX, OCI_MANIFEST
from demo.exchange import Answer
from demo.tencent import DemoCloud, running
from tests.demo.small_cloud import INSTANCE, call, content
from tests.demo.small_registry import ask, basic, bearer, token
from tests.demo.test_server import certificate

ROOT = Path(__file__).resolve().parents[2]


def everything(ask_api: Callable[[str, dict[str, Any]], Any]) -> dict[str, str]:
    """Every tag that the API lists, in all instances and the personal edition, with its manifest's digest."""
    found: dict[str, str] = {}
    for instance in ask_api("DescribeInstances", {"AllRegion": True})["Registries"]:
        here = {"RegistryId": instance["RegistryId"], "@": instance["RegionName"]}
        for repository in ask_api("DescribeRepositories", here)["RepositoryList"]:
            namespace, _, name = repository["Name"].partition("/")
            where = {**here, "NamespaceName": namespace, "RepositoryName": name}
            for row in ask_api("DescribeImages", where)["ImageInfoList"]:
                found[f"{instance['RegistryId']}/{namespace}/{name}:{row['ImageVersion']}"] = row["Digest"]
    for repository in ask_api("DescribeRepositoryOwnerPersonal", {})["Data"]["RepoInfo"]:
        name = repository["RepoName"]
        for row in ask_api("DescribeImagePersonal", {"RepoName": name})["Data"]["TagInfo"]:
            found[f"{name}:{row['TagName']}"] = row["TagId"]
    return found


def in_samples(cloud: DemoCloud) -> dict[str, str]:
    """Everything in a cloud of samples."""

    def ask_api(action: str, parameters: dict[str, Any]) -> Any:
        parameters = dict(parameters)
        return call(cloud, action, parameters, region=parameters.pop("@", "ap-guangzhou"))

    return everything(ask_api)


def test_the_samples_are_listed_and_each_can_be_pulled(tmp_path: Path) -> None:
    with running(tmp_path) as cloud:
        found = in_samples(cloud)
        assert len(found) == 14
        tokens = {}
        for region, key in (
            ("ap-guangzhou", tencent_samples.GUANGZHOU),
            ("ap-singapore", tencent_samples.SINGAPORE),
        ):
            given = call(cloud, "CreateInstanceToken", {"RegistryId": key}, region=region)
            tokens[key] = basic(given["Username"], given["Token"])
        mine = basic(cloud.account.uin, cloud.account.personal_password)
        for place, digest in found.items():
            key, _, rest = place.partition("/") if place.startswith("tcr-") else ("", "", place)
            registry = cloud.registry(key) if key else cloud.personal()
            name, _, tag = rest.partition(":")
            given = bearer(token(registry, name, tokens[key] if key else mine))
            accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
            manifest = ask(registry, f"/v2/{name}/manifests/{tag}", given | accept)
            assert (manifest.status, manifest.headers["docker-content-digest"]) == (200, digest)
        assert cloud.unexpected == []


def test_the_samples_share_an_image_with_harbors_and_between_the_editions(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    harbor = images.build(store).repository("library/debian")
    assert harbor is not None
    wanted = json.loads(store.read(harbor.artifacts[0].digest))["config"]["digest"]
    with running(tmp_path) as cloud:
        found = in_samples(cloud)
        shared = {place for place, digest in found.items() if wanted.encode() in cloud.blobs.read(digest)}
    assert shared == {
        "tcr-demo0gz1/base/os/debian:12",
        "tcr-demo0gz1/base/os/debian:bookworm",
        "demo-user/debian:12",
    }


def test_the_samples_come_out_the_same_every_time(tmp_path: Path) -> None:
    first = tencent_samples.build(BlobStore(tmp_path / "first"))
    second = tencent_samples.build(BlobStore(tmp_path / "second"))
    assert (first.instances, first.personal) == (second.instances, second.personal)
    assert first.account.secret_key != second.account.secret_key


def test_the_registries_speak_https_with_the_certificate_they_are_given(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    with running(tmp_path, content(BlobStore(tmp_path)), certificate=files) as cloud:
        registry = cloud.registry(INSTANCE)
        assert call(cloud, "DescribeInstances")["Registries"][0]["PublicDomain"] == registry.address
        assert registry.url == f"https://{registry.address}"
        context = ssl.create_default_context(cafile=str(files[0]))
        reply = ask(registry, "/v2/", context=context)
        assert f'realm="{registry.url}/service/token"' in reply.headers["www-authenticate"]
        assert cloud.storage.url.startswith("https://")
        cloud.change(INSTANCE, entry="Closed")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            ask(registry, "/v2/", context=context)


def test_the_api_speaks_https_with_the_certificate_it_is_given(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    with running(tmp_path, content(BlobStore(tmp_path)), api_certificate=files) as cloud:
        keys = Credential(cloud.account.secret_id, cloud.account.secret_key)
        http = HttpProfile(protocol="https", endpoint=cloud.api.address, certification=str(files[0]))
        asking = CommonClient("tcr", "2019-09-24", keys, "ap-guangzhou", ClientProfile(httpProfile=http))
        assert asking.call_json("DescribeInstances", {})["Response"]["TotalCount"] == 1
        assert cloud.api_url.startswith("https://127.0.0.1:")


def test_runs_as_a_process_that_says_where_its_api_listens(tmp_path: Path) -> None:
    announced = tmp_path / "address"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "demo.tencent", "--port", "0"),
            *("--data", str(tmp_path / "data"), "--announce", str(announced)),
        ],
        cwd=ROOT,
        env=os.environ | {"DEMO_TENCENT_SECRET_KEY": "given key"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        url = announced.read_text(encoding="utf-8")
        assert line == f"listening on {url}"
        http = HttpProfile(protocol="http", endpoint=url.removeprefix("http://"))
        given = Credential(tencent_samples.SECRET_ID, "given key")
        asking = CommonClient("tcr", "2019-09-24", given, "ap-singapore", ClientProfile(httpProfile=http))
        assert asking.call_json("DescribeInstances", {})["Response"]["TotalCount"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_failure_of_the_servers_own_code_does_not_pass_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_answer: Answer) -> Answer:
        raise ZeroDivisionError

    def ask_broken_cloud() -> None:
        with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
            registry = cloud.registry(INSTANCE)
            registry.answer = lambda _request: broken(Answer(200))  # type: ignore[method-assign]
            with pytest.raises(ConnectionError):
                ask(registry, "/v2/")

    with pytest.raises(ZeroDivisionError):
        ask_broken_cloud()
    assert "ZeroDivisionError" in capsys.readouterr().err
