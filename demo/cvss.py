"""The base score of a CVSS 3.1 vector, after chapter 7.1 of FIRST's specification."""

from __future__ import annotations

import math

WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
PRIVILEGES = {
    "U": {"N": 0.85, "L": 0.62, "H": 0.27},
    "C": {"N": 0.85, "L": 0.68, "H": 0.5},
}
RATINGS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))


def base_score(vector: str) -> float:
    """The score of a vector such as "AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", from 0.0 to 10.0.

    Raises KeyError or ValueError when a base metric is missing or has no such value.
    """
    metrics = dict(part.split(":") for part in vector.split("/"))
    value = {name: choices[metrics[name]] for name, choices in WEIGHTS.items()}
    changed = metrics["S"] == "C"
    missed = (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = (
        7.52 * (1 - missed - 0.029) - 3.25 * (1 - missed - 0.02) ** 15 if changed else 6.42 * (1 - missed)
    )
    if impact <= 0:
        return 0.0
    privileges = PRIVILEGES[metrics["S"]][metrics["PR"]]
    exploitability = 8.22 * value["AV"] * value["AC"] * privileges * value["UI"]
    total = (impact + exploitability) * (1.08 if changed else 1.0)
    return _round_up(min(total, 10.0))


def rating(score: float) -> str:
    """The word for a score: low, medium, high, critical, or unknown for 0."""
    return next((word for least, word in RATINGS if score >= least), "unknown")


def _round_up(number: float) -> float:
    # The specification rounds by whole numbers so that 4.02 does not become 4.1 by a binary fraction's fault.
    hundred_thousandths = round(number * 100_000)
    if hundred_thousandths % 10_000 == 0:
        return hundred_thousandths / 100_000
    return (math.floor(hundred_thousandths / 10_000) + 1) / 10
