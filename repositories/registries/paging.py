"""Walks a paged listing to its end, whatever the registry says about how long it is."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from repositories.registries.answers import MalformedError, as_list, as_mapping
from repositories.registries.client import JSONAnswer
from repositories.registries.failures import BadAnswerError, ListingCutError

PAGE_SIZES = (100, 50, 10)
LARGEST_PAGE = 10_000
PAGES = 10_000
ITEMS = 1_000_000
# Harbor 2.5.0 counts accessories that it does not show, so that a page in the middle may be empty. But pages
# that bring nothing new, or nothing that makes sense, have to end some time.
_BARREN_PAGES = 100
_REPEATED_PAGES = 2

Item = TypeVar("Item")
AskPage = Callable[[Mapping[str, object]], JSONAnswer]


def walk(ask: AskPage, parse: Callable[[Mapping[str, object]], tuple[str, Item]]) -> Iterator[Item]:
    """Every item of a listing, once; ends by itself only when the listing was complete.

    ``parse`` makes an item and the name it is known by. Entries that are not of the form of one are left out,
    and say so by BadAnswerError at the end; ListingCutError where the listing has no end or goes in circles.
    The total a registry counts is only a hint: it has been too high, too low and absent.
    """
    seen: set[str] = set()
    malformed = barren = repeated = 0
    size, answer = _first_page(ask)
    for page in range(1, PAGES + 1):
        if page > 1:
            answer = ask({"page": page, "page_size": size})
        try:
            entries = as_list(answer.value, limit=LARGEST_PAGE)
        except MalformedError:
            raise BadAnswerError("REG_PROTOCOL", "The registry's answer is no list.") from None
        known_before = len(seen)
        for entry in entries:
            try:
                name, item = parse(as_mapping(entry))
            except ValueError:
                malformed += 1
                continue
            if name not in seen:
                seen.add(name)
                yield item
        if len(seen) > ITEMS:
            raise ListingCutError("REG_PROTOCOL", f"The listing has more than {ITEMS} entries.")
        beyond_total = answer.total is None or page * size >= answer.total
        all_counted = answer.total is not None and len(seen) + malformed >= answer.total
        if (not entries and beyond_total) or (len(entries) < size and all_counted and beyond_total):
            break
        barren += len(seen) == known_before
        repeated = repeated + 1 if entries and len(seen) == known_before and not malformed else 0
        if barren > _BARREN_PAGES or repeated >= _REPEATED_PAGES:
            raise ListingCutError("REG_PROTOCOL", "The registry's listing goes in circles or does not end.")
    else:
        raise ListingCutError("REG_PROTOCOL", f"The listing has more than {PAGES} pages.")
    if malformed:
        raise BadAnswerError(
            "REG_PROTOCOL",
            f"{malformed} entries of a listing have no valid name or digest and were left out.",
        )


def _first_page(ask: AskPage) -> tuple[int, JSONAnswer]:
    """The first page, and the largest page size the registry takes."""
    for size in PAGE_SIZES:
        try:
            return size, ask({"page": 1, "page_size": size})
        except BadAnswerError as error:
            if error.status != 422 or size == PAGE_SIZES[-1]:
                raise
    raise AssertionError("the smallest page size returns or raises")
