"""No secret stands in clear in any column, wherever in an image it was and however it was written there."""

import json
from pathlib import Path

import pytest
from django.apps import apps

from images.config import parse_config
from images.models import Image, ImageLayer
from scanning.engines.trivy_report import read_report
from scanning.models import SecretFinding
from tests.scanning.test_ingest import diff_id, make_image, write

# Each holds the words CANARY and TAIL where an engine's stars leave something of a secret, or a neighbour's.
MATCHES = (
    "xoxb-************-TAIL",
    "CANARY-********************",
    "AKIA****************:CANARY/TAIL",
    'aws_secret_access_key = "****************" # before: CANARY',
    'password: "CANARY" token: "****"',
    "token=****CANARY",
    "mysql://root:CANARY@db/ key=****TAIL",
    "-----BEGIN RSA PRIVATE KEY-----\nCANARY****TAIL",
    "CANARY without a star",
    "export A=CANARY B=********",
    "\u200bkey\u200b=CANARY****\x00TAIL",
    '{"auth": "Q0FOQVJZCANARY", "token": "****"}',
)
ENVIRONMENT = (
    "ENV SLACK_TOKEN=xoxb-****-TAIL",
    "ENV DB_PASSWORD=CANARY AWS_KEY=****************",
    '        "API_KEY=****************TAIL",',
    '        "A=CANARY", "B=****"',
    "/bin/sh -c #(nop) ENV TOKEN=CANARY****",
    "|2 PASSWORD=CANARY KEY=**** /bin/sh -c make",
    "CANARY",
)


def secret(number: int, match: str, layer: str | None) -> dict:
    return {
        "RuleID": f"rule-{number}",
        "Category": "General",
        "Title": "A key",
        "Severity": "HIGH",
        "Match": match,
        "StartLine": number,
        "EndLine": number,
        "Code": {"Lines": [{"Content": f"{match} CANARY TAIL", "Highlighted": "CANARY"}]},
        "Layer": {"DiffID": layer} if layer else {},
    }


def columns_of_all_tables() -> str:
    rows = [
        list(model.objects.values_list())
        for app in ("images", "scanning", "repositories")
        for model in apps.get_app_config(app).get_models()
    ]
    return repr(rows)


@pytest.mark.django_db
def test_what_the_engine_leaves_of_a_secret_is_in_no_column(tmp_path: Path) -> None:
    image = make_image(1, 1)
    in_files = [secret(number, match, diff_id(1)) for number, match in enumerate(MATCHES)]
    in_configuration = [secret(number, match, None) for number, match in enumerate(ENVIRONMENT, 100)]
    results = [
        {"Target": "etc/settings", "Class": "secret", "Secrets": in_files},
        {"Target": "/tmp/image config", "Class": "secret", "Secrets": in_configuration},
    ]
    (tmp_path / "report").write_text(json.dumps({"SchemaVersion": 2, "Results": results}))
    write(
        image,
        read_report(tmp_path / "report", vulnerabilities_available=False, secrets_available=True),
        vulnerabilities=False,
    )
    assert SecretFinding.objects.count() == len(MATCHES) + len(ENVIRONMENT)
    stored = columns_of_all_tables()
    assert "etc/settings" in stored
    assert "ENV SLACK_TOKEN" in stored
    for word in ("CANARY", "TAIL", "xoxb", "AKIA"):
        assert word not in stored


@pytest.mark.django_db
@pytest.mark.parametrize(
    "instruction",
    [
        "ENV TOKEN=CANARY",
        "ENV TOKEN CANARY TAIL",
        "/bin/sh -c #(nop)  ENV PASSWORD=CANARY TAIL",
        "ARG NPM_TOKEN=CANARY",
        "|1 NPM_TOKEN=CANARY /bin/sh -c npm ci",
        'ENV A="CANARY TAIL" B=CANARY',
    ],
)
def test_values_of_the_build_history_are_in_no_column(instruction: str) -> None:
    image = make_image(1, 1)
    raw = {
        "rootfs": {"type": "layers", "diff_ids": [diff_id(1)]},
        "config": {"Env": ["TOKEN=CANARY"], "Cmd": ["run", "--password=CANARY"]},
        "history": [{"created_by": instruction}],
    }
    config = parse_config(json.dumps(raw).encode())
    Image.objects.filter(pk=image.pk).update(history=list(config.history))
    [created_by] = config.instructions()
    ImageLayer.objects.filter(image=image).update(created_by=created_by)
    stored = columns_of_all_tables()
    for word in ("CANARY", "TAIL"):
        assert word not in stored
