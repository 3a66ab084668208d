"""The sample content of the demo Tencent account: two TCR instances in two regions, and CCR in one.

It stands beside Harbor's and shares only images with it: `library/debian:12` of `demo.images` is also in the
instance of Guangzhou and in the personal edition, under other names and with the same image ID. One image,
`payments/checkout:1.2.0` of Singapore, is nowhere else.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from demo import artifacts, recipes, recipes_small
from demo.applications import DJANGO_APP
from demo.blobs import BlobStore
from demo.catalog import Artifact, Catalog, Project, Repository, Tag
from demo.tencent_model import CloudAccount, CloudContent, Instance, Personal, Policy, Vpc

UIN = "100000000001"
SECRET_ID = "AKIDdemo"
GUANGZHOU = "tcr-demo0gz1"
SINGAPORE = "tcr-demo0sg1"
PERSONAL_REGION = "ap-guangzhou"
ANYWHERE = (Policy("0.0.0.0/0", "everybody"),)
NEWER = {"Django": "4.2.13", "requests": "2.32.2"}


def account() -> CloudAccount:
    """The account; what DEMO_TENCENT_SECRET_KEY or DEMO_TENCENT_PASSWORD does not give is made up."""
    return CloudAccount(
        UIN,
        SECRET_ID,
        secret_key=os.environ.get("DEMO_TENCENT_SECRET_KEY") or secrets.token_hex(16),
        personal_password=os.environ.get("DEMO_TENCENT_PASSWORD") or secrets.token_hex(8),
    )


def build(store: BlobStore) -> CloudContent:
    """Put the images of the samples into `store` and answer what the account holds."""
    return CloudContent(
        account(),
        (
            Instance(
                GUANGZHOU,
                "demo-guangzhou",
                "ap-guangzhou",
                _guangzhou(store),
                entry="Opened",
                allowlist=ANYWHERE,
                networks=(Vpc("vpc-demo0001", "subnet-demo0001"),),
            ),
            Instance(
                SINGAPORE,
                "demo-singapore",
                "ap-singapore",
                _singapore(store),
                type="standard",
                entry="Opened",
                allowlist=ANYWHERE,
                expires=datetime(2034, 5, 1, 10, tzinfo=UTC),
            ),
        ),
        (Personal(PERSONAL_REGION, _personal(store)),),
    )


def _guangzhou(store: BlobStore) -> Catalog:
    platforms = [artifacts.image(store, recipes_small.nginx(word)) for word in ("amd64", "arm64")]
    web = artifacts.image(store, recipes.web("1.0.0", "2024-03-01 09:12", DJANGO_APP))
    return Catalog(
        (
            Project(
                "base",
                (
                    _repository("os/debian", _tagged(_debian(store), "12", "bookworm")),
                    _repository(
                        "proxy/nginx", *platforms, _tagged(artifacts.index(store, platforms), "1.24-alpine")
                    ),
                ),
                public=True,
            ),
            Project(
                "shop",
                (
                    _repository("web", _tagged(web, "1.0.0")),
                    _repository(
                        "backend/orders/api", _tagged(artifacts.image(store, recipes.api()), "2.3.0")
                    ),
                    _repository("charts/shop", _tagged(artifacts.chart(store), "1.6.0")),
                ),
            ),
        )
    )


def _singapore(store: BlobStore) -> Catalog:
    redis = artifacts.image(store, recipes_small.redis())
    ledger = artifacts.image(store, recipes_small.ledger())
    checkout = artifacts.image(store, recipes.web("1.2.0", "2024-06-03 08:31", DJANGO_APP | NEWER))
    return Catalog(
        (
            Project(
                "payments",
                (
                    _repository("ledger", _tagged(ledger, "1.8.2", "stable")),
                    _repository("cache/redis", _tagged(redis, "7.2.3-alpine")),
                    _repository("checkout", _tagged(checkout, "1.2.0", "latest")),
                ),
            ),
        )
    )


def _personal(store: BlobStore) -> Catalog:
    alpine = artifacts.image(store, recipes_small.alpine_3_18(), docker=True)
    return Catalog(
        (
            Project(
                "demo-user",
                (
                    _repository("debian", _tagged(_debian(store), "12")),
                    _repository("alpine", _tagged(alpine, "3.18", "3.18.2")),
                ),
            ),
        )
    )


def _debian(store: BlobStore) -> Artifact:
    return artifacts.image(store, recipes.debian_12(), docker=True)


def _repository(name: str, *contents: Artifact) -> Repository:
    pushed = [artifact.push_time for artifact in contents]
    return Repository(name, contents, created=min(pushed), updated=max(pushed))


def _tagged(artifact: Artifact, *names: str) -> Artifact:
    return replace(artifact, tags=tuple(Tag(name, push_time=artifact.push_time) for name in names))
