"""The rows an action is for: chosen by their ids, or one row by its own button."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.http import QueryDict

from repositories.models import Tag

MAX_ROWS = 10_000
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of the ids: images to act on, rows whose image is not known, ids that name nothing."""

    tag_pks: tuple[int, ...]
    image_pks: tuple[int, ...]
    without_image: int
    gone: int


def selected_ids(data: QueryDict) -> list[str]:
    """The ids a form sent; the button of one row goes before the rows that happen to be marked."""
    only = data.get("only")
    return [only] if only else data.getlist("id")[:MAX_ROWS]


def select(ids: Iterable[str]) -> Selection:
    """Look the rows up; several rows with one image ID are one image. One query."""
    wanted = set(ids)
    numbers = {int(each) for each in wanted if each.isascii() and each.isdigit() and len(each) <= 19}
    found = dict(
        Tag.objects.visible()
        .filter(pk__in={each for each in numbers if each <= _LARGEST_ID})
        .values_list("pk", "image_id")
    )
    images = {image for image in found.values() if image is not None}
    return Selection(
        tag_pks=tuple(sorted(found)),
        image_pks=tuple(sorted(images)),
        without_image=sum(image is None for image in found.values()),
        gone=len(wanted) - len(found),
    )
