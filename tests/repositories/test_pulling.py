"""Pulling by digest: whom the password goes to, what is believed, and how a broken answer is resumed."""

import base64
import hashlib
import ipaddress
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from demo.catalog import Artifact
from demo.faults import Fault
from demo.images import OPERATOR
from demo.server import DemoServer
from repositories.registries import client
from repositories.registries.connection import Connection
from repositories.registries.distribution import DistributionClient
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    CannotPullError,
    NotThereError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.manifests import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, parse_manifest
from repositories.registries.protocol import Kind
from tcss.outbound_sockets import Limits
from tests.fakes.hostile_server import HostileServer, hostile_server, http

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
CANARY = 'canary-Pa55:"\\ %0a é 密'
BLOB = bytes(range(256)) * 4096
SHORT = Limits(connect=1.0, read=1.0, total=3.0)


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def puller(
    url: str, password: str = CANARY, username: str = "robot$proj+name", **fields: Any
) -> DistributionClient:
    connection = Connection(url, username, lambda: password, allowed_networks=LOOPBACK)
    return DistributionClient(connection, **{"limits": SHORT, **fields})


def challenge(realm: str) -> bytes:
    return http(401, b"{}", WWW_Authenticate=f'Bearer realm="{realm}",service="harbor-registry",scope="x"')


def read(client: DistributionClient, content: bytes, **fields: Any) -> bytes:
    with client.get_blob("shop/web", digest_of(content), len(content), **fields) as chunks:
        return b"".join(chunks)


@pytest.fixture
def artifact(demo: DemoServer) -> Artifact:
    repository = demo.catalog.repository("payments/core/settlement")
    assert repository is not None
    found = repository.find("0.9.4")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "realm",
    [
        "http://127.0.0.2:{port}/service/token",
        "http://127.0.0.1:1/service/token",
        "https://127.0.0.1:{port}/service/token",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:{port}@127.0.0.2/service/token",
        "http://127.0.0.1:{port}\\@127.0.0.2/",
        "//127.0.0.1:{port}/service/token",
        "/service/token",
        "",
    ],
)
def test_a_token_service_on_another_origin_gets_no_request(server: HostileServer, realm: str) -> None:
    server.answers["/v2/"] = challenge(realm.format(port=server.port))
    with pytest.raises(BadAnswerError) as caught:
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    assert caught.value.code == "REG_PROTOCOL"
    assert [asked.target for asked in server.asked] == [f"/v2/shop/web/manifests/{digest_of(b'')}"] * len(
        server.asked
    )
    assert not any("authorization" in asked.headers for asked in server.asked)


def test_a_realm_written_in_another_way_leads_to_the_registry_itself(server: HostileServer) -> None:
    server.answers["/v2/"] = challenge(f"HTTP://{server.host}:{server.port}/service/token?account=x#part")
    server.answers["/service/token"] = http(200, b'{"token":"T0KEN"}')
    with pytest.raises(AccessRefusedError):
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    assert "/service/token?service=harbor-registry&scope=repository%3Ashop%2Fweb%3Apull" in server.targets()


def test_a_challenge_of_64_kilobytes_is_read_at_once(server: HostileServer) -> None:
    server.answers["/v2/"] = http(401, b"", WWW_Authenticate="Bearer " + "a" * 65_000)
    began = time.process_time()
    with pytest.raises(BadAnswerError):
        puller(server.url, tries=1).get_manifest("shop/web", digest_of(b""))
    assert time.process_time() - began < 2


