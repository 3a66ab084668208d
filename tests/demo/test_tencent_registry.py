"""The registries of the demo Tencent cloud: who may pull, from where, how long, and where blobs come from."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.blobs import BlobStore
from demo.faults import Fault
from demo.tencent import DemoCloud, running
from demo.tencent_model import Policy
from demo.tencent_registry import RegistryFace
from tests.demo.small_cloud import INSTANCE, OTHER, call, content
from tests.demo.small_registry import LAYER, Reply, ask, basic, bearer, token

HERE = {"RegistryId": INSTANCE}
LAYER_DIGEST = "sha256:" + hashlib.sha256(LAYER).hexdigest()
APP = "/v2/team/app/manifests/1.0"
BLOB = f"/v2/team/app/blobs/{LAYER_DIGEST}"
SERVICE = "/service/token?service=harbor-registry"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DemoCloud]:
    with running(tmp_path, content(BlobStore(tmp_path))) as cloud:
        yield cloud


@pytest.fixture
def registry(cloud: DemoCloud) -> RegistryFace:
    return cloud.registry(INSTANCE)


def login(cloud: DemoCloud) -> dict[str, str]:
    """The login header of a temporary token, fresh from the API."""
    given = call(cloud, "CreateInstanceToken", HERE)
    return basic(given["Username"], given["Token"])


def fetch(address: str, headers: dict[str, str] | None = None) -> Reply:
    """One request to an address that was redirected to."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_a_temporary_token_opens_the_token_flow(cloud: DemoCloud, registry: RegistryFace) -> None:
    challenge = ask(registry, APP).headers["www-authenticate"]
    assert challenge == (
        f'Bearer realm="{registry.url}/service/token",service="harbor-registry",'
        'scope="repository:team/app:pull"'
    )
    given = bearer(token(registry, "team/app", login(cloud)))
    manifest = ask(registry, APP, given)
    assert manifest.status == 200
    assert "sha256:" + hashlib.sha256(manifest.body).hexdigest() == manifest.headers["docker-content-digest"]
    assert [pull.repository for pull in registry.pulls] == ["team/app"]
    assert cloud.unexpected == []


def test_a_temporary_token_says_when_it_ends_and_ends_then(cloud: DemoCloud, registry: RegistryFace) -> None:
    cloud.clock.stop()
    given = call(cloud, "CreateInstanceToken", {**HERE, "TokenType": "temp", "Desc": "pulls"})
    assert given["TokenId"] == ""
    assert given["ExpTime"] == int((cloud.clock.now() + timedelta(hours=1)).timestamp() * 1000)
    assert given["Username"] == cloud.account.uin
    assert len(given["Token"].split(".")) == 3
    header = basic(given["Username"], given["Token"])
    cloud.clock.ahead = timedelta(minutes=59)
    assert ask(registry, SERVICE, header).status == 200
    cloud.clock.ahead = timedelta(minutes=61)
    assert ask(registry, SERVICE, header).status == 401


def test_a_lasting_token_lasts_as_long_as_its_instance_says(cloud: DemoCloud, registry: RegistryFace) -> None:
    cloud.change(INSTANCE, token_hours=48)
    given = call(cloud, "CreateInstanceToken", {**HERE, "TokenType": "longterm"})
    assert given["TokenId"]
    header = basic(given["Username"], given["Token"])
    cloud.clock.ahead = timedelta(hours=47)
    assert ask(registry, SERVICE, header).status == 200
    cloud.clock.ahead = timedelta(hours=49)
    assert ask(registry, SERVICE, header).status == 401


def test_all_tokens_can_expire_at_once_and_new_ones_are_good(
    cloud: DemoCloud, registry: RegistryFace
) -> None:
    header = login(cloud)
    given = bearer(token(registry, "team/app", header))
    assert ask(registry, APP, given).status == 200
    cloud.expire_tokens()
    assert ask(registry, APP, given).status == 401
    assert ask(registry, SERVICE, header).status == 401
    assert ask(registry, APP, bearer(token(registry, "team/app", login(cloud)))).status == 200


def test_registry_tokens_alone_can_expire_in_the_middle(cloud: DemoCloud, registry: RegistryFace) -> None:
    header = login(cloud)
    given = bearer(token(registry, "team/app", header))
    registry.faults.add(Fault(match="/manifests/", expire_tokens=True))
    assert ask(registry, APP, given).status == 401
    assert ask(registry, APP, bearer(token(registry, "team/app", header))).status == 200


def test_a_token_opens_only_its_own_instance_and_only_for_its_user(
    cloud: DemoCloud, registry: RegistryFace
) -> None:
    cloud.change(OTHER, entry="Opened", allowlist=(Policy("127.0.0.1"),))
    given = call(cloud, "CreateInstanceToken", HERE)
    assert ask(cloud.registry(OTHER), SERVICE, basic(given["Username"], given["Token"])).status == 401
    assert ask(registry, SERVICE, basic("100000000008", given["Token"])).status == 401
    assert ask(registry, SERVICE, basic(given["Username"], given["Token"][:-2] + "AA")).status == 401
    assert ask(registry, SERVICE, basic(given["Username"], "a.b.c")).status == 401


def test_strangers_see_public_namespaces_of_instances_that_allow_it(
    cloud: DemoCloud, registry: RegistryFace
) -> None:
    tool = "/v2/open/tool/manifests/1.0"
    assert ask(registry, tool, bearer(token(registry, "open/tool"))).status == 200
    assert ask(registry, APP, bearer(token(registry, "team/app"))).status == 401
    cloud.change(INSTANCE, anonymous=False)
    assert ask(registry, tool, bearer(token(registry, "open/tool"))).status == 401


