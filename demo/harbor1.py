"""Harbor 1.10's API under `/api`, the part that is read by somebody who lists and pulls images.

Held against the recorded answers of a real server. Its unit is the tag, not the artifact. Quirks are kept on
purpose: a wrong password makes an anonymous of you, a robot may pull and nothing else, an empty list of
projects is null and one of repositories is not, a list of tags has no pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from demo.blobs import DIGEST, BlobMissingError, BlobStore
from demo.catalog import NEVER, Account, Catalog, Project, Repository, Tag
from demo.distribution import NAME
from demo.exchange import Answer, Request, page
from demo.gojson import go_json
from demo.harbor2 import visible
from demo.listing import INTEGER, RefusedError, Window, cut, wrap
from demo.registry1 import NO_PAGE, OlderDistribution, missing_manifest
from demo.rendering import project_id
from demo.rendering1 import answer, error, moment, name_only, project, repository, tag, tags_of, user
from demo.schema1 import NotConvertibleError

VERSION = "v1.10.19-b1a56175"
PARTS = ("core", "database", "jobservice", "portal", "redis", "registry", "registryctl")
LARGEST_PAGE = 500
WORDS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
UNESCAPED = "/:@!$&'()*+,;=~-._"
"""What the front proxy leaves as it is when it passes a path on."""

Handler = Callable[["Harbor1", Catalog, Request, Mapping[str, str]], Answer]


def denied(account: Account | None) -> RefusedError:
    """401 for strangers, among them everybody with a wrong password; those who are known get their name."""
    return RefusedError(error(403, account.name) if account else error(401, "UnAuthorized"))


def pages(request: Request) -> Window:
    """Read `page` and `page_size`; sizes above 500 mean 500. Raises RefusedError (400)."""
    numbers = {}
    for name, default in (("page", 1), ("page_size", LARGEST_PAGE)):
        text = request.parameter(name) or str(default)
        if not INTEGER.fullmatch(text) or not 0 < int(text) < 2**63:
            raise RefusedError(error(400, f"invalid {name}"))
        numbers[name] = int(text)
    asked = Window(numbers["page"], min(numbers["page_size"], LARGEST_PAGE))
    if wrap((asked.page - 1) * asked.size) < 0:
        raise RefusedError(error(500, "Internal Server Error"))
    return asked


def paged(request: Request, asked: Window, items: object, total: int) -> Answer:
    """A list with its count and links. A link repeats the size that was asked for, however large."""
    beside = []
    if asked.page > 1 and (asked.page - 1) * asked.size <= total:
        beside.append((asked.page - 1, "prev"))
    if asked.page * asked.size < total:
        beside.append((asked.page + 1, "next"))
    texts = []
    for number, relation in beside:
        query = urlencode(sorted({**dict(request.query), "page": str(number)}.items()))
        texts.append(f'<{request.path}?{query}>; rel="{relation}"')
    made = answer(items, X_Total_Count=str(total))
    return made.with_headers(Link=", ".join(texts)) if texts else made


class Harbor1:
    """Answers API requests out of a catalog that holds Docker images only."""

    def __init__(self, blobs: BlobStore, distribution: OlderDistribution) -> None:
        self.version = VERSION
        self._blobs = blobs
        self._distribution = distribution

    def answer(self, catalog: Catalog, request: Request) -> Answer:
        """The answer to a request whose path begins with `/api/`."""
        # The server routes by the path as the proxy encoded it, so a blank in a name stays %20.
        path = quote(request.path.rstrip("/"), safe=UNESCAPED, errors="surrogateescape")
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, path) if method == request.method else None
            if found is not None:
                try:
                    return handler(self, catalog, request, found.groupdict())
                except RefusedError as refused:
                    return refused.answer
        return page(404, "404 - Page Not Found", cookies=True)

    def ping(self, _catalog: Catalog, _request: Request, _names: Mapping[str, str]) -> Answer:
        """The sign of life, which needs no account."""
        return answer("Pong")

    def health(self, _catalog: Catalog, _request: Request, _names: Mapping[str, str]) -> Answer:
        """The state of the server's parts."""
        return answer(
            {"status": "healthy", "components": [{"name": name, "status": "healthy"} for name in PARTS]}
        )

    def systeminfo(self, _catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """The version and more, the same for everybody: no test of a password."""
        return answer(
            {
                "with_notary": False,
                "with_admiral": False,
                "admiral_endpoint": "",
                "auth_mode": "db_auth",
                "registry_url": request.origin.partition("://")[2],
                "external_url": request.origin,
                "project_creation_restriction": "everyone",
                "self_registration": False,
                "has_ca_root": False,
                "harbor_version": self.version,
                "registry_storage_provider_name": "filesystem",
                "read_only": False,
                "with_chartmuseum": False,
                "notification_enable": True,
            }
        )

    def current_user(self, _catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """Who is logged in: the only honest test of a password, at which a valid robot makes it fail."""
        if request.account is None:
            return error(401, "UnAuthorize")
        if request.account.robot:
            return error(500, "Internal Server Error")
        return answer(user(request.account))

    def projects(self, catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """The projects somebody sees, by name; a robot sees the public ones, not even its own."""
        public = request.parameter("public")
        if public and public.lower() not in WORDS:
            return error(400, f"invalid public: {public}")
        asked = pages(request)
        owner = request.parameter("owner")
        rows = [
            each
            for each in visible(catalog, _person(request))
            if (request.parameter("name") or "") in each.name
            and (not public or each.public == WORDS[public.lower()])
            and (not owner or each.owner == owner)
        ]
        rows.sort(key=lambda each: each.name)
        shown = [project(each, request.account, alone=False) for each in cut(rows, asked)]
        return paged(request, asked, shown or None, len(rows))

    def project_exists(self, catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """HEAD: whether a project name is taken."""
        if request.account is None:
            raise denied(None)
        name = request.parameter("project_name") or ""
        return Answer(200) if catalog.project(name) else error(404, f"project {name} not found")

    def project(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """One project, by number; only an administrator learns that there is none."""
        number = int(names["project"])
        if not number:
            return error(400, "invalid project ID: 0")
        found = next((each for each in catalog.projects if project_id(each) == number), None)
        if found is None and request.account and request.account.admin:
            return error(404, f"project {number} not found")
        if found is None or not _may(request, found, "project:read"):
            raise denied(request.account)
        return answer(project(found, request.account, alone=True))

    def repositories(self, catalog: Catalog, request: Request, _names: Mapping[str, str]) -> Answer:
        """The repositories of one project; one without tags is gone."""
        wanted = request.parameter("project_id") or ""
        if not INTEGER.fullmatch(wanted) or int(wanted) <= 0:
            return error(400, f"invalid project_id {wanted}")
        label = request.parameter("label_id") or "0"
        if not INTEGER.fullmatch(label):
            return error(400, f"invalid label_id: {label}")
        holder = next((each for each in catalog.projects if project_id(each) == int(wanted)), None)
        if holder is None:
            return error(404, f"project {int(wanted)} not found")
        _require(request, holder, "repository:list")
        asked = pages(request)
        part = request.parameter("q") or ""
        rows = [
            each for each in holder.repositories if tags_of(each) and part in f"{holder.name}/{each.name}"
        ]
        if int(label) > 0:
            # The catalog has labels on images only, never on a repository.
            rows = []
        rows = _ordered(rows, request.parameter("sort") or "name")
        return paged(request, asked, [repository(holder, each) for each in cut(rows, asked)], len(rows))

    def tags(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """All tags of a repository at once; of one that is not there, an empty list."""
        _require(request, _holder(catalog, names["repository"]), "tag:list")
        place = catalog.repository(names["repository"])
        pairs = tags_of(place) if place else []
        label = request.parameter("label_id") or "0"
        if INTEGER.fullmatch(label) and int(label) > 0:
            pairs = [pair for pair in pairs if any(each.id == int(label) for each in pair[1].labels)]
        if WORDS.get((request.parameter("detail") or "true").lower(), True):
            return answer([tag(artifact, name) for name, artifact in pairs])
        return answer([name_only(name) for name, _ in pairs])

    def tag(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """One tag, or a digest that passes for one and was never pushed or pulled under that name."""
        holder = _holder(catalog, names["repository"])
        place = catalog.repository(names["repository"])
        artifact = place.find(names["tag"]) if place else None
        if artifact is None:
            return error(404, f"resource: {names['repository']}:{names['tag']} not found")
        _require(request, holder, "artifact:read")
        name = next((each for each in artifact.tags if each.name == names["tag"]), None)
        if name is None:
            unnamed = {"push_time": moment(NEVER), "pull_time": moment(NEVER)}
            return answer({**tag(artifact, Tag(artifact.digest)), **unnamed})
        return answer(tag(artifact, name))

    def manifest(self, catalog: Catalog, request: Request, names: Mapping[str, str]) -> Answer:
        """A manifest and, as text, its config; `version=v1` asks for the first format, which has none."""
        version = request.parameter("version") or "v2"
        if version not in ("v1", "v2"):
            return error(400, "version should be v1 or v2")
        name, reference = names["repository"], names["tag"]
        _require(request, _holder(catalog, name), "artifact:read")
        place = catalog.repository(name)
        artifact = place.find(reference) if place else None
        try:
            if artifact is None:
                raise BlobMissingError(reference)
            content = self._blobs.read(artifact.digest)
            if version == "v1" and not DIGEST.fullmatch(reference):
                _digest, made = self._distribution.first_format(name, reference, content)
                return answer({"manifest": json.loads(made)})
            document = json.loads(content)
            config = self._blobs.read(document["config"]["digest"]).decode()
        except BlobMissingError:
            # The registry's own words, passed on as a message.
            words = go_json(missing_manifest(name, reference)) + "\n"
            return error(404, words if re.fullmatch(NAME, name) else NO_PAGE)
        except NotConvertibleError:
            return error(500, "Internal Server Error")
        return answer({"manifest": document, "config": config})


def _person(request: Request) -> Account | None:
    return None if request.account is None or request.account.robot else request.account


def _may(request: Request, holder: Project, action: str) -> bool:
    """Whether somebody may read that: a robot of this version holds no right but to pull and push."""
    person = _person(request)
    return holder.public or (person is not None and person.may(action, holder.name))


def _require(request: Request, holder: Project, action: str) -> None:
    if not _may(request, holder, action):
        raise denied(request.account)


def _holder(catalog: Catalog, name: str) -> Project:
    """The project of a repository. Raises RefusedError (404)."""
    holder = name.partition("/")[0] if "/" in name else ""
    found = catalog.project(holder)
    if found is None:
        raise RefusedError(error(404, f"project {holder} not found"))
    return found


def _ordered(rows: list[Repository], wanted: str) -> list[Repository]:
    """Sorted by name, creation_time or update_time; any other word means by name."""
    times = {"creation_time": "created", "update_time": "updated"}
    column = wanted.lstrip("-")
    known = column in times or column == "name"
    field = times.get(column, "name")
    return sorted(rows, key=lambda each: getattr(each, field), reverse=known and wanted.startswith("-"))


REPOSITORY = "/api/repositories/(?P<repository>.+)"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/api/ping", Harbor1.ping),
    ("GET", "/api/health", Harbor1.health),
    ("GET", "/api/systeminfo", Harbor1.systeminfo),
    ("GET", "/api/users/current", Harbor1.current_user),
    ("GET", "/api/projects", Harbor1.projects),
    ("HEAD", "/api/projects", Harbor1.project_exists),
    ("GET", "/api/projects/(?P<project>[0-9]+)", Harbor1.project),
    ("GET", "/api/repositories", Harbor1.repositories),
    ("GET", f"{REPOSITORY}/tags/(?P<tag>[^/]+)/manifest", Harbor1.manifest),
    ("GET", f"{REPOSITORY}/tags/(?P<tag>[^/]+)", Harbor1.tag),
    ("GET", f"{REPOSITORY}/tags", Harbor1.tags),
)