def storage_behind(server: HostileServer, storage: HostileServer, status: int = 307) -> None:
    server.answers["/v2/"] = challenge(f"{server.url}/service/token")
    server.answers["/service/token"] = http(200, b'{"token":"T0KEN","expires_in":1800}')

    def blobs(connection: socket.socket) -> None:
        asked = server.asked[-1]
        if "authorization" not in asked.headers:
            connection.sendall(challenge(f"{server.url}/service/token"))
            return
        connection.sendall(http(status, b"", Location=f"{storage.url}/store/blob?signature=a%2Fb%3D"))

    server.answers["/v2/shop/web/blobs/"] = blobs


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_blob_may_be_elsewhere_but_no_credential_goes_there(server: HostileServer, status: int) -> None:
    with hostile_server({"/store/": http(200, BLOB)}) as storage:
        storage_behind(server, storage, status)
        assert read(puller(server.url), BLOB) == BLOB
        arrived = storage.asked[0]
        assert arrived.target == "/store/blob?signature=a%2Fb%3D"
        assert not {"authorization", "cookie", "proxy-authorization"} & set(arrived.headers)
        assert CANARY not in str(storage.asked)
    bearers = [asked.headers.get("authorization") for asked in server.asked if "/blobs/" in asked.target]
    assert bearers == [None, "Bearer T0KEN"]


def test_a_manifest_is_never_fetched_from_elsewhere(server: HostileServer) -> None:
    server.answers["/v2/"] = http(307, b"", Location=f"{server.url}/elsewhere")
    with pytest.raises(BadAnswerError):
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    assert all(target.startswith("/v2/") for target in server.targets())


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "http://127.0.0.1:6379/",
        "http://127.0.0.1:5432/",
        "http://127.0.0.1:25/",
        "http://user:secret@127.0.0.1/",
        "http://[",
        "//[::1",
        "",
    ],
)
def test_a_blob_is_not_followed_to_where_no_storage_may_be(server: HostileServer, location: str) -> None:
    server.answers["/v2/"] = http(307, b"", Location=location)
    with pytest.raises(RegistryError) as caught:
        read(puller(server.url), BLOB)
    assert caught.value.code in {"REG_PROTOCOL", "REG_BLOCKED_ADDR"}


def test_redirects_end_after_three_hops(server: HostileServer) -> None:
    server.answers["/v2/"] = http(307, b"", Location="/hop")
    server.answers["/hop"] = http(307, b"", Location="/hop")
    with pytest.raises(BadAnswerError):
        read(puller(server.url, tries=1), BLOB)
    assert server.targets()[1:] == ["/hop"] * 3


def test_a_registry_that_always_answers_401_gets_two_token_requests(server: HostileServer) -> None:
    server.answers["/v2/"] = challenge(f"{server.url}/service/token")
    server.answers["/service/token"] = http(200, b'{"token":"T0KEN"}')
    with pytest.raises(AccessRefusedError) as caught:
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    assert caught.value.code == "REG_AUTH"
    assert sum(target.startswith("/service/token") for target in server.targets()) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b'{"token":""}',
        b'{"token":7}',
        b'{"token":"a\\r\\nX-Evil: 1"}',
        b'{"token":"' + b"a" * 100_000 + b'"}',
    ],
)
def test_a_token_answer_without_a_usable_token_is_an_error(server: HostileServer, answer: bytes) -> None:
    server.answers["/v2/"] = challenge(f"{server.url}/service/token")
    server.answers["/service/token"] = http(200, answer)
    with pytest.raises(BadAnswerError):
        puller(server.url, tries=1).get_manifest("shop/web", digest_of(b""))


@pytest.mark.parametrize("life", ["0", "-5", "1000000000000", '"soon"', "null", "true"])
def test_a_senseless_life_of_a_token_is_a_minute(server: HostileServer, life: str) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    server.answers["/service/token"] = http(200, f'{{"token":"T0KEN","expires_in":{life}}}'.encode())

    def manifests(connection: socket.socket) -> None:
        if "authorization" not in server.asked[-1].headers:
            connection.sendall(challenge(f"{server.url}/service/token"))
        else:
            connection.sendall(http(200, manifest, Content_Type=OCI_INDEX))

    server.answers["/v2/"] = manifests
    client = puller(server.url)
    for _ in range(2):
        assert client.get_manifest("shop/web", digest_of(manifest)).kind == Kind.INDEX
    assert sum(target.startswith("/service/token") for target in server.targets()) == 1


def test_a_token_that_ends_in_the_middle_is_renewed(
    demo: DemoServer, password: str, artifact: Artifact
) -> None:
    client = puller(demo.url, password, OPERATOR)
    client.get_manifest("payments/core/settlement", artifact.digest)
    demo.faults.add(Fault(match="/manifests/", expire_tokens=True))
    client.get_manifest("payments/core/settlement", artifact.digest)
    assert sum(seen.path.startswith("/service/token") for seen in demo.requests) == 2


