"""What a registry's webhook says, reduced to what we believe of it: which repositories to list again.

Three forms are read: Harbor 1.x and TCR (``pushImage``), Harbor 2.x (``PUSH_ARTIFACT``), and Harbor 2.8's
CloudEvents (``harbor.artifact.pushed``). The first two share an envelope, the last two what is inside it.
Source: https://goharbor.io/docs/2.8.0/working-with-projects/project-configuration/configure-webhooks/
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from images.digests import InvalidNameError, parse_repository

MAX_BODY_BYTES = 256 * 1024
_MAX_DEPTH = 32
_MAX_TYPE_LENGTH = 64
_NOT_A_LETTER = re.compile("[^a-z]")
# A name goes on with its tag, its digest, or how many there are: "api:v1", "api [3 item(s) in total]".
_END_OF_NAME = re.compile("[ :@]")


class MalformedEventError(ValueError):
    """The body is not an event of a form we know."""


class EventKind(StrEnum):
    """What happened, as far as it is of use to us."""

    PUSHED = "pushed"
    DELETED = "deleted"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook: what happened, and in which repositories, by their whole names."""

    kind: EventKind
    repositories: tuple[str, ...] = ()


_REPLICATION = {"replication", "harborreplicationstatuschanged"}
_RETENTION = {"tagretention", "harbortagretentionfinished"}
# By the letters of the type alone: Harbor writes them in three ways, and TCR documents only some of its own.
_KINDS = {
    "pushimage": EventKind.PUSHED,
    "pushartifact": EventKind.PUSHED,
    "harborartifactpushed": EventKind.PUSHED,
    "deleteimage": EventKind.DELETED,
    "deleteartifact": EventKind.DELETED,
    "harborartifactdeleted": EventKind.DELETED,
}


def parse_event(body: bytes) -> Event:
    """The event in a webhook's body; raises MalformedEventError.

    Pulls, scans, quotas, charts of a chart repository and unknown types are OTHER and name nothing: pulls of
    our own come back as events too.
    """
    document = _object(_parsed(body))
    name = _NOT_A_LETTER.sub("", _text(document.get("type"), _MAX_TYPE_LENGTH).lower())
    is_cloud_event = "specversion" in document
    if name in _KINDS:
        data = _object(document.get("data" if is_cloud_event else "event_data"))
        return Event(_KINDS[name], (_repository(_object(data.get("repository"))),))
    if name in _REPLICATION:
        data = _object(document.get("data" if is_cloud_event else "event_data"))
        return Event(EventKind.PUSHED, _replicated(_object(data.get("replication"))))
    if name in _RETENTION:
        data = _object(document.get("data" if is_cloud_event else "event_data"))
        return Event(EventKind.DELETED, _retired(_object(data.get("retention"))))
    return Event(EventKind.OTHER)


def _parsed(body: bytes) -> object:
    if len(body) > MAX_BODY_BYTES:
        raise MalformedEventError("too long")
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedEventError("not JSON") from None
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return document
    raise MalformedEventError("nested too deeply")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MalformedEventError("not an object")
    return value


def _text(value: object, limit: int = MAX_BODY_BYTES) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise MalformedEventError("not a text")
    return value


def _repository(described: dict[str, object]) -> str:
    if "repo_full_name" in described:
        return _whole_name(described["repo_full_name"])
    return _whole_name(f"{_text(described.get('namespace'))}/{_text(described.get('name'))}")


def _whole_name(text: object) -> str:
    try:
        return parse_repository(text)
    except InvalidNameError:
        raise MalformedEventError("not a repository name") from None


def _replicated(replication: dict[str, object]) -> tuple[str, ...]:
    """What was copied into this registry; Harbor gives only the other side of a copy a name."""
    destination = _object(replication.get("dest_resource"))
    if destination.get("registry_name"):
        return ()
    return _named(destination.get("namespace"), replication.get("successful_artifact"))


def _retired(retention: dict[str, object]) -> tuple[str, ...]:
    """Where a retention rule deleted something."""
    return _named(retention.get("project_name"), retention.get("deleted_artifact"))


def _named(namespace: object, artifacts: object) -> tuple[str, ...]:
    """The repositories of artifacts given as ``{"name_tag": "name:tag"}``, each once."""
    if artifacts is None:
        return ()
    if not isinstance(artifacts, list):
        raise MalformedEventError("not a list")
    prefix = _text(namespace)
    labels = [_text(_object(each).get("name_tag")) for each in artifacts]
    names = {_END_OF_NAME.split(label, maxsplit=1)[0] for label in labels}
    return tuple(sorted(_whole_name(f"{prefix}/{name}") for name in names))
