"""All that an evil registry can do, by the rows of the catalogue of bad inputs."""

from __future__ import annotations

from demo.evil import Scenario
from demo.evil_answers import ANSWERS, LISTINGS, REDIRECTS
from demo.evil_transport import TRANSPORT

SCENARIOS: list[Scenario] = [*TRANSPORT, *ANSWERS, *REDIRECTS, *LISTINGS]


def named(name: str) -> list[Scenario]:
    """The scenarios of a row, or the one of that title; raises LookupError when there is none."""
    found = [scenario for scenario in SCENARIOS if name in {scenario.row, scenario.title}]
    if not found:
        raise LookupError(f"There is no scenario {name!r}.")
    return found