def test_the_password_arrives_byte_for_byte(server: HostileServer) -> None:
    server.answers["/v2/"] = challenge(f"{server.url}/service/token")
    server.answers["/service/token"] = http(401, b"{}")
    with pytest.raises(AccessRefusedError):
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    sent = next(asked for asked in server.asked if asked.target.startswith("/service/"))
    scheme, _, pair = sent.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(pair).decode()) == ("Basic", f"robot$proj+name:{CANARY}")


def test_the_password_is_in_no_error_log_or_repr(
    server: HostileServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    said = []
    for answer in (
        challenge(f"{server.url}/service/token"),
        http(500),
        http(403),
        b"garbage\r\n\r\n",
        b"",
        http(200, b"<html>"),
    ):
        server.answers["/"] = answer or (lambda connection: connection.close())
        client = puller(server.url, tries=1)
        with pytest.raises(RegistryError) as caught:
            client.read_blob("shop/web", digest_of(b"x"), limit=100)
        error: BaseException | None = caught.value
        while error is not None:
            said.append(f"{error!r} {error} {vars(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        connection = Connection(server.url, "robot", lambda: CANARY)
        said += [repr(client), str(vars(client)), repr(connection)]
    everything = " ".join(said) + caplog.text
    assert "canary" not in everything
    assert base64.b64encode(f"robot$proj+name:{CANARY}".encode()).decode() not in everything


def test_two_registries_do_not_see_each_others_passwords() -> None:
    with hostile_server() as one, hostile_server() as other:
        for server, password in ((one, "first"), (other, "second")):
            server.answers["/v2/"] = challenge(f"{server.url}/service/token")
            server.answers["/service/token"] = http(200, b'{"token":"T-' + password.encode() + b'"}')
        clients = [puller(one.url, "first"), puller(other.url, "second")]
        for _ in range(2):
            for client in clients:
                with pytest.raises(AccessRefusedError):
                    client.get_manifest("shop/web", digest_of(b""))
        sent = {asked.headers.get("authorization") for asked in one.asked} - {None}
        received = {asked.headers.get("authorization") for asked in other.asked} - {None}
        assert sent
        assert received
        assert not sent & received


def test_a_manifest_that_is_not_its_digest_is_refused(
    demo: DemoServer, password: str, artifact: Artifact
) -> None:
    demo.faults.add(Fault(match="/manifests/", skip=1, corrupt=True, times=None))
    with pytest.raises(CannotPullError) as caught:
        puller(demo.url, password, OPERATOR).get_manifest("payments/core/settlement", artifact.digest)
    assert caught.value.code == "IMG_DIGEST"


def test_a_lying_digest_header_is_ignored(demo: DemoServer, password: str, artifact: Artifact) -> None:
    demo.faults.add(Fault(match="/manifests/", times=None, headers={"Docker-Content-Digest": digest_of(b"")}))
    body = puller(demo.url, password, OPERATOR).get_manifest("payments/core/settlement", artifact.digest)
    assert body.digest == artifact.digest


@pytest.mark.parametrize(
    ("repository", "digest"),
    [
        ("shop/web", "sha256:../../etc/passwd"),
        ("shop/web", "sha256:" + "A" * 64),
        ("shop/web", "sha256:" + "a" * 63),
        ("shop/web", "sha256:" + "a" * 65),
        ("shop/web", "md5:" + "a" * 32),
        ("shop/web", ""),
        ("../v2", digest_of(b"")),
        ("shop//web", digest_of(b"")),
        ("shop/web?x", digest_of(b"")),
        ("", digest_of(b"")),
    ],
)
def test_only_names_of_valid_form_become_part_of_a_path(
    server: HostileServer, repository: str, digest: str
) -> None:
    client = puller(server.url)
    for ask in (
        lambda: client.get_manifest(repository, digest),
        lambda: client.read_blob(repository, digest, limit=10),
    ):
        with pytest.raises(CannotPullError) as caught:
            ask()
        assert caught.value.code == "IMG_MALFORMED"
    assert server.asked == []


def serve_blob(server: HostileServer, content: bytes, *, breaks: list[int], ranges: bool = True) -> None:
    """Serve a blob; the first answers break off after so many bytes each."""

    def blob(connection: socket.socket) -> None:
        wanted = server.asked[-1].headers.get("range", "bytes=0-") if ranges else "bytes=0-"
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        part = content[start:]
        status = b"206 Partial" if start else b"200 OK"
        headers = [b"Content-Length: %d" % len(part)]
        if start:
            headers.append(b"Content-Range: bytes %d-%d/%d" % (start, len(content) - 1, len(content)))
        head = b"HTTP/1.1 " + status + b"\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"
        cut = breaks.pop(0) if breaks else len(part)
        connection.sendall(head + part[:cut])

    server.answers["/v2/"] = blob


@pytest.mark.parametrize("breaks", [[0], [1], [len(BLOB) - 1], [300_000, 300_000, 1], [5] * 3])
def test_a_broken_blob_is_resumed_where_it_broke(server: HostileServer, breaks: list[int]) -> None:
    serve_blob(server, BLOB, breaks=list(breaks))
    assert read(puller(server.url), BLOB) == BLOB
    ranges = [asked.headers.get("range") for asked in server.asked]
    starts = [sum(breaks[:number]) for number in range(len(breaks) + 1)]
    assert ranges == [f"bytes={start}-" if start else None for start in starts]


def test_a_server_that_ignores_ranges_is_read_from_its_beginning(server: HostileServer) -> None:
    serve_blob(server, BLOB, breaks=[500_000], ranges=False)
    assert read(puller(server.url), BLOB) == BLOB


def test_a_blob_is_read_from_an_offset(server: HostileServer) -> None:
    serve_blob(server, BLOB, breaks=[])
    assert read(puller(server.url), BLOB, offset=1000) == BLOB[1000:]


def test_a_part_nobody_asked_for_is_refused(server: HostileServer) -> None:
    server.answers["/v2/"] = b"HTTP/1.1 206 P\r\nContent-Length: 3\r\nContent-Range: bytes 7-9/10\r\n\r\nabc"
    with pytest.raises(BadAnswerError):
        read(puller(server.url), BLOB)


@pytest.mark.parametrize(
    ("served", "code"),
    [(BLOB[:-1] + b"x", "IMG_DIGEST"), (BLOB + b"more", "IMG_DIGEST"), (BLOB[:-1], "REG_CONNECT")],
)
def test_a_blob_that_is_not_its_digest_or_size_is_refused(
    server: HostileServer, served: bytes, code: str
) -> None:
    server.answers["/v2/"] = http(200, served)
    with pytest.raises(RegistryError) as caught:
        read(puller(server.url, tries=2), BLOB)
    assert caught.value.code == code


def test_an_empty_blob_needs_no_request(server: HostileServer) -> None:
    assert read(puller(server.url), b"") == b""
    assert server.asked == []


def test_a_config_that_is_too_large_is_cut(server: HostileServer) -> None:
    server.answers["/v2/"] = http(200, BLOB)
    with pytest.raises(CannotPullError) as caught:
        puller(server.url).read_blob("shop/web", digest_of(BLOB), limit=1000)
    assert caught.value.code == "IMG_TOO_LARGE"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (403, AccessRefusedError, "REG_FORBIDDEN"),
        (404, NotThereError, "REG_NOT_FOUND"),
        (412, AccessRefusedError, "REG_FORBIDDEN"),
        (429, TryLaterError, "REG_RATE"),
        (500, TryLaterError, "REG_5XX"),
        (418, BadAnswerError, "REG_PROTOCOL"),
    ],
)
def test_a_status_has_its_error(
    server: HostileServer, status: int, error: type[RegistryError], code: str
) -> None:
    server.answers["/v2/"] = http(status, b"CANARY")
    with pytest.raises(error) as caught:
        puller(server.url, tries=2).get_manifest("shop/web", digest_of(b""))
    assert (caught.value.code, caught.value.status) == (code, status)
    assert "CANARY" not in f"{caught.value.reason}{caught.value.remedy}"


