"""Writes what an engine found as a set difference: nothing is written where nothing changed.

One transaction at a time changes facts (an advisory lock), because packages and layers are shared: two scans
that meet in a package would otherwise each count without what the other is about to add.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from django.db import connection, transaction

from images.models import Image, Layer
from scanning.cleaning import package_row, secret_row
from scanning.engines.protocol import PackageFact, ScanReport
from scanning.match_facts import images_with_packages, write_matches, write_vulnerabilities
from scanning.models import Inventory, InventoryPackage, Package, SecretFinding
from tcss.text import clean_text

# Key of the advisory lock, an arbitrary number of this console's own.
_FACTS = 0x7C55_0002
_BATCH = 1000
_PATH_LENGTH = 1024

_Item = TypeVar("_Item")


def lock_facts() -> None:
    """Be the only transaction that changes facts until its end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_FACTS])


def lacks_packages(image: Image, report: ScanReport) -> bool:
    """Whether the report cannot be the truth: a distribution, and not one package of it.

    Each distribution an engine knows by name has packages. An image without one may be empty, unless it was
    not before: what an image holds never changes.
    """
    if report.packages:
        return bool(report.os_family) and not any(fact.os_release for fact in report.packages)
    return bool(report.os_family) or image.inventories.exists()


def ingest(
    image: Image, report: ScanReport, *, vulnerabilities: bool, secrets: bool, packages: bool = True
) -> set[int]:
    """Make the tables say what the report says of this image; the images whose facts have changed.

    Packages, matches and sensitive data are written where the report may be taken for them, and matches only
    with packages. Needs a transaction, which then holds the lock on facts until its end.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("ingest() needs a transaction")
    lock_facts()
    layers = dict(Layer.objects.filter(image_layers__image=image).values_list("diff_id", "pk"))
    touched: set[int] = set()
    if packages:
        keys = _write_packages(report.packages)
        if _write_inventories(image, report.packages, keys, layers):
            touched.add(image.pk)
        if vulnerabilities:
            write_vulnerabilities(report.vulnerabilities)
            is_cut = "matches" in report.truncated
            touched |= images_with_packages(write_matches(report.matches, keys, is_cut=is_cut).packages)
    if secrets:
        touched |= _write_secrets(image, report, layers)
    _write_system(image, report)
    return touched


def _write_packages(facts: Collection[PackageFact]) -> dict[str, int]:
    """Identity -> key of every package of the report."""
    by_identity = {fact.identity: fact for fact in facts}
    known = _package_keys(by_identity)
    missing = [fact for identity, fact in sorted(by_identity.items()) if identity not in known]
    if missing:
        Package.objects.bulk_create(
            [package_row(fact) for fact in missing], ignore_conflicts=True, batch_size=_BATCH
        )
        known |= _package_keys([fact.identity for fact in missing])
    return known


def _package_keys(identities: Iterable[str]) -> dict[str, int]:
    keys: dict[str, int] = {}
    for some in _batches(sorted(identities)):
        keys.update(Package.objects.filter(identity__in=some).values_list("identity", "pk"))
    return keys


def _write_inventories(
    image: Image, facts: Iterable[PackageFact], packages: dict[str, int], layers: dict[str, int]
) -> bool:
    """Give the image the inventories of its layers; whether anything changed."""
    contents: dict[str, set[tuple[str, str]]] = {}
    for fact in facts:
        path = clean_text(fact.path, _PATH_LENGTH)
        layer = fact.layer_diff_id if fact.layer_diff_id in layers else ""
        contents.setdefault(layer, set()).add((fact.identity, path))
    wanted = {_content_hash(layer, entries): layer for layer, entries in contents.items()}
    known = dict(Inventory.objects.filter(content_hash__in=wanted).values_list("content_hash", "pk"))
    for content_hash, layer in wanted.items():
        if content_hash in known:
            continue
        inventory = Inventory.objects.create(content_hash=content_hash, layer_id=layers.get(layer))
        known[content_hash] = inventory.pk
        InventoryPackage.objects.bulk_create(
            [
                InventoryPackage(inventory=inventory, package_id=packages[identity], path=path)
                for identity, path in sorted(contents[layer])
            ],
            batch_size=_BATCH,
        )
    held = set(image.inventories.values_list("pk", flat=True))
    gone = held - set(known.values())
    new = set(known.values()) - held
    image.inventories.add(*new)
    image.inventories.remove(*gone)
    Inventory.objects.filter(pk__in=gone, images=None).delete()
    return bool(new or gone)


def _content_hash(layer: str, entries: Iterable[tuple[str, str]]) -> str:
    text = json.dumps([layer, sorted(entries)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_secrets(image: Image, report: ScanReport, layers: dict[str, int]) -> set[int]:
    """Make the sensitive data of the image and its layers those of the report; the images that hold it."""
    wanted = {}
    for fact in report.secrets:
        row = secret_row(fact)
        layer_pk = layers.get(fact.layer_diff_id or "")
        row.layer_id, row.image_id = layer_pk, None if layer_pk else image.pk
        wanted[layer_pk, row.fingerprint] = row
    stored = {
        (row.layer_id, row.fingerprint): row
        for row in (
            *SecretFinding.objects.filter(image=image),
            *SecretFinding.objects.filter(layer__in=layers.values()),
        )
    }
    new = [row for key, row in wanted.items() if key not in stored]
    # What was cut off may be there all the same.
    is_cut = "secrets" in report.truncated
    gone = [row for key, row in stored.items() if key not in wanted and not is_cut]
    SecretFinding.objects.bulk_create(new, batch_size=_BATCH)
    SecretFinding.objects.filter(pk__in=[row.pk for row in gone]).delete()
    touched = {row.layer_id for row in (*new, *gone)}
    sharing = Image.objects.filter(image_layers__layer__in=[pk for pk in touched if pk is not None])
    return set(sharing.values_list("pk", flat=True)) | ({image.pk} if touched else set())


def _write_system(image: Image, report: ScanReport) -> None:
    found: dict[str, str | bool] = {
        "os_family": clean_text(report.os_family, 64),
        "os_name": clean_text(report.os_name, 64),
    }
    # Without a database nothing is known of the distribution's support: what was known stays.
    if report.os_supported is not None:
        found["os_end_of_life"] = not report.os_supported
    row = Image.objects.filter(pk=image.pk)
    if not row.filter(**found).exists():
        row.update(**found)


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
