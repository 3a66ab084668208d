"""Harbor 2.5's API under `/api/v2.0`, the part that is read by somebody who lists and pulls images.

Held against the recorded answers of a real server. Quirks are kept on purpose: a wrong password makes an
anonymous of you, accessories take up places of a page though they are not shown, HEAD is refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from demo import rendering
from demo.artifact_listing import ARTIFACT_COLUMNS, selected
from demo.catalog import Account, Artifact, Catalog, Project, Repository, Tag
from demo.exchange import JSON_UTF8, Answer, Request, error, json_answer, page
from demo.listing import (
    Columns,
    RefusedError,
    Term,
    cut,
    flag,
    invalid,
    matching,
    ordered,
    paged,
    terms,
    window,
)

VERSION = "v2.5.0-98e1b82f"
PREFIX = "/api/v2.0"
PARTS = ("core", "database", "jobservice", "portal", "redis", "registry", "registryctl")
ADDITIONS = ("build_history", "values.yaml", "readme.md", "dependencies")

Holder = tuple[Project, Repository]
Handler = Callable[["Harbor2", Catalog, Request, Mapping[str, str]], Answer]

PROJECT_COLUMNS: Columns[Project] = {
    "name": operator.attrgetter("name"),
    "project_id": rendering.project_id,
    "public": operator.attrgetter("public"),
    "owner": operator.attrgetter("owner"),
    "creation_time": operator.attrgetter("created"),
    "update_time": operator.attrgetter("updated"),
}
REPOSITORY_COLUMNS: Columns[Holder] = {
    "name": lambda row: f"{row[0].name}/{row[1].name}",
    "repository_id": lambda row: rendering.repository_id(*row),
    "pull_count": lambda row: row[1].pull_count,
    "creation_time": lambda row: row[1].created,
    "update_time": lambda row: row[1].updated,
}
TAG_COLUMNS: Columns[Tag] = {
    name: operator.attrgetter(name) for name in ("id", "name", "push_time", "pull_time")
}


def visible(catalog: Catalog, account: Account | None) -> list[Project]:
    """The projects in somebody's lists: the public ones and those the account has to do with."""
    return [each for each in catalog.projects if each.public or (account and account.sees(each.name))]


def denied(request: Request) -> Answer:
    """401 for strangers, among them everybody with a wrong password; 403 for those who are known."""
    if request.account is None:
        return error(401, "UNAUTHORIZED", "unauthorized")
    return error(403, "FORBIDDEN", "forbidden")


