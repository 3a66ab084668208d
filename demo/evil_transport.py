"""What an evil registry does to the transport: broken, endless, slow, huge and packed answers (rows C-R)."""

from __future__ import annotations

import zlib

from demo.evil import Ending
from demo.evil_making import (
    BOMB,
    CHUNKED,
    HEAD,
    PIECE,
    WEB_BLOBS,
    WEB_LIST,
    WEB_MANIFESTS,
    body,
    challenge,
    endless,
    on_the_wire,
    spoilt,
    whole,
)
from demo.faults import GATEWAY_PAGE, Fault

TRANSPORT = [
    body("C-R1", "cut-json", "Ends the JSON in the middle, with a length that fits.", b'[{"digest":"sha256:'),
    spoilt(
        "C-R1",
        "cut-json-once",
        "Ends the JSON in the middle, once.",
        Fault(match=WEB_LIST, body=b'[{"digest":"sha256:'),
    ),
    on_the_wire("C-R2", "page-200", "A proxy's error page with status 200.", whole(GATEWAY_PAGE)),
    spoilt(
        "C-R2",
        "page-502",
        "A proxy's error page with status 502.",
        Fault(
            match=WEB_LIST, times=None, status=502, body=GATEWAY_PAGE, headers={"Content-Type": "text/html"}
        ),
    ),
    on_the_wire(
        "C-R3", "early-end", "Closes before the announced length.", HEAD + b"Content-Length: 99\r\n\r\n[{"
    ),
    on_the_wire(
        "C-R4",
        "too-short-length",
        "Announces fewer bytes than it sends.",
        HEAD + b"Content-Length: 3\r\n\r\n[{}, {}]",
    ),
    on_the_wire(
        "C-R4",
        "two-lengths",
        "Announces two lengths.",
        HEAD + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n[]",
    ),
    endless(
        "C-R5", "endless-list", "A list in chunks that never end.", CHUNKED, b"10000\r\n" + PIECE + b"\r\n"
    ),
    endless(
        "C-R5",
        "endless-manifest",
        "A manifest in chunks that never end.",
        CHUNKED,
        b"10000\r\n" + PIECE + b"\r\n",
        match=WEB_MANIFESTS,
    ),
    on_the_wire("C-R6", "letters", "A chunk of size zz.", CHUNKED + b"zz\r\n[]\r\n0\r\n\r\n"),
    on_the_wire("C-R6", "negative", "A chunk of negative size.", CHUNKED + b"-2\r\n[]\r\n0\r\n\r\n"),
    on_the_wire("C-R6", "huge", "A chunk of 16 hexadecimal digits.", CHUNKED + b"ffffffffffffffff\r\n[]"),
    endless(
        "C-R7", "slow-headers", "One byte of the headers now and then.", b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.1
    ),
    endless(
        "C-R7",
        "slow-body",
        "One byte of the body now and then.",
        HEAD + b"Content-Length: 999\r\n\r\n",
        b"[",
        0.1,
    ),
    on_the_wire("C-R8", "silent", "Takes the connection and never answers.", Ending.SILENCE),
    on_the_wire(
        "C-R9",
        "long-header",
        "One header of a megabyte.",
        HEAD + b"X: " + b"a" * 2**20 + b"\r\nContent-Length: 2\r\n\r\n[]",
    ),
    on_the_wire(
        "C-R9",
        "many-headers",
        "Ten thousand headers.",
        HEAD + b"X: a\r\n" * 10_000 + b"Content-Length: 2\r\n\r\n[]",
    ),
    body("C-R10", "deep", "A list in a list, 100,000 deep.", b"[" * 100_000 + b"]" * 100_000),
    body("C-R10", "long-number", "A number of a million digits.", b'[{"size":' + b"9" * 1_000_000 + b"}]"),
    body("C-R10", "same-key-twice", "An object with one key twice.", b'[{"digest":"a","digest":"b"}]'),
    body("C-R10", "not-a-number", "NaN, which JSON does not have.", b'[{"size":NaN}]'),
    body("C-R10", "byte-order-mark", "A byte order mark before the JSON.", b"\xef\xbb\xbf[]"),
    body("C-R10", "utf-16", "JSON in UTF-16.", "[]".encode("utf-16")),
    body("C-R10", "lone-surrogate", "A text with half a character in it.", b'[{"digest":"\\ud800"}]'),
    endless(
        "C-R11", "gigabyte-list", "A list of a gigabyte.", HEAD + b"Content-Length: 1073741824\r\n\r\n", PIECE
    ),
    endless(
        "C-R11",
        "gigabyte-manifest",
        "A manifest of a gigabyte.",
        HEAD + b"Content-Length: 1073741824\r\n\r\n",
        PIECE,
        match=WEB_MANIFESTS,
    ),
    on_the_wire("C-R12", "gzip", "A packed list nobody asked for.", whole(BOMB, b"Content-Encoding: gzip")),
    on_the_wire(
        "C-R12",
        "deflate",
        "Another packing.",
        whole(zlib.compress(bytes(2**24)), b"Content-Encoding: deflate"),
    ),
    on_the_wire(
        "C-R12", "brotli", "A packing nobody can undo.", whole(b"\xcf" * 64, b"Content-Encoding: br")
    ),
    on_the_wire("C-R13", "reset-at-once", "Resets the connection before the first byte.", Ending.RESET),
    on_the_wire(
        "C-R13",
        "reset-after-headers",
        "Resets after the headers.",
        HEAD + b"Content-Length: 9\r\n\r\n",
        Ending.RESET,
    ),
    on_the_wire("C-R15", "http-0.9", "A body without any header.", b'[{"digest":"a"}]'),
    on_the_wire("C-R15", "other-protocol", "The greeting of another protocol.", b"SSH-2.0-OpenSSH_9.2\r\n"),
    endless(
        "C-R15",
        "continue-flood",
        "Interim answers without end.",
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ),
    on_the_wire("C-R15", "early-hints", "An interim answer as the last one.", b"HTTP/1.1 103 X\r\n\r\n"),
    on_the_wire(
        "C-R16",
        "location-with-line-end",
        "A Location with a line end in it.",
        b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: https://a.example/\r\n X-Evil: 1\r\n\r\n",
        match=WEB_BLOBS,
    ),
    on_the_wire(
        "C-R16",
        "location-beyond-ascii",
        "A Location with bytes that are no ASCII.",
        b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: https://h\xe4rbor.example/\xff\r\n\r\n",
        match=WEB_BLOBS,
    ),
    challenge(
        "C-R16",
        "realm-with-line-end",
        "A realm with a line end in it.",
        b'WWW-Authenticate: Bearer realm="http://a.example/\r\n X-Evil: 1",service="x"',
    ),
]
