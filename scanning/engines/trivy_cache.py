"""What Trivy read in single layers, in its own form: put into the cache of a run, and taken out of it.

Trivy keeps one JSON document a layer in `fanal/fanal.db`, under a key made from the diff ID, its analysers'
versions and its options. A layer it finds there needs no content.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanning.engines import bolt
from scanning.engines.protocol import EngineCrash
from scanning.engines.trivy_report import LONG, mask

MAX_ANALYSIS_BYTES = 32 * 2**20
"""What is kept of one layer; a layer of which Trivy has more to say is looked at anew for every image."""

_FILE = Path("fanal", "fanal.db")
_LAYERS, _CONFIGS = b"blob", b"artifact"


@dataclass(frozen=True, slots=True)
class Analysis:
    """What Trivy read in one layer: JSON of its own, and the key it will look for it under."""

    diff_id: str
    key: str
    content: bytes


def seed(cache: Path, known: Iterable[Analysis]) -> None:
    """Make the layers known to the run that is about to use this cache directory."""
    layers = {each.key.encode(): each.content for each in known}
    if not layers:
        return
    path = cache / _FILE
    path.parent.mkdir(parents=True)
    bolt.write(path, {_CONFIGS: {}, _LAYERS: layers})


def learned(cache: Path, known: Collection[str]) -> Iterator[Analysis]:
    """What the run that used this cache directory read in layers, without the `known` keys.

    Raises EngineCrash when the cache cannot be read.
    """
    path = cache / _FILE
    if not path.exists():
        return
    try:
        for key, content in bolt.read(path, _LAYERS):
            if key.decode() not in known and len(content) <= MAX_ANALYSIS_BYTES:
                yield _analysis(key.decode(), json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineCrash(
            "What the scan engine remembers of layers cannot be read.",
            "Use the Trivy version this console was made for, then scan again.",
            detail=str(error),
        ) from error


def _analysis(key: str, document: dict[str, object]) -> Analysis:
    """Without what stands around a secret: Trivy stars only what its rule matched."""
    for file in _list(document, "Secrets"):
        for finding in _list(file, "Findings"):
            finding["Match"] = mask(str(finding.get("Match", ""))[:LONG])
            finding.pop("Code", None)
    return Analysis(str(document["DiffID"]), key, json.dumps(document, separators=(",", ":")).encode())


def _list(document: dict[str, object], name: str) -> list[dict[str, object]]:
    found = document.get(name) or []
    if not isinstance(found, list):
        raise TypeError(f"{name} is not a list")
    return found
