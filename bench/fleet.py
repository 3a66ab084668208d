"""A fleet of scanned images: made-up inventories of the packages that the demo's advisories name."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from demo.vulnerability_db import Advisory
from images.models import Image, ImageLayer, Layer
from scanning.models import (
    Category,
    CategoryState,
    Inventory,
    InventoryPackage,
    Package,
    Scan,
    ScanCategory,
)
from tcss.lifecycle import State

BATCH = 2_000
RELEASES = {"debian 12": 10, "debian 11": 6, "alpine 3.18": 5, "alpine 3.19": 4}
KINDS = {"pip": ("python-pkg", "pypi"), "npm": ("node-pkg", "npm"), "go": ("gobinary", "golang")}
OLDEST, NEWEST = "0.1", "9999"
BASE_PACKAGES, LAYER_PACKAGES = 90, 30


@dataclass(frozen=True, slots=True)
class Pools:
    """The packages there are: of each OS release, and of languages."""

    systems: dict[str, list[Package]]
    languages: list[Package]


def make(advisories: tuple[Advisory, ...], *, images: int, layers: int, seed: int = 7) -> None:
    """Fill an empty database with images that share layers, each scanned once, whose packages are known."""
    chance = random.Random(seed)
    pools = _pools(advisories, chance)
    Package.objects.bulk_create(
        [each for pool in (*pools.systems.values(), pools.languages) for each in pool], batch_size=BATCH
    )
    bases = _layers(pools, chance, layers // 25, BASE_PACKAGES)
    system_layers = _layers(pools, chance, layers * 9 // 25, LAYER_PACKAGES)
    language_layers = [
        (layer, inventory)
        for layer, inventory in _stored(
            [
                chance.sample(pools.languages, LAYER_PACKAGES)
                for _ in range(layers - len(bases) - len(system_layers))
            ]
        )
    ]
    by_release: dict[str, list[tuple[Layer, Inventory]]] = {}
    for release, stored in system_layers:
        by_release.setdefault(release, []).append(stored)
    stacks = []
    for _ in range(images):
        release, base = chance.choice(bases)
        above = by_release.get(release, [])
        some = chance.sample(above, min(1, len(above))) + chance.sample(language_layers, 3)
        stacks.append((release, [base, *some]))
    _images(stacks)


def _pools(advisories: tuple[Advisory, ...], chance: random.Random) -> Pools:
    affected = [each for advisory in advisories for each in advisory.affects]
    systems: dict[str, list[Package]] = {}
    for place, count in RELEASES.items():
        family = place.partition(" ")[0]
        fixes: dict[str, set[str]] = {}
        for each in affected:
            if each.place == place:
                fixes.setdefault(each.package, {OLDEST, NEWEST}).update(filter(None, [each.fixed]))
        names = fixes | {f"filler-{number}": {"1.0-1", "1.1-1"} for number in range(200)}
        for point in range(count):
            release = f"{place}.{point}"
            systems[release] = [
                _package(
                    name, version, family, f"pkg:{'deb' if family == 'debian' else 'apk'}/{family}", release
                )
                for name, versions in names.items()
                for version in sorted(versions)
            ]
    languages = []
    for place, (kind, word) in KINDS.items():
        names = {each.package for each in affected if each.place == place}
        for name in sorted(names | {f"filler-{place}-{number}" for number in range(100)}):
            versions = {
                f"{chance.randrange(8)}.{chance.randrange(30)}.{chance.randrange(9)}" for _ in range(30)
            }
            languages += [_package(name, version, kind, f"pkg:{word}", "") for version in sorted(versions)]
    return Pools(systems, languages)


def _package(name: str, version: str, kind: str, prefix: str, release: str) -> Package:
    text = f"{kind} {name} {version} {release}"
    return Package(
        identity=hashlib.sha256(text.encode()).hexdigest(),
        name=name,
        version=version,
        source_name=name if release else "",
        source_version=version if release else "",
        kind=kind,
        os_release=release,
        purl=f"{prefix}/{name}@{version}",
    )


def _layers(
    pools: Pools, chance: random.Random, count: int, size: int
) -> list[tuple[str, tuple[Layer, Inventory]]]:
    releases = [chance.choice(sorted(pools.systems)) for _ in range(count)]
    stored = _stored([chance.sample(pools.systems[release], size) for release in releases])
    return list(zip(releases, stored, strict=True))


def _stored(contents: list[list[Package]]) -> Iterator[tuple[Layer, Inventory]]:
    first = Layer.objects.count()
    layers = Layer.objects.bulk_create(
        [Layer(diff_id=f"sha256:{number:064x}") for number in range(first, first + len(contents))]
    )
    inventories = Inventory.objects.bulk_create(
        [Inventory(content_hash=f"{layer.pk:064x}", layer=layer) for layer in layers]
    )
    InventoryPackage.objects.bulk_create(
        [
            InventoryPackage(inventory=inventory, package=package)
            for inventory, packages in zip(inventories, contents, strict=True)
            for package in packages
        ],
        batch_size=BATCH,
    )
    return iter(zip(layers, inventories, strict=True))


def _images(stacks: list[tuple[str, list[tuple[Layer, Inventory]]]]) -> None:
    images = Image.objects.bulk_create(
        [
            Image(
                image_id=f"sha256:{number:064x}",
                os_family=release.partition(" ")[0],
                os_name=release.partition(" ")[2],
                is_licensed=True,
            )
            for number, (release, _) in enumerate(stacks)
        ],
        batch_size=BATCH,
    )
    places = [
        (image, position, layer, inventory)
        for image, (_, stack) in zip(images, stacks, strict=True)
        for position, (layer, inventory) in enumerate(stack)
    ]
    ImageLayer.objects.bulk_create(
        [ImageLayer(image=image, position=position, layer=layer) for image, position, layer, _ in places],
        batch_size=BATCH,
    )
    holds = Inventory.images.through
    holds.objects.bulk_create(
        [holds(image_id=image.pk, inventory_id=inventory.pk) for image, _, _, inventory in places],
        batch_size=BATCH,
    )
    long_ago = timezone.now() - timedelta(days=30)
    scans = Scan.objects.bulk_create(
        [Scan(image=image, state=State.SUCCEEDED, finished_at=long_ago) for image in images], batch_size=BATCH
    )
    ScanCategory.objects.bulk_create(
        [
            ScanCategory(
                scan=scan,
                category=Category.VULNERABILITIES,
                state=CategoryState.SUCCEEDED,
                finished_at=long_ago,
            )
            for scan in scans
        ],
        batch_size=BATCH,
    )
