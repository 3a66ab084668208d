"""The descriptions of Harbor's API as strict schemas, and the check of an answer against one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml


@cache
def _described(file: Path) -> dict[str, Any]:
    """The definitions as they are written; reading them takes seconds."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))["definitions"]


def strict(file: Path, unknown: Mapping[str, Collection[str]], free: Collection[str] = ()) -> dict[str, Any]:
    """The API's definitions, strict about keys: none that the description does not know.

    `unknown` are the keys that the server sends all the same, by definition; `free` are objects of any kind.
    """
    made = {}
    for name, definition in _described(file).items():
        if name in free:
            made[name] = {"type": "object"}
        elif definition.get("type") == "object" and "properties" in definition:
            properties = {**{key: {} for key in unknown.get(name, ())}, **definition["properties"]}
            made[name] = {"additionalProperties": False, **definition, "properties": properties}
        else:
            made[name] = definition
    return tolerant(made)


def tolerant(value: Any) -> Any:
    """The description with null allowed for lists: Go writes an empty one so, as the recordings prove."""
    if isinstance(value, list):
        return [tolerant(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: tolerant(each) for key, each in value.items()}
    if made.get("type") == "array" or made.get("x-nullable"):
        made["type"] = [made.get("type", "object"), "null"]
    return made


def fit(value: Any, kind: str, *, many: bool, definitions: dict[str, Any]) -> None:
    """Raise unless a value, or each of a list, is what the description calls it."""
    schema: dict[str, Any] = {"$ref": f"#/definitions/{kind}"}
    if many:
        schema = {"type": "array", "items": schema}
    jsonschema.Draft4Validator({**schema, "definitions": definitions}).validate(value)
