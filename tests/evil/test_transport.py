"""Rows C-R: a transport that breaks, drips, floods and packs costs one repository's news and nothing else."""

import hashlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.evil import Evil, Scenario
from demo.evil_scenarios import TRANSPORT, named
from repositories.models import Registry, Repository
from repositories.registries.failures import BadAnswerError, CannotPullError
from repositories.registries.protocol import RepositoryItem
from tcss.lifecycle import State
from tcss.outbound_sockets import Limits
from tests.evil.world import Known, kept, known, lister, marked, puller, update
from tests.fakes.hostile_server import HostileServer, hostile_server, http

DAMAGED = ("REG_PROTOCOL", "damaged or is not JSON")
NO_REGISTRY = ("REG_PROTOCOL", "not what a registry answers")
TOO_LARGE = ("REG_PROTOCOL", "larger than such an answer may be")
ENDED = ("REG_CONNECT", "could not be reached, or it closed")
SLOW = ("REG_TIMEOUT", "did not answer in time")
# What a data update says, by the scenario that was laid over one repository of the registry.
EXPECTED = {
    "C-R1-cut-json": DAMAGED,
    "C-R1-cut-json-once": ("", ""),
    "C-R2-page-200": ("REG_PROTOCOL", "a web page, not the registry's API"),
    "C-R2-page-502": ("REG_5XX", "reports a fault of its own"),
    "C-R3-early-end": ENDED,
    "C-R4-too-short-length": DAMAGED,
    "C-R4-two-lengths": NO_REGISTRY,
    "C-R5-endless-list": TOO_LARGE,
    "C-R5-endless-manifest": ("IMG_TOO_LARGE", "larger than such an answer may be"),
    "C-R6-letters": NO_REGISTRY,
    "C-R6-negative": NO_REGISTRY,
    "C-R6-huge": NO_REGISTRY,
    "C-R7-slow-headers": SLOW,
    "C-R7-slow-body": SLOW,
    "C-R8-silent": SLOW,
    "C-R9-long-header": NO_REGISTRY,
    "C-R9-many-headers": NO_REGISTRY,
    "C-R10-deep": DAMAGED,
    "C-R10-long-number": TOO_LARGE,
    "C-R10-same-key-twice": DAMAGED,
    "C-R10-not-a-number": DAMAGED,
    "C-R10-byte-order-mark": DAMAGED,
    "C-R10-utf-16": DAMAGED,
    "C-R10-lone-surrogate": ("REG_PROTOCOL", "no valid name or digest"),
    "C-R11-gigabyte-list": TOO_LARGE,
    "C-R11-gigabyte-manifest": ("IMG_TOO_LARGE", "larger than such an answer may be"),
    "C-R12-gzip": DAMAGED,
    "C-R12-deflate": DAMAGED,
    "C-R12-brotli": DAMAGED,
    "C-R13-reset-at-once": ENDED,
    "C-R13-reset-after-headers": ENDED,
    "C-R15-http-0.9": NO_REGISTRY,
    "C-R15-other-protocol": NO_REGISTRY,
    "C-R15-continue-flood": NO_REGISTRY,
    "C-R15-early-hints": ("REG_PROTOCOL", "does not understand the registry's API"),
    "C-R16-location-with-line-end": ("REG_PROTOCOL", "an address where no storage may be"),
    "C-R16-location-beyond-ascii": ("REG_PROTOCOL", "an address where no storage may be"),
    "C-R16-realm-with-line-end": ("REG_PROTOCOL", "on another host, port or scheme"),
}
BLOB = bytes(range(256)) * 4096
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
PATIENT = Limits(connect=2.0, read=2.0, total=10.0)


@pytest.mark.parametrize("scenario", TRANSPORT, ids=lambda scenario: scenario.title)
def test_a_broken_answer_costs_its_own_news_and_nothing_that_was_known(
    evil: Evil, registry: Registry, before: Known, scenario: Scenario
) -> None:
    code, words = EXPECTED[scenario.title]
    evil.lay(scenario)
    began = time.process_time()
    sync = update(registry)
    assert (sync.state, sync.error_code) == (State.INCOMPLETE if code else State.SUCCEEDED, code)
    assert words in sync.error_reason
    assert bool(sync.error_remedy) == bool(code)
    assert kept(before)
    assert marked() == set()
    assert Repository.objects.filter(error_code="").count() >= 2
    assert time.process_time() - began < 5.0


def test_every_transport_scenario_has_its_expectation() -> None:
    assert set(EXPECTED) == {scenario.title for scenario in TRANSPORT}


def test_c_r1_the_next_good_data_update_makes_up_for_the_evil_one(
    evil: Evil, registry: Registry, before: Known
) -> None:
    evil.lay(named("C-R1-cut-json")[0])
    update(registry)
    evil.lift()
    assert update(registry).state == State.SUCCEEDED
    assert kept(before)
    assert not Repository.objects.exclude(error_code="").exists()


