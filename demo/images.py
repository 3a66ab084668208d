"""The demo registry's whole content: sample images and other artifacts, put into a store and catalogued."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace

from demo import artifacts, recipes, recipes_small
from demo.applications import DJANGO_APP
from demo.blobs import BlobStore
from demo.catalog import Account, Artifact, Catalog, Grant, Project, Repository, Tag

OPERATOR = "demo-operator"
ROBOT = "robot$scanner"


def build(store: BlobStore, *, operator_password: str = "", robot_secret: str = "") -> Catalog:
    """Put every sample image into `store` and answer what the registry holds.

    The same blobs and digests come out every time. A password that is not given is taken from
    DEMO_OPERATOR_PASSWORD or DEMO_ROBOT_SECRET, or else made up; read it from the catalog's accounts.
    """
    operator_password = (
        operator_password or os.environ.get("DEMO_OPERATOR_PASSWORD") or secrets.token_urlsafe(12)
    )
    robot_secret = robot_secret or os.environ.get("DEMO_ROBOT_SECRET") or secrets.token_urlsafe(24)
    return Catalog(
        projects=(_library(store), _shop(store), _payments(store), _platform(store)),
        accounts=(
            Account(
                OPERATOR, operator_password, email="operator@example.com", grants=(Grant("*", role_id=2),)
            ),
            Account(ROBOT, robot_secret, robot=True, grants=(Grant("*"),)),
        ),
    )


def _library(store: BlobStore) -> Project:
    slim = artifacts.image(store, recipes.python_slim())
    return Project(
        "library",
        (
            _repository(
                "debian", _tagged(artifacts.image(store, recipes.debian_12()), "12", "12.5", "bookworm")
            ),
            _repository(
                "alpine", _tagged(artifacts.image(store, recipes_small.alpine_3_18()), "3.18", "3.18.2")
            ),
            _repository("python", _tagged(slim, "3.11-slim", "3.11.8-slim-bookworm")),
            _nginx(store),
        ),
        public=True,
    )


def _nginx(store: BlobStore) -> Repository:
    platforms = [artifacts.image(store, recipes_small.nginx(word)) for word in ("amd64", "arm64")]
    attestation = artifacts.attestation(store, platforms[0])
    index = artifacts.index(store, [*platforms, attestation])
    return _repository(
        "nginx", *platforms, attestation, _tagged(index, "1.24-alpine", "1.24.0-alpine", "stable-alpine")
    )


def _shop(store: BlobStore) -> Project:
    newer = {
        **DJANGO_APP,
        "Django": "4.2.11",
        "requests": "2.31.0",
        "urllib3": "1.26.18",
        "certifi": "2024.2.2",
    }
    return Project(
        "shop",
        (
            _repository(
                "web",
                _tagged(
                    artifacts.image(store, recipes.web("1.0.0", "2024-03-01 09:12", DJANGO_APP)),
                    "1.0.0",
                ),
                _tagged(
                    artifacts.image(store, recipes.web("1.1.0", "2024-04-22 16:50", newer)),
                    "1.1.0",
                    "1.1",
                    "latest",
                ),
            ),
            _repository("api", _tagged(artifacts.image(store, recipes.api()), "2.3.0", "latest")),
            _repository("front", _tagged(artifacts.image(store, recipes.front()), "3.2.0")),
            _repository(
                "backend/orders", _tagged(artifacts.image(store, recipes.orders()), "4.0.2", "latest")
            ),
            _repository("legacy-cms", _tagged(artifacts.image(store, recipes.legacy()), "2021.12")),
        ),
    )


def _payments(store: BlobStore) -> Project:
    # Since Harbor 2.5 a signature is an accessory of what it signs; before, it had a tag of its own.
    ledger = _tagged(artifacts.image(store, recipes_small.ledger()), "1.8.2", "stable")
    ledger_signature = artifacts.signature(store, "payments/ledger", ledger)
    batch = _tagged(artifacts.image(store, recipes.settlement()), "0.9.4", "nightly")
    batch_signature = artifacts.signature(store, "payments/core/settlement", batch)
    return Project(
        "payments",
        (
            _repository("ledger", artifacts.signed(ledger, ledger_signature), ledger_signature),
            _repository("gateway", _tagged(artifacts.image(store, recipes_small.gateway()), "5.0.1")),
            _repository(
                "core/settlement",
                batch,
                _tagged(batch_signature, batch.digest.replace("sha256:", "sha256-") + ".sig"),
            ),
        ),
    )


def _platform(store: BlobStore) -> Project:
    # The same config and layers under Docker's manifest type: another manifest digest, one image ID.
    copy = artifacts.image(store, recipes.debian_12(), docker=True)
    return Project(
        "platform",
        (
            _repository("base/debian", _tagged(copy, "approved-2024q1")),
            _repository("redis", _tagged(artifacts.image(store, recipes_small.redis()), "7.2.3-alpine")),
            _repository("appliance", _tagged(artifacts.image(store, recipes_small.appliance()), "4.1")),
            _repository(
                "status-page", _tagged(artifacts.image(store, recipes_small.static_site()), "1.0", "latest")
            ),
            _repository("charts/shop", _tagged(artifacts.chart(store), "1.6.0")),
        ),
    )


def _repository(name: str, *contents: Artifact) -> Repository:
    pushed = [artifact.push_time for artifact in contents]
    return Repository(name, contents, pull_count=len(name) * 7, created=min(pushed), updated=max(pushed))


def _tagged(artifact: Artifact, *names: str) -> Artifact:
    return replace(artifact, tags=tuple(Tag(name, push_time=artifact.push_time) for name in names))