def test_the_personal_edition_takes_the_accounts_number_and_its_fixed_password(cloud: DemoCloud) -> None:
    registry, account = cloud.personal(), cloud.account
    manifest = "/v2/me/web/manifests/1.0"
    right = basic(account.uin, account.personal_password)
    assert ask(registry, manifest, bearer(token(registry, "me/web", right))).status == 200
    assert ask(registry, SERVICE, basic(account.uin, "wrong")).status == 401
    assert ask(registry, SERVICE, basic("me", account.personal_password)).status == 401
    given = call(cloud, "CreateInstanceToken", HERE)
    assert ask(registry, SERVICE, basic(given["Username"], given["Token"])).status == 401


def test_a_closed_entry_drops_the_connection(cloud: DemoCloud, registry: RegistryFace) -> None:
    for entry in ("Closed", "Opening"):
        cloud.change(INSTANCE, entry=entry)
        with pytest.raises(ConnectionError):
            ask(registry, "/v2/")
    cloud.change(INSTANCE, entry="Opened")
    assert ask(registry, "/v2/").status == 401


@pytest.mark.parametrize(
    ("networks", "status"),
    [((), 403), (("10.0.0.0/8",), 403), (("10.0.0.0/8", "127.0.0.0/8"), 401), (("127.0.0.1",), 401)],
)
def test_an_opened_entry_lets_in_whom_the_allowlist_names(
    cloud: DemoCloud, registry: RegistryFace, networks: tuple[str, ...], status: int
) -> None:
    cloud.change(INSTANCE, allowlist=tuple(Policy(each) for each in networks))
    assert ask(registry, "/v2/").status == status


def test_a_linked_network_needs_neither_entry_nor_allowlist(cloud: DemoCloud) -> None:
    cloud.change(INSTANCE, entry="Closed", allowlist=())
    inside = cloud.registry(INSTANCE, private=True)
    assert ask(inside, APP, bearer(token(inside, "team/app", login(cloud)))).status == 200
    cloud.change(INSTANCE, networks=())
    with pytest.raises(ConnectionError):
        ask(inside, "/v2/")


def test_an_isolated_instance_serves_no_pulls_and_a_deleted_one_does_not_answer(
    cloud: DemoCloud, registry: RegistryFace
) -> None:
    cloud.change(INSTANCE, status="Isolate")
    assert ask(registry, "/v2/").status == 403
    cloud.content = cloud.content.without_instance(INSTANCE)
    with pytest.raises(ConnectionError):
        ask(registry, "/v2/")


def test_blobs_come_by_a_redirect_from_the_object_storage(cloud: DemoCloud, registry: RegistryFace) -> None:
    given = bearer(token(registry, "team/app", login(cloud)))
    redirected = ask(registry, BLOB, given)
    assert (redirected.status, redirected.body) == (307, b"")
    address = redirected.headers["location"]
    assert urlsplit(address).netloc == cloud.storage.address != registry.address
    assert fetch(address).body == LAYER
    part = fetch(address, {"Range": "bytes=6-11"})
    assert (part.status, part.body) == (206, LAYER[6:12])
    assert cloud.unexpected == []


def test_the_object_storage_refuses_credentials_and_addresses_that_are_altered_or_old(
    cloud: DemoCloud, registry: RegistryFace
) -> None:
    given = bearer(token(registry, "team/app", login(cloud)))
    address = ask(registry, BLOB, given).headers["location"]
    assert fetch(address.replace("/data?", "/other?")).status == 403
    assert fetch(address[:-1]).status == 403
    assert cloud.unexpected == []
    assert fetch(address, given).status == 400
    assert len(cloud.unexpected) == 1
    cloud.clock.ahead = timedelta(minutes=21)
    assert fetch(address).status == 403


def test_blobs_can_come_from_the_registry_itself(cloud: DemoCloud, registry: RegistryFace) -> None:
    cloud.redirects_blobs = False
    given = bearer(token(registry, "team/app", login(cloud)))
    assert ask(registry, BLOB, given).body == LAYER
    missing = f"/v2/team/app/blobs/sha256:{'0' * 64}"
    cloud.redirects_blobs = True
    assert ask(registry, missing, given).status == 404


def test_another_path_is_noted(cloud: DemoCloud, registry: RegistryFace) -> None:
    assert ask(registry, "/api/v2.0/projects").status == 404
    assert cloud.unexpected == ["GET /api/v2.0/projects"]


def test_a_push_moves_a_tag_for_the_next_pull(cloud: DemoCloud, registry: RegistryFace) -> None:
    instance = cloud.content.instance(INSTANCE)
    assert instance is not None
    repository = instance.catalog.repository("team/app/web/front")
    assert repository is not None
    newest = repository.find("1.4")
    oldest = repository.find("1.0")
    assert newest is not None
    assert oldest is not None
    catalog = instance.catalog.with_tag(
        "team", "app/web/front", replace(oldest.tags[0], push_time=newest.push_time), newest.digest
    )
    given = bearer(token(registry, "team/app/web/front", login(cloud)))
    path = "/v2/team/app/web/front/manifests/1.0"
    assert ask(registry, path, given).headers["docker-content-digest"] == oldest.digest
    cloud.change(INSTANCE, catalog=catalog)
    moved = ask(registry, path, given)
    assert moved.headers["docker-content-digest"] == newest.digest
    config = json.loads(moved.body)["config"]["digest"]
    assert b"word 4" in cloud.blobs.read(config)