@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize(
    "title", ["C-R2-page-200", "C-R3-early-end", "C-R6-letters", "C-R9-many-headers", "C-R13-reset-at-once"]
)
def test_a_harbor_1_that_breaks_its_answers_costs_as_little(
    older: Evil, connect: Callable[..., Registry], title: str
) -> None:
    registry = connect(older.server.url, version="V1")
    assert update(registry).state == State.SUCCEEDED
    before = known()
    older.lay(named(title)[0])
    sync = update(registry)
    assert sync.state == State.INCOMPLETE
    assert sync.error_code in {"REG_PROTOCOL", "REG_CONNECT", "REG_TIMEOUT", "REG_5XX"}
    assert kept(before)
    assert marked() == set()


@pytest.mark.parametrize("name", ["C-R7-slow-headers", "C-R7-slow-body", "C-R8-silent"])
def test_c_r7_a_byte_now_and_then_meets_the_deadline_of_the_whole_request(evil: Evil, name: str) -> None:
    evil.lay(named(name)[0])
    began = time.monotonic()
    with pytest.raises(Exception, match="REG_TIMEOUT"):
        list(lister(evil.server.url).list_artifacts(RepositoryItem("shop/web", "shop")))
    assert time.monotonic() - began < 3.0


def resident_bytes() -> int:
    """The most this process has held since the last look."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("name", ["C-R11-gigabyte-list", "C-R11-gigabyte-manifest", "C-R12-gzip"])
def test_c_r11_a_gigabyte_is_cut_before_it_takes_memory(evil: Evil, name: str) -> None:
    evil.lay(named(name)[0])
    Path("/proc/self/clear_refs").write_text("5")
    held = resident_bytes()
    artifacts = lister(evil.server.url).list_artifacts(RepositoryItem("shop/web", "shop"))
    client = puller(evil.server.url, limits=Limits())
    with pytest.raises(BadAnswerError):
        client.get_manifest("shop/web", DIGEST) if "manifest" in name else list(artifacts)
    assert resident_bytes() - held < 50 * 2**20


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def pulled(server: HostileServer, **fields: Any) -> bytes:
    client = puller(server.url, limits=PATIENT, **{"tries": 4, **fields})
    with client.get_blob("shop/web", DIGEST, len(BLOB)) as chunks:
        return b"".join(chunks)


def part_of(server: HostileServer) -> int:
    """Where the part begins that was asked for last."""
    return int(server.asked[-1].headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    "count", [-1, 0, 2**19, len(BLOB) - 1], ids=["nothing", "headers", "half", "all-but-one"]
)
@pytest.mark.parametrize("knows_parts", [True, False], ids=["parts", "no-parts"])
def test_c_r13_a_blob_cut_by_a_reset_arrives_whole(
    server: HostileServer, count: int, knows_parts: bool
) -> None:
    def serve(connection: socket.socket) -> None:
        first = part_of(server) if knows_parts else 0
        rest = BLOB[first:]
        status = b"206 P" if first else b"200 O"
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (
            status,
            len(rest),
            first,
            len(BLOB) - 1,
            len(BLOB),
        )
        if len(server.asked) > 1:
            connection.sendall(head + rest)
            return
        if count >= 0:
            connection.sendall(head + rest[:count])
        reset(connection)

    server.answers["/v2/"] = serve
    assert pulled(server) == BLOB
    assert len(server.asked) == 2


def test_c_r14_a_whole_blob_sent_as_a_part_of_itself_is_whole(server: HostileServer) -> None:
    server.answers["/v2/"] = http(206, BLOB, Content_Range=f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}")
    assert pulled(server) == BLOB


@pytest.mark.parametrize("range_", ["bytes 7-9/10", "", "bytes */10", "lines 0-1"])
def test_c_r14_a_wrong_part_on_resume_is_left_for_the_whole(server: HostileServer, range_: str) -> None:
    def serve(connection: socket.socket) -> None:
        if len(server.asked) == 1:
            head = b"HTTP/1.1 200 O\r\nContent-Length: %d\r\n\r\n" % len(BLOB)
            connection.sendall(head + BLOB[:1000])
        elif part_of(server):
            connection.sendall(http(206, b"x" * 3, Content_Range=range_))
        else:
            connection.sendall(http(200, BLOB))

    server.answers["/v2/"] = serve
    assert pulled(server) == BLOB
    assert ["range" in asked.headers for asked in server.asked] == [False, True, False]


def test_c_r3_a_blob_that_ends_early_every_time_is_never_taken_for_whole(server: HostileServer) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 O\r\nContent-Length: %d\r\n\r\n" % len(BLOB) + BLOB[:1000])

    server.answers["/v2/"] = serve
    with pytest.raises(Exception, match="REG_CONNECT"):
        pulled(server, tries=2)


def test_c_r12_a_packed_body_of_a_redirect_is_not_unpacked(evil: Evil, server: HostileServer) -> None:
    bomb = bytes(2**20)
    server.answers["/v2/"] = http(307, bomb, Location=f"{server.url}/store", Content_Encoding="gzip")
    server.answers["/store"] = http(200, BLOB)
    assert pulled(server) == BLOB


def test_c_r15_http_1_0_works(server: HostileServer) -> None:
    server.answers["/v2/"] = lambda connection: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + BLOB)
    assert pulled(server) == BLOB


def test_c_r5_a_layer_larger_than_its_manifest_says_is_cut(server: HostileServer) -> None:
    server.answers["/v2/"] = http(200, BLOB + b"more")
    with pytest.raises(CannotPullError, match="IMG_DIGEST"):
        pulled(server)
