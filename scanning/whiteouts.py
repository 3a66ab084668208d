"""What layers hide of the layers below them: noted once for each layer, and looked up for findings."""

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from images.models import Image, ImageLayer
from scanning.engine_models import LayerWhiteout
from scanning.engines.layers import OpaqueDirectory, whiteouts
from scanning.engines.protocol import EngineBomb, ImageMalformed

log = logging.getLogger(__name__)

MAX_WHITEOUTS = 20_000
_BATCH = 1000

# The layer something was found in and its path there.
Spot = tuple[int, str]


def record(layer_pk: int, archive: Path, alive: Callable[[], None]) -> None:
    """Note what the layer hides, as its raw tar tells; a layer that has such notes is left alone.

    Beyond 20,000 paths, and behind what cannot be read of the archive, nothing is noted: a finding without a
    mark may be hidden all the same. `alive` may raise what ends the walk, and then nothing is noted.
    """
    if LayerWhiteout.objects.filter(layer=layer_pk).exists():
        return
    found: dict[tuple[str, bool], None] = {}
    try:
        with archive.open("rb") as file:
            for each in whiteouts(file, alive=alive):
                found[each.path, isinstance(each, OpaqueDirectory)] = None
                if len(found) >= MAX_WHITEOUTS:
                    log.warning("A layer hides more paths than are noted", extra={"layer": layer_pk})
                    break
    except (ImageMalformed, EngineBomb):
        # The engine that looks at the layer says so in words that are shown.
        log.info("A layer's whiteouts could not all be read", extra={"layer": layer_pk})
    rows = [LayerWhiteout(layer_id=layer_pk, path=path, is_opaque=opaque) for path, opaque in found]
    LayerWhiteout.objects.bulk_create(rows, batch_size=_BATCH, ignore_conflicts=True)


def deleted_in(image: Image, spots: Collection[Spot]) -> dict[Spot, int]:
    """The position, from 1 on, of the first later layer of the image that hides each of these, if one does.

    At most two queries, one where nothing is hidden.
    """
    if not spots:
        return {}
    signs = {sign for _, path in spots for sign in _lineage(path)}
    noted = LayerWhiteout.objects.filter(
        layer__image_layers__image=image, path__in={path for path, _ in signs}
    )
    hidden: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for path, is_opaque, position in noted.values_list("path", "is_opaque", "layer__image_layers__position"):
        hidden[path, is_opaque].append(position)
    if not hidden:
        return {}
    # A layer may be listed again further up: its files are there again.
    rows = ImageLayer.objects.filter(image=image).order_by("position")
    last = dict(rows.values_list("layer", "position"))
    found = {}
    for layer_pk, path in spots:
        highest = last.get(layer_pk, 0)
        later = [place for sign in _lineage(path) for place in hidden.get(sign, ()) if place > highest]
        if later:
            found[layer_pk, path] = min(later) + 1
    return found


def _lineage(path: str) -> Iterator[tuple[str, bool]]:
    """The whiteouts that would hide a path: of itself, of a directory above it, or of what is in one."""
    above = list(itertools.accumulate(path.strip("/").split("/"), lambda upper, name: f"{upper}/{name}"))
    yield from ((each, False) for each in above)
    yield from ((each, True) for each in ("", *above[:-1]))
