"""What webhooks say: the forms of Harbor 1.10, Harbor 2.x and TCR, recorded and made up, and nonsense."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from repositories.webhook_events import MAX_BODY_BYTES, Event, EventKind, MalformedEventError, parse_event

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "spec" / "recordings"
RECORDED = [RECORDINGS / version / "09_webhooks.jsonl" for version in ("harbor-1.10.19", "harbor-2.5.0")]
DIGEST = f"sha256:{7:064x}"


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def subject(name: str = "shop/api", namespace: str = "team") -> dict[str, Any]:
    return {
        "resources": [{"digest": DIGEST, "tag": "v1", "resource_url": "registry.example/team/shop/api:v1"}],
        "repository": {
            "date_created": 1_700_000_000,
            "name": name,
            "namespace": namespace,
            "repo_full_name": f"{namespace}/{name}",
            "repo_type": "private",
        },
    }


def default(kind: str, data: object) -> dict[str, Any]:
    """As Harbor 1.x, Harbor 2.x and TCR write it."""
    return {"type": kind, "occur_at": 1_700_000_000, "operator": "admin", "event_data": data}


def cloud(kind: str, data: object) -> dict[str, Any]:
    """As Harbor 2.8 and later write it where CloudEvents was chosen."""
    return {
        "specversion": "1.0",
        "id": "66e18103-09c1-41f6-982f-37df223f3eeb",
        "requestid": "51c0b694-0168-4f3c-b0db-282565455d7b",
        "source": "/projects/2/webhook/policies/15",
        "type": kind,
        "datacontenttype": "application/json",
        "time": "2024-04-03T06:04:46Z",
        "data": data,
        "operator": "admin",
    }


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (default("pushImage", subject()), EventKind.PUSHED),
        (default("deleteImage", subject()), EventKind.DELETED),
        (default("PUSH_ARTIFACT", subject()), EventKind.PUSHED),
        (default("DELETE_ARTIFACT", subject()), EventKind.DELETED),
        (cloud("harbor.artifact.pushed", subject()), EventKind.PUSHED),
        (cloud("harbor.artifact.deleted", subject()), EventKind.DELETED),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_push_and_a_deletion_name_their_repository_in_every_form(
    document: dict[str, Any], kind: EventKind
) -> None:
    assert parse_event(encoded(document)) == Event(kind, ("team/shop/api",))


@pytest.mark.parametrize(
    "kind",
    [
        "pullImage", "scanningCompleted", "scanningFailed", "projectQuota", "uploadChart", "testEndpoint",
        "PULL_ARTIFACT", "SCANNING_COMPLETED", "SCANNING_FAILED", "SCANNING_STOPPED", "QUOTA_EXCEED",
        "QUOTA_WARNING", "harbor.artifact.pulled", "harbor.scan.completed", "harbor.quota.warned",
        "something.of.next.year",
    ],
)  # fmt: skip
def test_what_changes_no_image_names_nothing(kind: str) -> None:
    for document in (default(kind, subject()), cloud(kind, subject()), {"type": kind}):
        assert parse_event(encoded(document)) == Event(EventKind.OTHER)


def test_a_repository_without_its_whole_name_is_put_together() -> None:
    data = subject()
    del data["repository"]["repo_full_name"]
    assert parse_event(encoded(default("PUSH_ARTIFACT", data))).repositories == ("team/shop/api",)


def replication(**words: object) -> dict[str, Any]:
    return {
        "replication": {
            "job_status": "Success",
            "src_resource": {"registry_name": "hub", "registry_type": "docker-hub", "namespace": "library"},
            "dest_resource": {"registry_type": "harbor", "endpoint": "http://here", "namespace": "mirror"},
            "successful_artifact": [
                {"type": "image", "status": "Success", "name_tag": "alpine [3 item(s) in total]"},
                {"type": "image", "status": "Success", "name_tag": "base/debian:12"},
                {"type": "image", "status": "Success", "name_tag": f"base/debian@{DIGEST}"},
            ],
            **words,
        }
    }


def test_a_replication_names_what_was_copied_into_the_registry() -> None:
    expected = Event(EventKind.PUSHED, ("mirror/alpine", "mirror/base/debian"))
    assert parse_event(encoded(default("REPLICATION", replication()))) == expected
    assert parse_event(encoded(cloud("harbor.replication.status.changed", replication()))) == expected


def test_a_replication_to_elsewhere_or_under_way_names_nothing() -> None:
    elsewhere = replication(dest_resource={"registry_name": "backup", "namespace": "mirror"})
    under_way = replication(job_status="Running", successful_artifact=None)
    for data in (elsewhere, under_way):
        assert parse_event(encoded(default("REPLICATION", data))).repositories == ()


def test_a_retention_names_where_it_deleted() -> None:
    artifacts = [{"type": "image", "status": "SUCCESS", "name_tag": f"shop/api:{n}"} for n in range(100)]
    data = {"retention": {"total": 100, "project_name": "team", "deleted_artifact": artifacts}}
    expected = Event(EventKind.DELETED, ("team/shop/api",))
    assert parse_event(encoded(default("TAG_RETENTION", data))) == expected
    assert parse_event(encoded(cloud("harbor.tag_retention.finished", data))) == expected


def test_a_dry_retention_names_nothing() -> None:
    data = {"retention": {"total": 5, "retained": 5, "project_name": "team"}}
    assert parse_event(encoded(default("TAG_RETENTION", data))).repositories == ()


@pytest.mark.parametrize(
    "name",
    ["../../etc", "a//b", "Shop", "a/b?x=1", "a" * 300, "", "a/b\n", "a\0", "http://evil/x", None, 7, {}],
)
def test_a_name_that_no_registry_has_is_refused(name: object) -> None:
    data = subject()
    data["repository"]["repo_full_name"] = name
    with pytest.raises(MalformedEventError):
        parse_event(encoded(default("PUSH_ARTIFACT", data)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"pushImage"',
        b"{",
        b"\xff\xfe{}",
        b"{}",
        b'{"type": null}',
        b'{"type": ""}',
        b'{"type": 1}',
        b'{"type": NaN}',
        encoded({"type": "x" * 65}),
        encoded({"type": "pushImage"}),
        encoded(default("pushImage", None)),
        encoded(default("pushImage", {"repository": None})),
        encoded(default("pushImage", {"repository": ["team/api"]})),
        encoded(default("TAG_RETENTION", {"retention": {"project_name": 3, "deleted_artifact": [{}]}})),
        encoded(default("TAG_RETENTION", {"retention": {"project_name": "t", "deleted_artifact": {}}})),
        # Data of the one envelope in the other.
        encoded({**cloud("harbor.artifact.pushed", None), "event_data": subject()}),
        b"[" * 100_000,
        b'{"type": "pullImage", "x": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"type": ' + b"9" * 5000 + b"}",
        encoded(default("pushImage", subject())) + b" " * MAX_BODY_BYTES,
    ],
    ids=range(23),
)
def test_what_is_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEventError):
        parse_event(body)


def test_a_body_of_just_the_longest_length_is_read() -> None:
    body = encoded(default("pushImage", subject()))
    assert parse_event(body + b" " * (MAX_BODY_BYTES - len(body))).repositories == ("team/shop/api",)


WORDS = st.sampled_from(
    [
        "type", "event_data", "data", "repository", "repo_full_name", "namespace", "name", "specversion",
        "pushImage", "PUSH_ARTIFACT", "harbor.artifact.deleted", "REPLICATION", "TAG_RETENTION",
        "replication", "retention", "dest_resource", "successful_artifact", "deleted_artifact", "name_tag",
        "project_name", "team/api", "team", "api:v1", "\x00", "\ud800",
    ]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)


def answers_in_kind(body: bytes) -> None:
    try:
        event = parse_event(body)
    except MalformedEventError:
        return
    assert isinstance(event, Event)
    assert all(isinstance(name, str) for name in event.repositories)
    assert event.kind is not EventKind.OTHER or not event.repositories


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(body: bytes) -> None:
    answers_in_kind(body)


@given(JSON)
@settings(max_examples=120, deadline=None)
def test_any_document_is_an_event_or_malformed(document: object) -> None:
    answers_in_kind(encoded(document))


@given(
    st.sampled_from(["pushImage", "REPLICATION", "TAG_RETENTION", "harbor.artifact.pushed"]),
    st.sampled_from([default, cloud]),
    st.dictionaries(st.sampled_from(["repository", "replication", "retention"]), JSON, max_size=3),
)
@settings(max_examples=120, deadline=None)
def test_any_content_of_an_event_is_an_event_or_malformed(
    kind: str, form: Any, data: dict[str, object]
) -> None:
    answers_in_kind(encoded(form(kind, data)))


def recorded_deliveries() -> list[tuple[str, bytes]]:
    """Every webhook real servers sent, with what was done to make them send it."""
    records = [json.loads(line) for path in RECORDED for line in path.read_text("utf-8").splitlines()]
    return [
        (record["step"], delivery["body"].encode())
        for record in records
        for delivery in record.get("deliveries", [])
    ]


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded answers of real servers are not here")
def test_every_recorded_webhook_is_understood() -> None:
    deliveries = recorded_deliveries()
    assert len(deliveries) > 30
    for step, body in deliveries:
        if step == "slack format":
            # Rich text with unescaped newlines in it: no JSON, and no event.
            with pytest.raises(MalformedEventError):
                parse_event(body)
            continue
        event = parse_event(body)
        if step.lower().startswith(("pull", "head", "quota")):
            assert event == Event(EventKind.OTHER), step
        else:
            (name,) = event.repositories
            assert name.startswith("team-private/hook/"), step
            kinds = {EventKind.DELETED, EventKind.PUSHED} if step.startswith("delete") else {EventKind.PUSHED}
            assert event.kind in kinds, step
