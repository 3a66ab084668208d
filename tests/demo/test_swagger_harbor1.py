"""The older face's lists and objects fit the description of Harbor 1.10's API, as far as Harbor's own do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from demo.blobs import BlobStore
from demo.catalog import Label
from demo.rendering import project_id
from demo.server import DemoServer, running
from tests.demo.described import fit, strict
from tests.demo.recorded_harbor1 import RECORDINGS, load
from tests.demo.small_registry import OPERATOR, ask, content

SWAGGER = RECORDINGS.parent.parent / "harbor-v1.10-swagger.yaml"
pytestmark = pytest.mark.skipif(
    not SWAGGER.is_file(), reason="the description of Harbor's API (../shared) is not at hand"
)

NOT_DESCRIBED = {
    "DetailedTag": {"os.version", "config", "immutable", "push_time", "pull_time"},
    "GeneralInfo": {
        "read_only",
        "notification_enable",
        "with_chartmuseum",
        "registry_storage_provider_name",
    },
    "User": {"password_version", "has_admin_role", "reset_uuid"},
    "CVEWhitelist": {"creation_time", "update_time"},
}
"""Keys that Harbor 1.10 sends and its description does not know."""
HELLO = "/api/repositories/library/hello/tags"
ANSWERS = {
    "/api/projects": ("Project", True),
    "/api/projects/{library}": ("Project", False),
    "/api/repositories?project_id={library}": ("Repository", True),
    HELLO: ("DetailedTag", True),
    f"{HELLO}?detail=false": ("DetailedTag", True),
    f"{HELLO}/1.0": ("DetailedTag", False),
    f"{HELLO}/1.0/manifest": ("Manifest", False),
    "/api/systeminfo": ("GeneralInfo", False),
    "/api/health": ("OverallHealthStatus", False),
    "/api/users/current": ("User", False),
}
RECORDED = {
    r"/api/projects(\?.*)?": ("Project", True),
    r"/api/projects/\d+": ("Project", False),
    r"/api/repositories/?(\?.*)?": ("Repository", True),
    r"/api/repositories/[^?]+/tags/[^/?]+/manifest(\?.*)?": ("Manifest", False),
    r"/api/repositories/[^?]+/tags/[^/?]+": ("DetailedTag", False),
    r"/api/repositories/[^?]+/tags(\?.*)?": ("DetailedTag", True),
    r"/api/systeminfo": ("GeneralInfo", False),
    r"/api/health": ("OverallHealthStatus", False),
    r"/api/users/current": ("User", False),
}
"""The first pattern that fits counts, as the server has it: a repository may be named tags."""


def check(kind: str, many: bool, value: Any) -> None:
    """Raise unless a value is what the description calls it."""
    definitions = strict(SWAGGER, NOT_DESCRIBED)
    # The description says in words only that it may be null.
    definitions["DetailedTag"]["properties"]["signature"] = {"type": ["object", "null"]}
    fit(value, kind, many=many, definitions=definitions)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    store = BlobStore(tmp_path)
    catalog = content(store)
    labels = (Label(1, "checked", "p", 1, "#00FF00", "by hand"),)
    labelled = replace(catalog.projects[0].repositories[0].artifacts[0], labels=labels)
    with running(tmp_path, catalog.with_artifact("library", "hello", labelled), face="harbor1") as server:
        yield server


@pytest.mark.parametrize("path", ANSWERS)
def test_answers_fit_the_description_of_the_api(server: DemoServer, path: str) -> None:
    kind, many = ANSWERS[path]
    number = project_id(server.catalog.projects[0])
    value = ask(server, path.format(library=number), OPERATOR).json()
    check(kind, many, value)
    assert value


def test_the_check_notices_an_answer_that_does_not_fit(server: DemoServer) -> None:
    value = ask(server, "/api/projects", OPERATOR).json()
    for wrong in ({"unknown": 1}, {"name": 7}, {"repo_count": "many"}):
        with pytest.raises(jsonschema.ValidationError):
            check("Project", True, [{**value[0], **wrong}])


def test_the_real_servers_answers_fit_what_is_tolerated() -> None:
    fitting = 0
    for group in ("01_probes", "02_auth", "03_projects", "04_repositories", "05_tags"):
        for each in load(group):
            kinds = [RECORDED[pattern] for pattern in RECORDED if re.fullmatch(pattern, each.path)]
            if each.status == 200 and each.method == "GET" and kinds and each.body != b"null":
                check(*kinds[0], json.loads(each.body))
                fitting += 1
    assert fitting > 200
