"""The demo registry's lists and objects fit the description of Harbor's API, as far as Harbor's own do."""

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
from demo.catalog import Accessory, Label
from demo.server import DemoServer, running
from tests.demo.described import fit, strict
from tests.demo.recorded_harbor2 import RECORDINGS, load
from tests.demo.small_registry import OPERATOR, ask, content, image

SWAGGER = RECORDINGS.parent.parent / "harbor-v2.15-swagger.yaml"
pytestmark = pytest.mark.skipif(
    not SWAGGER.is_file(), reason="the description of Harbor's API (../shared) is not at hand"
)

SINCE_REMOVED = {
    "Project": {"chart_count"},
    "Tag": {"signed"},
    "Platform": {"OsFeatures", "os.version"},
    "GeneralInfo": {"with_chartmuseum", "with_notary"},
}
"""Keys that Harbor 2.5 sends and the description of 2.15 does not know."""
FREE = ("ExtraAttrs", "Annotations", "AdditionLinks")
"""Described as objects of objects; the server puts words into them."""
ARTIFACTS = "/projects/library/repositories/hello/artifacts"
ANSWERS = {
    "/projects": ("Project", True),
    "/projects/library": ("Project", False),
    "/projects/library/repositories": ("Repository", True),
    "/repositories": ("Repository", True),
    "/projects/library/repositories/hello": ("Repository", False),
    f"{ARTIFACTS}?with_label=true&with_accessory=true": ("Artifact", True),
    "/projects/library/repositories/multi/artifacts": ("Artifact", True),
    f"{ARTIFACTS}/1.0?with_accessory=true": ("Artifact", False),
    f"{ARTIFACTS}/1.0/tags": ("Tag", True),
    f"{ARTIFACTS}/1.0/accessories": ("Accessory", True),
    "/systeminfo": ("GeneralInfo", False),
    "/health": ("OverallHealthStatus", False),
    "/users/current": ("UserResp", False),
}
RECORDED = {
    r"/projects(\?.*)?": ("Project", True),
    r"/projects/[^/?]+": ("Project", False),
    r"(/projects/[^/?]+)?/repositories(\?.*)?": ("Repository", True),
    r"/projects/[^/?]+/repositories/[^/?]+/artifacts(\?.*)?": ("Artifact", True),
    r"/projects/[^/?]+/repositories/[^/?]+/artifacts/[^/?.]+\.?[^/?.]*": ("Artifact", False),
    r"/projects/[^/?]+/repositories/[^/?]+/artifacts/[^/?]+/tags(\?.*)?": ("Tag", True),
    r"/projects/[^/?]+/repositories/[^/?]+/artifacts/[^/?]+/accessories(\?.*)?": ("Accessory", True),
    r"/systeminfo": ("GeneralInfo", False),
    r"/users/current": ("UserResp", False),
}


def check(kind: str, many: bool, value: Any) -> None:
    """Raise unless a value is what the description calls it."""
    fit(value, kind, many=many, definitions=strict(SWAGGER, SINCE_REMOVED, FREE))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    store = BlobStore(tmp_path)
    catalog = content(store)
    signature = image(store, "sha256-x.sig", word="signature")
    subject = replace(
        catalog.projects[0].repositories[0].artifacts[0],
        labels=(Label(1, "checked", "p", 1, "#00FF00", "by hand"),),
        accessories=(Accessory(signature.digest, "signature.cosign", 1),),
        annotations={"org.example": "x"},
    )
    catalog = catalog.with_artifact("library", "hello", signature).with_artifact("library", "hello", subject)
    with running(tmp_path, catalog) as server:
        yield server


@pytest.mark.parametrize("path", ANSWERS)
def test_answers_fit_the_description_of_the_api(server: DemoServer, path: str) -> None:
    kind, many = ANSWERS[path]
    value = ask(server, f"/api/v2.0{path}", OPERATOR).json()
    check(kind, many, value)
    assert value


def test_the_check_notices_an_answer_that_does_not_fit(server: DemoServer) -> None:
    value = ask(server, "/api/v2.0/projects", OPERATOR).json()
    for wrong in ({"unknown": 1}, {"name": 7}, {"repo_count": "many"}):
        with pytest.raises(jsonschema.ValidationError):
            check("Project", True, [{**value[0], **wrong}])


def test_the_real_servers_answers_fit_what_is_tolerated() -> None:
    fitting = 0
    for group in ("01_probes", "02_auth", "03_projects", "04_repositories", "05_artifacts"):
        for each in load(group):
            path = each.path.removeprefix("/api/v2.0")
            if each.status != 200 or each.method != "GET" or path == each.path:
                continue
            for pattern, (kind, many) in RECORDED.items():
                if re.fullmatch(pattern, path):
                    check(kind, many, json.loads(each.body))
                    fitting += 1
    assert fitting > 250