@pytest.mark.parametrize(("asked_for", "requests"), [("0", 5), ("garbage", 5), ("3600", 1)])
def test_a_long_pause_is_left_to_a_later_job(server: HostileServer, asked_for: str, requests: int) -> None:
    server.answers["/v2/"] = http(429, b"", Retry_After=asked_for)
    with pytest.raises(TryLaterError) as caught:
        puller(server.url).get_manifest("shop/web", digest_of(b""))
    assert len(server.asked) == requests
    assert caught.value.retry_after == (900.0 if asked_for == "3600" else 0.0)


def manifest_with(**fields: object) -> bytes:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"c"), "size": 1}
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], **fields}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "IMG_MALFORMED"),
        (b"{}", "IMG_UNSUPPORTED"),
        (b"[" * 100_000, "IMG_MALFORMED"),
        (b'{"schemaVersion":' + b"9" * 1_000_000 + b"}", "IMG_MALFORMED"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "IMG_MALFORMED"),
        (b'{"schemaVersion":NaN}', "IMG_MALFORMED"),
        (b'\xef\xbb\xbf{"schemaVersion":2}', "IMG_MALFORMED"),
        ('{"schemaVersion":2}'.encode("utf-16"), "IMG_MALFORMED"),
        (manifest_with(schemaVersion=1), "IMG_UNSUPPORTED"),
        (manifest_with(manifests=[]), "IMG_MALFORMED"),
        (manifest_with(mediaType=DOCKER_LIST), "IMG_MALFORMED"),
        (manifest_with(mediaType="application/x-unknown"), "IMG_MALFORMED"),
        (manifest_with(config=None), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": "sha256:../x", "size": 1}]), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": digest_of(b"l"), "size": -1}]), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": digest_of(b"l"), "size": 1.5}]), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": digest_of(b"l"), "size": 2**63}]), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": digest_of(b"l"), "size": "1"}]), "IMG_MALFORMED"),
        (manifest_with(layers=[{"digest": digest_of(b"l"), "size": 1}] * 1001), "IMG_MALFORMED"),
    ],
)
def test_a_manifest_nobody_can_understand_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(CannotPullError) as caught:
        parse_manifest(raw, digest_of(raw), OCI_MANIFEST)
    assert caught.value.code == code


