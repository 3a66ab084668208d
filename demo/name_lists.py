"""Lists of bare names as a registry pages them: by `n` and `last`, with a Link to what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from demo.catalog import Catalog
from demo.exchange import JSON_UTF8, Answer, Request, json_answer

Shape = Callable[[list[str]], dict[str, object]]
"""Makes the body of a page of names."""


def repository_names(catalog: Catalog, *, tagged: bool = False) -> list[str]:
    """The full names of all repositories that hold something, or something with a tag, in order."""
    return sorted(
        f"{project.name}/{repository.name}"
        for project in catalog.projects
        for repository in project.repositories
        if any(artifact.tags or not tagged for artifact in repository.artifacts)
    )


def listed(
    request: Request, found: Sequence[str], count: int | None, shape: Shape, *, end: str = "\n"
) -> Answer:
    """The names behind `last`, so many of them, and the Link to the rest: the registry's own paging."""
    last = request.parameter("last")
    rest = [name for name in found if last is None or name > last]
    shown = rest[:count]
    answer = json_answer(shape(shown), content_type=JSON_UTF8, end=end)
    if not shown or len(shown) == len(rest):
        return answer
    query = urlencode({"last": shown[-1], "n": count})
    return answer.with_headers(Link=f'<{request.path}?{query}>; rel="next"')
