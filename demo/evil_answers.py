"""What an evil registry answers in good HTTP: refusals, tokens, redirects and lists (rows C-A, C-N6, C-P)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from email.utils import formatdate

from demo.evil import Scenario
from demo.evil_making import (
    EVERYTHING,
    PROJECTS,
    TOKENS,
    WEB_BLOBS,
    WEB_LIST,
    WEB_MANIFESTS,
    WEB_PULLS,
    body,
    challenge,
    changed,
    header,
    realm,
    redirect,
    spoilt,
)
from demo.exchange import Answer
from demo.faults import GATEWAY_PAGE, Fault


def _limited(name: str, does: str, wish: str | None) -> Scenario:
    headers = {} if wish is None else {"Retry-After": wish}
    return spoilt("C-A8", name, does, Fault(match=EVERYTHING, times=None, status=429, headers=headers))


def _flapping() -> Sequence[Fault]:
    kinds = ("users/current", r"projects\?", r"/repositories\?", "/artifacts", "/manifests/", "/blobs/")
    statuses = itertools.cycle((500, 503))
    return [
        Fault(match=kind, times=1, status=status, body=GATEWAY_PAGE)
        for kind, status in zip(kinds, statuses, strict=False)
    ]


def _pages(count: int, size: int = 10) -> list[Fault]:
    """The list of `shop/web` as so many full pages of other images, then the good answer."""

    def page(number: int) -> bytes:
        first = (number - 1) * size
        return json.dumps([_artifact(first + place) for place in range(size)]).encode()

    return [
        Fault(
            match=rf"{WEB_LIST}.*[?&]page={number}(&|$)",
            times=None,
            body=page(number),
            headers={"X-Total-Count": str(count * 100)},
        )
        for number in range(1, count + 1)
    ]


def _artifact(number: int) -> dict[str, object]:
    """A chart, which costs no manifest, as Harbor 2 lists one."""
    return {
        "digest": f"sha256:{number:064x}",
        "type": "CHART",
        "media_type": "application/vnd.cncf.helm.config.v1+json",
        "manifest_media_type": "application/vnd.oci.image.manifest.v1+json",
        "size": 100,
        "push_time": "2026-01-01T00:00:00Z",
        "tags": [{"name": f"page-{number}", "push_time": "2026-01-01T00:00:00Z"}],
    }


def _page_seven_fails() -> Sequence[Fault]:
    match = rf"{WEB_LIST}.*[?&]page=7(&|$)"
    return [Fault(match=match, times=None, status=500, body=GATEWAY_PAGE), *_pages(12)]


def _endless_pages() -> Sequence[Fault]:
    numbers = itertools.count(1000)

    def more(answer: Answer) -> Answer:
        entries = [_artifact(next(numbers)) for _ in range(100)]
        return replace(
            answer, body=json.dumps(entries).encode(), headers={"Content-Type": "application/json"}
        )

    return [Fault(match=WEB_LIST, times=None, change=more)]


def _small_pages_only() -> Sequence[Fault]:
    refusal = b'{"errors":[{"code":"UNPROCESSABLE_ENTITY","message":"page_size"}]}'
    return [Fault(match=r"page_size=(100|50)\b", times=None, status=422, body=refusal)]


ANSWERS = [
    challenge("C-A1", "no-challenge", "401 without saying how to log in."),
    challenge(
        "C-A1", "digest", "401 that asks for Digest.", b'WWW-Authenticate: Digest realm="r", nonce="n"'
    ),
    challenge("C-A1", "ntlm", "401 that asks for NTLM.", b"WWW-Authenticate: NTLM"),
    challenge(
        "C-A1", "open-quotes", "401 whose quotes do not end.", b'WWW-Authenticate: Bearer realm="http://a'
    ),
    spoilt(
        "C-A2",
        "refused-for-ever",
        "401 whatever token comes.",
        Fault(match=WEB_PULLS, times=None, status=401, body=b"{}"),
    ),
    body("C-A3", "no-token", "A token answer without a token.", b"{}", TOKENS),
    body("C-A3", "huge-token", "A token of 10 MB.", b'{"token":"' + b"a" * 10_000_000 + b'"}', TOKENS),
    body("C-A3", "token-of-two-lines", "A token with a line end in it.", b'{"token":"a\\r\\nX: y"}', TOKENS),
    realm("other-port", lambda place: f"{place.elsewhere}/service/token"),
    realm("other-scheme", lambda place: f"{place.url.replace('http:', 'https:')}/service/token"),
    realm("metadata", lambda _: "http://169.254.169.254/latest/meta-data/"),
    realm("user-in-front", lambda place: place.url.replace("://", "://harbor@") + "/service/token"),
    spoilt("C-A6", "one-forbidden", "403 on one repository.", Fault(match=WEB_LIST, times=None, status=403)),
    spoilt(
        "C-A7",
        "project-gone",
        "404 on the repositories of a project that was listed.",
        Fault(
            match=r"GET /api/v2\.0/projects/shop/repositories\?",
            times=None,
            status=404,
            body=b'{"errors":[]}',
        ),
    ),
    spoilt(
        "C-A7", "manifest-gone", "404 on every manifest.", Fault(match=WEB_MANIFESTS, times=None, status=404)
    ),
    _limited("retry-after-3600", "429 with an hour to wait.", "3600"),
    _limited("retry-after-past", "429 with a date long ago.", formatdate(0, usegmt=True)),
    _limited("retry-after-garbage", "429 with a wish nobody understands.", "soon\x1f"),
    _limited("retry-after-absent", "429 without a wish.", None),
    Scenario("C-A9", "flapping", "500 or 503 to the first question of every kind.", lambda _: _flapping()),
    redirect(302, "single-sign-on", lambda place: f"{place.elsewhere}/login", WEB_LIST, row="C-A14"),
    body("C-A14", "login-page", "A portal's login page.", b"<!DOCTYPE html><title>Log in</title>"),
    spoilt(
        "C-A14",
        "maintenance",
        "503 for maintenance.",
        Fault(match=WEB_LIST, times=None, status=503, body=b"<h1>Maintenance</h1>"),
    ),
]

REDIRECTS = [
    redirect(302, "api-to-metadata", lambda _: "http://169.254.169.254/latest/meta-data/", WEB_LIST),
    redirect(307, "api-to-elsewhere", lambda place: f"{place.elsewhere}/", WEB_LIST),
    redirect(308, "login-to-elsewhere", lambda place: f"{place.elsewhere}/", r"GET /api/v2\.0/users/current"),
    redirect(307, "manifest-to-elsewhere", lambda place: f"{place.elsewhere}/", WEB_MANIFESTS),
    redirect(307, "token-to-elsewhere", lambda place: f"{place.elsewhere}/", TOKENS),
    redirect(302, "blob-to-metadata", lambda _: "http://169.254.169.254/latest/", WEB_BLOBS),
    redirect(307, "blob-to-metadata-v6", lambda _: "http://[::ffff:169.254.169.254]/", WEB_BLOBS),
    redirect(303, "blob-to-file", lambda _: "file:///etc/passwd", WEB_BLOBS),
    redirect(307, "blob-to-gopher", lambda _: "gopher://127.0.0.1:6379/_FLUSHALL", WEB_BLOBS),
    redirect(308, "blob-to-redis", lambda _: "http://127.0.0.1:6379/", WEB_BLOBS),
    redirect(307, "blob-to-postgresql", lambda _: "http://127.0.0.1:5432/", WEB_BLOBS),
]

LISTINGS = [
    header("C-P1", "link-to-itself", "Says that the next page is this one.", Link='<?page=1>; rel="next"'),
    changed("C-P1", "same-page-for-ever", "Answers every page with the first.", lambda entries: entries * 50),
    Scenario("C-P2", "endless-pages", "New images on every page, without end.", lambda _: _endless_pages()),
    Scenario(
        "C-P3",
        "link-elsewhere",
        "Says that the next page is on another host.",
        lambda place: [
            Fault(
                match="GET /api/",
                times=None,
                headers={"Link": f'<{place.elsewhere}/p2>; rel="next"; rel=x, junk'},
            )
        ],
    ),
    changed("C-P4", "every-entry-twice", "Lists every image twice.", lambda entries: [*entries, *entries]),
    header("C-P6", "total-too-high", "Counts 49 images where there are fewer.", X_Total_Count="49"),
    header("C-P6", "total-negative", "Counts fewer than none.", X_Total_Count="-1"),
    header("C-P6", "total-no-number", "Counts in words.", X_Total_Count="many"),
    header("C-P6", "total-zero", "Counts none.", X_Total_Count="0"),
    Scenario("C-P7", "small-pages-only", "Refuses pages of more than 10.", lambda _: _small_pages_only()),
    changed("C-P9", "no-digest", "Lists an image without a digest.", lambda entries: [{}, *entries]),
    changed(
        "C-P9",
        "tags-null",
        "Has null where tags are.",
        lambda entries: [{**entry, "tags": None} for entry in entries],
    ),
    changed(
        "C-P9",
        "5000-tags",
        "Gives one image 5,000 tags.",
        lambda entries: [
            {**entries[0], "tags": [{"name": f"t{number}", "push_time": ""} for number in range(5000)]},
            *entries[1:],
        ],
    ),
    Scenario("C-P10", "page-7-fails", "500 to the seventh of twelve pages.", lambda _: _page_seven_fails()),
    body("C-P11", "no-projects", "No projects, with status 200.", b"[]", PROJECTS),
    body("C-P13", "null-list", "null where a list is.", b"null"),
    spoilt(
        "C-P13",
        "no-catalog",
        "404 to the registry's own list.",
        Fault(match="_catalog", times=None, status=404),
    ),
]
