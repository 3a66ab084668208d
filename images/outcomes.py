"""What an action on several images did, told in one sentence with a number for each outcome."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count

from images.selection import Selection
from licensing.services import Assigned
from scanning.models import Outcome, ScanTask

_WORDS = {
    Outcome.STARTED: "started",
    Outcome.JOINED: "already scanning",
    Outcome.UNLICENSED: "not licensed",
    Outcome.NOT_AN_IMAGE: "not an image",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence for the person who asked, and whether all, some or none of it was done."""

    sentence: str
    done: int
    left: int


def of_scan(task: ScanTask | None, selection: Selection) -> Told:
    """What a scan task did about its images; None where there was no image to ask a scan for."""
    counts = dict(task.items.values_list("outcome").annotate(Count("pk"))) if task else {}
    parts = [(counts.get(outcome, 0), word) for outcome, word in _WORDS.items()]
    done = counts.get(Outcome.STARTED, 0) + counts.get(Outcome.JOINED, 0)
    return _told("Scan", [*parts, *_rest(selection)], done)


def of_cancel(stopped: int, selection: Selection) -> Told:
    """What a cancellation stopped."""
    idle = len(selection.image_pks) - stopped
    return _told(
        "Cancel scanning", [(stopped, "stopped"), (idle, "not scanning"), *_rest(selection)], stopped
    )


def of_license(assigned: Assigned, selection: Selection) -> Told:
    """Which images got a license."""
    parts = [
        (len(assigned.licensed), "licensed"),
        (len(assigned.already), "already licensed"),
        (len(assigned.refused), "refused: no license is left"),
    ]
    return _told("License", [*parts, *_rest(selection)], len(assigned.licensed) + len(assigned.already))


def _rest(selection: Selection) -> list[tuple[int, str]]:
    return [(selection.without_image, "not read yet"), (selection.gone, "no longer there")]


def _told(action: str, parts: Iterable[tuple[int, str]], done: int) -> Told:
    shown = [(count, word) for count, word in parts if count]
    if not shown:
        return Told(f"{action}: nothing was selected.", 0, 0)
    sentence = f"{action}: {', '.join(f'{count:,} {word}' for count, word in shown)}."
    return Told(sentence, done, sum(count for count, _ in shown) - done)
