"""What the engine read in layers before, kept for all images, workers and hosts.

A row's content is zlib of one line with the engine's own key and its document: see engines/trivy_cache.py.
"""

import hashlib
import logging
import time
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from images.models import Layer
from scanning.engine_models import LayerAnalysis
from scanning.engines.trivy_cache import MAX_ANALYSIS_BYTES, Analysis
from scanning.store import Pulse

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
"""How long an image waits for layers that another worker is looking at, before it looks itself."""

_POLL_SECONDS = 0.2
_KEPT_UNUSED = timedelta(days=90)
_KEPT_REPLACED = timedelta(days=14)
_KEY_BYTES = 1000


def load(engine: str, diff_ids: Collection[str]) -> dict[str, Analysis]:
    """Diff ID -> what this engine read in the layer, for those of the layers that it has read."""
    rows = LayerAnalysis.objects.filter(engine=engine, layer__diff_id__in=set(diff_ids))
    found = {}
    for diff_id, content in rows.values_list("layer__diff_id", "content"):
        try:
            key, _, document = _decompressed(bytes(content)).partition(b"\n")
            found[diff_id] = Analysis(diff_id, key.decode(), document)
        except (zlib.error, ValueError):
            log.warning("What an engine read in a layer is damaged", extra={"layer": diff_id})
    return found


def save(engine: str, analysis: Analysis) -> None:
    """Keep what the engine read in a layer; one that no image is known to have is not kept."""
    layer = Layer.objects.filter(diff_id=analysis.diff_id).first()
    if layer is None:
        return
    content = zlib.compress(analysis.key.encode() + b"\n" + analysis.content)
    # What two workers read in one layer is the same; what is there may be damaged.
    LayerAnalysis.objects.bulk_create(
        [LayerAnalysis(layer=layer, engine=engine, content=content)],
        update_conflicts=True,
        unique_fields=["layer", "engine"],
        update_fields=["content"],
    )


def note_use(engine: str, diff_ids: Collection[str]) -> None:
    """Keep these from being forgotten; a row is written at most once a day."""
    today = timezone.localdate()
    used = LayerAnalysis.objects.filter(engine=engine, layer__diff_id__in=set(diff_ids))
    used.filter(used_on__lt=today).update(used_on=today)


def forget() -> int:
    """Remove what no image was put together from for 90 days, or for 14 while another engine's was; how many.

    The other engine is as a rule a newer version of the same one.
    """
    today = timezone.localdate()
    of_another = LayerAnalysis.objects.filter(layer=OuterRef("layer"), used_on__gt=OuterRef("used_on"))
    unused = Q(used_on__lt=today - _KEPT_UNUSED)
    replaced = Q(Exists(of_another), used_on__lt=today - _KEPT_REPLACED)
    count, _ = LayerAnalysis.objects.filter(unused | replaced).delete()
    return count


@contextmanager
def alone(engine: str, diff_ids: Iterable[str], pulse: Pulse) -> Iterator[None]:
    """Be the only worker of all hosts that looks at these layers, or one that has waited long enough.

    The locks end with their connection, also when the process is killed. Raises whatever `pulse` raises.
    """
    # In one order for all, so that no two wait for each other.
    keys = sorted(_lock_key(engine, each) for each in set(diff_ids))
    if not keys:
        yield
        return
    locks = connection.copy()
    try:
        _wait_for(locks, keys, pulse)
        yield
    finally:
        locks.close()


def _wait_for(locks: BaseDatabaseWrapper, keys: Iterable[int], pulse: Pulse) -> None:
    until = time.monotonic() + WAIT_SECONDS
    with locks.cursor() as cursor:
        for key in keys:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
                if cursor.fetchone()[0]:
                    break
                if time.monotonic() >= until:
                    log.info("Another worker is long at work on a layer; it is looked at here too")
                    return
                pulse.wait(_POLL_SECONDS)


def _lock_key(engine: str, diff_id: str) -> int:
    digest = hashlib.sha256(f"{engine} {diff_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _decompressed(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    document = decompressor.decompress(content, MAX_ANALYSIS_BYTES + _KEY_BYTES)
    if not decompressor.eof:
        raise ValueError("longer than anything that is kept")
    return document
