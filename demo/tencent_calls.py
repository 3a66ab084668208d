"""A call to the demo Tencent API: its parameters held against the API's definition, its pages, its refusals.

The parameters are those of the published definition of service `tcr`, version 2019-09-24. The words for an
unknown, a missing and a wrongly typed parameter were seen in answers of the real service. That a page size
outside of 1 to 100 or a negative offset is refused, and with which code, is inferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload

Item = TypeVar("Item")
Kind = Literal["string", "integer", "boolean", "strings", "filters"]
LARGEST_PAGE = 100
USUAL_PAGE = 20


class ApiError(Exception):
    """The API refuses: a code and a sentence. An `unexpected` one is a mistake in the client's own code."""

    def __init__(self, code: str, message: str, *, unexpected: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.unexpected = unexpected

    @classmethod
    def missing(cls, name: str) -> ApiError:
        """A required parameter is not there."""
        reason = f"The request is missing a required parameter `{name}`."
        return cls("MissingParameter", reason, unexpected=True)

    @classmethod
    def wrong_type(cls, name: str) -> ApiError:
        """A parameter has another type than it should."""
        reason = f"The value type of parameter `{name}` is not valid."
        return cls("InvalidParameter", reason, unexpected=True)

    @classmethod
    def wrong_value(cls, name: str, value: object) -> ApiError:
        """A parameter has a value that it may not have."""
        reason = f"The value `{value}` specified in the parameter `{name}` is not valid."
        return cls("InvalidParameter", reason, unexpected=True)


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter of an action has to be."""

    kind: Kind = "string"
    required: bool = False


TEXT, NUMBER, FLAG = Parameter(), Parameter("integer"), Parameter("boolean")
NEEDED, NEEDED_NUMBER = Parameter(required=True), Parameter("integer", required=True)
PAGE = {"Offset": NUMBER, "Limit": NUMBER}
ON_INSTANCE = {"RegistryId": NEEDED}
OF_REPOSITORY = {**ON_INSTANCE, "NamespaceName": NEEDED, "RepositoryName": NEEDED}

ACTIONS: Mapping[str, Mapping[str, Parameter]] = {
    "DescribeRegions": {},
    "DescribeInstances": {
        **PAGE,
        "Registryids": Parameter("strings"),
        "Filters": Parameter("filters"),
        "AllRegion": FLAG,
    },
    "DescribeNamespaces": {
        **ON_INSTANCE,
        **PAGE,
        "NamespaceName": TEXT,
        "All": FLAG,
        "Filters": Parameter("filters"),
        "KmsSignPolicy": FLAG,
    },
    "DescribeRepositories": {
        **ON_INSTANCE,
        **PAGE,
        "NamespaceName": TEXT,
        "RepositoryName": TEXT,
        "SortBy": TEXT,
    },
    "DescribeImages": {**OF_REPOSITORY, **PAGE, "ImageVersion": TEXT, "Digest": TEXT, "ExactMatch": FLAG},
    "DescribeImageManifests": {**OF_REPOSITORY, "ImageVersion": NEEDED},
    "CreateInstanceToken": {**ON_INSTANCE, "TokenType": TEXT, "Desc": TEXT},
    "DescribeExternalEndpointStatus": ON_INSTANCE,
    "DescribeInternalEndpoints": ON_INSTANCE,
    "DescribeSecurityPolicies": ON_INSTANCE,
    "DescribeNamespacePersonal": {"Namespace": NEEDED, "Limit": NEEDED_NUMBER, "Offset": NEEDED_NUMBER},
    "DescribeRepositoryOwnerPersonal": {**PAGE, "RepoName": TEXT},
    "DescribeImagePersonal": {**PAGE, "RepoName": NEEDED, "Tag": TEXT},
    "DescribeUserQuotaPersonal": {},
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was signed right, with parameters of the right names and types."""

    action: str
    region: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A text parameter; nothing where it was not sent."""
        value: str = self.parameters.get(name) or ""
        return value

    def texts(self, name: str) -> list[str]:
        """A parameter that is a list of texts."""
        value: list[str] = self.parameters.get(name) or []
        return value

    def flag(self, name: str) -> bool:
        """A parameter that is true or false."""
        return bool(self.parameters.get(name))

    @overload
    def number(self, name: str) -> int | None: ...
    @overload
    def number(self, name: str, default: int) -> int: ...
    def number(self, name: str, default: int | None = None) -> int | None:
        """A whole number."""
        value = self.parameters.get(name)
        return default if value is None else int(value)

    def by_offset(self, items: Sequence[Item]) -> list[Item]:
        """A page where Offset is a number of items. Raises ApiError."""
        start = self._checked("Offset", 0, least=0)
        return list(items[start : start + self._size()])

    def by_page(self, items: Sequence[Item]) -> list[Item]:
        """A page where Offset is a page number; 0 and 1 are both the first. Raises ApiError."""
        size = self._size()
        start = max(self._checked("Offset", 1, least=0) - 1, 0) * size
        return list(items[start : start + size])

    def _size(self) -> int:
        return self._checked("Limit", USUAL_PAGE, least=1, most=LARGEST_PAGE)

    def _checked(self, name: str, default: int, *, least: int, most: int | None = None) -> int:
        value = self.number(name, default)
        if value < least or (most is not None and value > most):
            raise ApiError.wrong_value(name, value)
        return value


def read_call(action: str, region: str, body: bytes) -> Call:
    """The call that a body asks for. Raises ApiError for what the action's definition does not have."""
    definition = ACTIONS[action]
    try:
        sent = json.loads(body)
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise ApiError("InvalidParameter", "The request body is not a JSON object.", unexpected=True)
    for name, value in sent.items():
        if name not in definition:
            raise ApiError("UnknownParameter", f"The parameter `{name}` is not recognized.", unexpected=True)
        if not _fits(definition[name].kind, value):
            raise ApiError.wrong_type(name)
    for name, parameter in definition.items():
        if parameter.required and name not in sent:
            raise ApiError.missing(name)
    return Call(action, region, sent)


def _fits(kind: Kind, value: object) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, list):
        return False
    if kind == "strings":
        return all(isinstance(each, str) for each in value)
    return all(
        isinstance(each, dict)
        and set(each) == {"Name", "Values"}
        and isinstance(each["Name"], str)
        and _fits("strings", each["Values"])
        for each in value
    )