def test_a_manifest_of_an_unknown_media_type_is_not_supported() -> None:
    raw = manifest_with(mediaType="application/x-unknown")
    with pytest.raises(CannotPullError) as caught:
        parse_manifest(raw, digest_of(raw), "application/x-unknown")
    assert caught.value.code == "IMG_UNSUPPORTED"


def test_a_manifest_under_another_media_type_is_refused() -> None:
    raw = manifest_with()
    with pytest.raises(CannotPullError):
        parse_manifest(raw, digest_of(raw), OCI_INDEX)
    assert parse_manifest(raw, digest_of(raw), f"{OCI_MANIFEST}; charset=utf-8").kind == Kind.IMAGE


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.IMAGE),
        (
            {
                "config": {
                    "mediaType": "application/vnd.cncf.helm.config.v1+json",
                    "digest": digest_of(b""),
                    "size": 0,
                }
            },
            Kind.CHART,
        ),
        (
            {
                "config": {
                    "mediaType": "application/vnd.wasm.config.v1+json",
                    "digest": digest_of(b""),
                    "size": 0,
                }
            },
            Kind.OTHER,
        ),
        (
            {
                "layers": [
                    {
                        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                        "digest": digest_of(b""),
                        "size": 0,
                    }
                ]
            },
            Kind.SIGNATURE,
        ),
        (
            {"layers": [{"mediaType": "application/vnd.in-toto+json", "digest": digest_of(b""), "size": 0}]},
            Kind.OTHER,
        ),
    ],
)
def test_what_a_manifest_describes_is_told_by_its_parts(fields: dict[str, Any], kind: Kind) -> None:
    raw = manifest_with(**fields)
    assert parse_manifest(raw, digest_of(raw), OCI_MANIFEST).kind == kind