class Harbor2:
    """Answers API requests out of a catalog."""

    def __init__(self) -> None:
        self.version = VERSION

    def answer(self, catalog: Catalog, request: Request) -> Answer:
        """The answer to a request whose path begins with `/api/`."""
        path = request.path.rstrip("/")
        if path == "/api/version" and request.method == "GET":
            return json_answer({"version": "v2.0"}, content_type="text/plain; charset=utf-8")
        if not f"{path}/".startswith(f"{PREFIX}/"):
            return page(404, "404 - Page Not Found", cookies=True)
        for pattern, handlers in ROUTES.items():
            found = re.fullmatch(pattern, path.removeprefix(PREFIX))
            if found is None:
                continue
            handler = handlers.get(request.method)
            if handler is None:
                reason = f"method {request.method} is not allowed, but [{','.join(handlers)}] are"
                return _unknown(error(405, "METHOD_NOT_ALLOWED", reason))
            try:
                _check_accept(request)
                return handler(self, catalog, request, found.groupdict())
            except RefusedError as refused:
                return refused.answer
        return _unknown(error(404, "NOT_FOUND", f"path {request.path} was not found"))

    def ping(self, _catalog: Catalog, _request: Request, _names: Mapping[str, str]) -> Answer:
        """The sign of life, which needs no account."""
        return Answer(status=200, headers={"Content-Type": "text/plain"}, body=b"Pong")

    def health(self, _catalog: Catalog, _request: Request, _names: Mapping[str, str]) -> Answer:
        """The state of the server's parts."""
        components = [{"name": name, "status": "healthy"} for name in PARTS]
        return json_answer({"components": components, "status": "healthy"})

    def systeminfo(self, _catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """Version for everybody, more for those who are logged in."""
        known: dict[str, Any] = {
            "auth_mode": "db_auth",
            "harbor_version": self.version,
            "self_registration": False,
        }
        if request.account:
            known |= {
                "current_time": rendering.moment(datetime.now(UTC)),
                "external_url": request.origin,
                "has_ca_root": False,
                "notification_enable": True,
                "project_creation_restriction": "everyone",
                "read_only": False,
                "registry_storage_provider_name": "filesystem",
                "registry_url": request.origin.partition("://")[2],
                "with_chartmuseum": False,
                "with_notary": False,
            }
        return json_answer(known)

    def current_user(self, _catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """Who is logged in: the only honest test of a password, though a valid robot gets 412 here."""
        if request.account is None:
            return denied(request)
        if request.account.robot:
            reason = "get current user not available for security context: robot"
            return error(412, "PRECONDITION", reason)
        return json_answer(rendering.user(request.account))

    def projects(self, catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """The projects somebody sees."""
        asked, wanted = window(request), terms(request)
        if request.parameter("name"):
            wanted["name"] = Term("fuzzy", (request.parameter("name") or "",))
        for name in ("public", "owner"):
            if request.parameter(name):
                wanted[name] = Term("exact", (request.parameter(name) or "",))
        rows = matching(visible(catalog, request.account), wanted, PROJECT_COLUMNS)
        rows = ordered(rows, request, PROJECT_COLUMNS, default="name")
        detail = flag(request, "with_detail", default=True)
        shown = [rendering.project(each, request.account, detail=detail) for each in cut(rows, asked)]
        return paged(request, asked, shown, len(rows))

    def project_exists(self, catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """HEAD: whether a project name is taken."""
        if request.account is None:
            return denied(request)
        if catalog.project(request.parameter("project_name") or "") is None:
            return error(404, "NOT_FOUND", "project not found")
        return Answer(status=200)

    def project(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """One project, by name or by number; a name of digits needs the header X-Is-Resource-Name."""
        name = names["project"]
        by_name = request.headers.get("x-is-resource-name") == "true"
        if re.fullmatch(r"-?[0-9]+", name) and not by_name:
            number = int(name)
            found = next((each for each in catalog.projects if rendering.project_id(each) == number), None)
            if found is None:
                return error(404, "NOT_FOUND", f"project {name} not found")
            name = found.name
        project = self._project(catalog, request, name, "project:read")
        return json_answer(rendering.project(project, request.account))

    def repositories(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """The repositories of one project, or of all the projects somebody sees."""
        asked, wanted = window(request), terms(request)
        if "project" in names:
            projects = [self._project(catalog, request, names["project"], "repository:list")]
        else:
            projects = visible(catalog, request.account)
        everything = [(project, each) for project in projects for each in project.repositories]
        rows = matching(everything, wanted, REPOSITORY_COLUMNS)
        rows = ordered(rows, request, REPOSITORY_COLUMNS, default="-creation_time")
        return paged(request, asked, [rendering.repository(*each) for each in cut(rows, asked)], len(rows))

    def repository(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """One repository."""
        return json_answer(rendering.repository(*self._place(catalog, request, names, "repository:read")))

    def artifacts(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """The artifacts of a repository; of one that is not there, an empty list."""
        asked, wanted = window(request), terms(request)
        holder = self._project(catalog, request, names["project"], "artifact:list")
        place = holder.find(unquote(names["repository"])) or Repository(name="")
        rows = ordered(selected(place, wanted), request, ARTIFACT_COLUMNS, default="-push_time")
        hidden = rendering.accessory_digests(place)
        shown = [each for each in cut(rows, asked) if each.digest not in hidden]
        return paged(request, asked, [_shown(holder, place, each, request) for each in shown], len(rows))

    def artifact(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """One artifact, by tag or digest; children of an index and accessories are found here too."""
        holder, place = self._place(catalog, request, names, "artifact:read")
        return json_answer(_shown(holder, place, _found(holder, place, names["reference"]), request))

    def tags(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """The tags of one artifact."""
        asked, wanted = window(request), terms(request)
        holder, place = self._place(catalog, request, names, "tag:list")
        artifact = _found(holder, place, names["reference"])
        rows = matching(rendering.newest_first(artifact.tags), wanted, TAG_COLUMNS)
        rows = ordered(rows, request, TAG_COLUMNS, default="-push_time")
        immutable = flag(request, "with_immutable_status", default=False)
        shown = [
            rendering.tag(holder, place, artifact, each, immutable=immutable) for each in cut(rows, asked)
        ]
        return paged(request, asked, shown, len(rows))

    def accessories(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """What is attached to one artifact. Harbor 2.5 counts 0 on a page behind the end."""
        asked = window(request)
        holder, place = self._place(catalog, request, names, "accessory:list")
        artifact = _found(holder, place, names["reference"])
        shown = cut(
            [rendering.accessory(holder, place, artifact, each) for each in artifact.accessories], asked
        )
        return paged(request, asked, shown, len(artifact.accessories) if shown else 0)

    def addition(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """A document about an artifact: the build history of a single image, the texts of a chart."""
        name = names["addition"]
        if name == "vulnerabilities":
            holder, _place = self._place(catalog, request, names, "artifact-addition:read")
            number = rendering.project_id(holder)
            return error(404, "NOT_FOUND", f"no scanner registration configured for project: {number}")
        if name not in ADDITIONS:
            return invalid(f"addition in path should be one of [{' '.join(ADDITIONS)}]")
        holder, place = self._place(catalog, request, names, "artifact-addition:read")
        artifact = _found(holder, place, names["reference"])
        if name in rendering.addition_names(artifact):
            document = artifact.additions.get(name)
            if document:
                return Answer(
                    status=200, headers={"Content-Type": document.content_type}, body=document.content
                )
            return json_answer([dict(each) for each in artifact.history], content_type=JSON_UTF8)
        reason = f"addition {name.upper()} isn't supported"
        if artifact.type not in ("IMAGE", "CHART"):
            reason = f"the processor for artifact {artifact.type} not found, cannot get the addition"
        elif not rendering.is_index(artifact):
            reason += f" for {artifact.type}" + ("(manifest version 2)" if artifact.type == "IMAGE" else "")
        return error(400, "BAD_REQUEST", reason)

    def _project(self, catalog: Catalog, request: Request, name: str, action: str) -> Project:
        project = catalog.project(name)
        allowed = project and (project.public or (request.account and request.account.may(action, name)))
        if project is None or not allowed:
            raise RefusedError(denied(request))
        return project

    def _place(self, catalog: Catalog, request: Request, names: Mapping[str, str], action: str) -> Holder:
        holder = self._project(catalog, request, names["project"], action)
        name = unquote(names["repository"])
        place = holder.find(name)
        if place is None:
            raise RefusedError(error(404, "NOT_FOUND", f"repository {holder.name}/{name} not found"))
        return holder, place


def _unknown(answer: Answer) -> Answer:
    return Answer(status=answer.status, headers=answer.headers, body=answer.body, known=False)


def _check_accept(request: Request) -> None:
    accepted = [each.partition(";")[0].strip() for each in request.headers.get("accept", "*/*").split(",")]
    if not {"*/*", "application/*", "application/json", "text/plain"} & set(accepted):
        refusal = invalid("unsupported media type requested, only [application/json] are available")
        if request.account is None:
            refusal = refusal.with_headers(WWW_Authenticate='Basic realm="API"')
        raise RefusedError(refusal)


def _found(holder: Project, place: Repository, reference: str) -> Artifact:
    artifact = place.find(reference)
    if artifact is None:
        joint = "@" if re.fullmatch("sha256:[0-9a-f]{64}", reference) else ":"
        reason = f"artifact {holder.name}/{place.name}{joint}{reference} not found"
        raise RefusedError(error(404, "NOT_FOUND", reason))
    return artifact


def _shown(holder: Project, place: Repository, artifact: Artifact, request: Request) -> dict[str, Any]:
    return rendering.artifact(
        holder,
        place,
        artifact,
        tags=flag(request, "with_tag", default=True),
        labels=flag(request, "with_label", default=False),
        accessories=flag(request, "with_accessory", default=False),
        immutable=flag(request, "with_immutable_status", default=False),
    )


def _routes() -> Iterator[tuple[str, dict[str, Handler]]]:
    project = "/projects/(?P<project>[^/]+)"
    repository = f"{project}/repositories/(?P<repository>[^/]+)"
    artifact = f"{repository}/artifacts/(?P<reference>[^/]+)"
    yield "/ping", {"GET": Harbor2.ping}
    yield "/health", {"GET": Harbor2.health}
    yield "/systeminfo", {"GET": Harbor2.systeminfo}
    yield "/users/current", {"GET": Harbor2.current_user}
    yield "/projects", {"HEAD": Harbor2.project_exists, "GET": Harbor2.projects}
    yield project, {"GET": Harbor2.project}
    yield "/repositories", {"GET": Harbor2.repositories}
    yield f"{project}/repositories", {"GET": Harbor2.repositories}
    yield repository, {"GET": Harbor2.repository}
    yield f"{repository}/artifacts", {"GET": Harbor2.artifacts}
    yield artifact, {"GET": Harbor2.artifact}
    yield f"{artifact}/tags", {"GET": Harbor2.tags}
    yield f"{artifact}/accessories", {"GET": Harbor2.accessories}
    yield f"{artifact}/additions/(?P<addition>[^/]+)", {"GET": Harbor2.addition}


ROUTES = dict(_routes())
