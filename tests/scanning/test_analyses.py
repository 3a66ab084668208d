"""Layers are looked at once: for every image, in whatever order, and for whatever worker."""

import json
import shutil
import tarfile
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from images.models import Image, Layer, LayerBlob, ManifestLayer
from scanning import analyses, examination, installed, pipeline
from scanning.engine_models import LayerAnalysis, MatchRun
from scanning.engines.protocol import EngineCrash, ImageMalformed
from scanning.engines.trivy import Trivy
from scanning.engines.trivy_cache import Analysis
from scanning.engines.trivy_report import MASK
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from scanning.models import (
    Category,
    Inventory,
    Match,
    Package,
    Scan,
    ScanCategory,
    SecretFinding,
    TaskTrigger,
)
from scanning.pulling import Pulled
from scanning.services import request_scan
from tcss.lifecycle import CancelRequestedError, State
from tests.scanning.blobs import FakePulse, digest, tar
from tests.scanning.by_hand import shown
from tests.scanning.world import World

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)
API, WEB, DEBIAN = "shop/api:2.3.0", "shop/web:1.1.0", "library/debian:12"
# They share layers, and hold packages of several kinds and sensitive data.
SOME = (DEBIAN, WEB, API, "library/python:3.11-slim", "shop/front:3.2.0", "library/alpine:3.18")
ENGINE = "trivy 0.0.0 options"


def scanned(world: World, name: str) -> Scan:
    image = world.image(name)
    request_scan([image.pk], BOTH, TaskTrigger.MANUAL, None, name)
    scan = Scan.objects.filter(image=image).latest("pk")
    while Scan.objects.active().filter(pk=scan.pk).exists():
        pipeline.run(scan.pk)
    scan.refresh_from_db()
    return scan


def found(image: Image) -> tuple[Counter[tuple[str, ...]], set[Any], set[Any], str]:
    """All that is known of an image: vulnerabilities, packages with their places, sensitive data, system."""
    image.refresh_from_db()
    packages = image.inventories.values_list("layer__diff_id", "entries__package__identity", "entries__path")
    layers = image.image_layers.values("layer")
    secrets = SecretFinding.objects.filter(layer__in=layers) | SecretFinding.objects.filter(image=image)
    return (
        shown(image),
        set(packages),
        set(secrets.values_list("layer__diff_id", "fingerprint")),
        f"{image.os_family} {image.os_name} {image.os_end_of_life}",
    )


def pulled_blobs(world: World) -> list[str]:
    """Digests of layers that were asked for, in order."""
    layers = set(ManifestLayer.objects.values_list("blob_digest", flat=True))
    asked = [seen.path.rpartition("/")[2] for seen in world.server.requests if "/blobs/" in seen.path]
    return [each for each in asked if each in layers]


def forget_blobs(data_dir: Path) -> None:
    """As on another host: nothing was pulled here yet."""
    shutil.rmtree(data_dir / "blobs")


def diff_ids(world: World, name: str) -> set[str]:
    return set(world.image(name).image_layers.values_list("layer__diff_id", flat=True))


class Pulse(FakePulse):
    """A heartbeat that never ends the work."""

    def seconds_left(self) -> float:
        return 60

    def keep_going(self) -> bool:
        return True


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The layers whose content each run of the engine was given."""
    seen: list[set[str]] = []
    real = Trivy.scan_layout

    def scan_layout(self: Trivy, layout: Path, **options: Any) -> object:
        names = {f"sha256:{blob.name}" for blob in (layout / "blobs" / "sha256").iterdir()}
        seen.append(names & set(Layer.objects.values_list("diff_id", flat=True)))
        return real(self, layout, **options)

    monkeypatch.setattr(Trivy, "scan_layout", scan_layout)
    return seen


def test_every_layer_is_looked_at_once_for_all_images_and_hosts(
    world: World, database: object, data_dir: Path, looked_at: list[set[str]]
) -> None:
    for name in SOME:
        assert scanned(world, name).state == State.SUCCEEDED
        forget_blobs(data_dir)
    counts = Counter(diff_id for run in looked_at for diff_id in run)
    every = set().union(*(diff_ids(world, name) for name in SOME))
    assert counts == dict.fromkeys(every, 1)
    assert set(LayerAnalysis.objects.values_list("layer__diff_id", flat=True)) == every
    assert set(Counter(pulled_blobs(world)).values()) == {1}
    assert len(pulled_blobs(world)) == len(every) == LayerBlob.objects.count()
    assert not Layer.objects.filter(diff_id__in=every, size=0).exists()


def test_the_order_in_which_images_are_scanned_changes_nothing(world: World, database: object) -> None:
    for name in SOME:
        scanned(world, name)
    forth = {name: found(world.image(name)) for name in SOME}
    for rows in (Scan, Match, SecretFinding, Inventory, Package, LayerAnalysis):
        rows.objects.all().delete()
    Image.objects.update(inventory_engine="")
    for name in reversed(SOME):
        scanned(world, name)
    for name in SOME:
        assert found(world.image(name)) == forth[name], name
    assert sum(len(secrets) for _, _, secrets, _ in forth.values()) > 0


def test_with_another_database_a_known_image_is_matched_anew_and_nothing_is_pulled(
    world: World, database: object, data_dir: Path, looked_at: list[set[str]]
) -> None:
    database_folder = data_dir / "vulnerability-db"
    without = data_dir / "away"
    database_folder.rename(without)
    scanned(world, API)
    assert found(world.image(API))[0] == Counter()
    pulled = pulled_blobs(world)
    secrets = found(world.image(API))[2]
    without.rename(database_folder)
    forget_blobs(data_dir)
    assert scanned(world, API).state == State.SUCCEEDED
    assert looked_at[1:] == [set()]
    assert pulled_blobs(world) == pulled
    assert found(world.image(API))[0].total() == world.image(API).vulnerability_count > 0
    assert found(world.image(API))[2] == secrets != set()


def test_a_known_image_is_neither_pulled_nor_looked_at_while_the_database_is_the_same(
    world: World, database: object, looked_at: list[set[str]]
) -> None:
    first = scanned(world, API)
    before, asked = found(world.image(API)), len(world.server.requests)
    again = scanned(world, API)
    assert (again.pk > first.pk, again.state, again.progress) == (True, State.SUCCEEDED, 100)
    assert len(looked_at) == 1
    assert len(world.server.requests) == asked
    assert found(world.image(API)) == before
    ends = [
        list(
            scan.categories.order_by("category").values_list(
                "category", "state", "engine_version", "database_version", "finding_count"
            )
        )
        for scan in (first, again)
    ]
    assert ends[0] == ends[1]
    assert world.image(API).inventory_engine == installed.content_engine_key()


def test_a_known_image_is_looked_at_again_only_where_its_packages_were_not_matched_with_the_database(
    world: World, database: VulnerabilityDatabase, looked_at: list[set[str]]
) -> None:
    scanned(world, DEBIAN)
    current = database.current()
    assert current is not None
    ends = ScanCategory.objects.filter(category=Category.VULNERABILITIES)
    run = MatchRun.objects.create(state=State.SUCCEEDED, database_version=current.label, started_at=Now())
    for label, started, runs in (
        (current.label, Now(), 1),
        ("an older one", Now(), 1),
        # Its packages were saved after the matching had begun.
        ("an older one", timezone.now() - timedelta(hours=1), 2),
    ):
        ends.update(database_version=label)
        MatchRun.objects.filter(pk=run.pk).update(started_at=started)
        assert scanned(world, DEBIAN).state == State.SUCCEEDED
        assert len(looked_at) == runs
        assert ends.latest("pk").database_version == current.label
    MatchRun.objects.update(database_version="another")
    scanned(world, DEBIAN)
    assert len(looked_at) == 3


def test_an_image_whose_sensitive_data_was_never_asked_for_is_looked_at_for_it(
    world: World, database: object, looked_at: list[set[str]]
) -> None:
    image = world.image(API)
    request_scan([image.pk], [Category.VULNERABILITIES], TaskTrigger.MANUAL, None, API)
    pipeline.run(Scan.objects.get().pk)
    assert found(image)[2] == set()
    scanned(world, API)
    assert looked_at[1:] == [set()]
    assert found(image)[2] != set()


def test_a_forged_diff_id_poisons_nothing(world: World, database: object) -> None:
    scanned(world, DEBIAN)
    before, kept = found(world.image(DEBIAN)), list(LayerAnalysis.objects.values_list("pk", "content"))
    (base,) = diff_ids(world, DEBIAN) & diff_ids(world, API)
    # Another layer's blob, which the image's config gives the diff ID of the base.
    position = world.image(API).image_layers.get(layer__diff_id=base).position
    ends = ManifestLayer.objects.filter(manifest__image=world.image(API))
    other = ends.exclude(position=position).latest("position")
    ends.filter(position=position).update(blob_digest=other.blob_digest, size=other.size)
    scan = scanned(world, API)
    assert (scan.state, scan.error_code) == (State.FAILED, "IMG_DIGEST")
    assert not LayerBlob.objects.filter(layer__diff_id=base, blob_digest=other.blob_digest).exists()
    assert list(LayerAnalysis.objects.values_list("pk", "content")) == kept
    Scan.objects.filter(image=world.image(DEBIAN)).delete()
    assert scanned(world, DEBIAN).state == State.SUCCEEDED
    assert found(world.image(DEBIAN)) == before


def test_no_part_of_a_secret_is_kept_with_an_analysis(world: World, database: object) -> None:
    scanned(world, API)
    findings = [
        finding
        for row in LayerAnalysis.objects.all()
        for file in json.loads(zlib.decompress(bytes(row.content)).partition(b"\n")[2]).get("Secrets") or []
        for finding in file["Findings"]
    ]
    assert findings
    assert all(finding["Match"].endswith(MASK) and "Code" not in finding for finding in findings)


def write_layers(folder: Path, **contents: bytes) -> list[tuple[str, Path]]:
    layers = []
    for name, content in contents.items():
        path = folder / f"{name}.tar"
        path.write_bytes(content)
        Layer.objects.create(diff_id=digest(content))
        layers.append((digest(content), path))
    return layers


def examined(work: Path, layers: list[tuple[str, Path]]) -> examination.Examined:
    pulled = Pulled(b"{}", tuple(layers), 0, tuple(diff_id for diff_id, _ in layers))
    return examination.examine(pulled, {}, work, Pulse())  # type: ignore[arg-type]


GOOD = tar(**{"etc__alpine-release": b"3.18.2\n"})
BROKEN = b"this is no tar archive" * 500


@pytest.mark.django_db
@pytest.mark.parametrize("names", [("bad",), ("good", "bad"), ("bad", "good"), ("good", "other", "bad")])
def test_the_layer_that_cannot_be_looked_at_is_named(
    data_dir: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    contents = {"good": GOOD, "bad": BROKEN, "other": tar(etc__motd=b"hello")}
    layers = write_layers(tmp_path, **{name: contents[name] for name in names})
    with pytest.raises(ImageMalformed) as error:
        examined(tmp_path / "work", layers)
    assert error.value.reason.startswith(f"Layer {names.index('bad') + 1}, {digest(BROKEN)}: ")
    kept = set(LayerAnalysis.objects.values_list("layer__diff_id", flat=True))
    assert kept == {digest(contents[name]) for name in names[: names.index("bad")]}


@pytest.mark.django_db
def test_an_engine_that_fails_over_everything_blames_no_layer(
    data_dir: Path, tmp_path: Path, settings: Settings
) -> None:
    engine = tmp_path / "trivy"
    engine.write_text("#!/bin/sh\nexit 3\n")
    engine.chmod(0o755)
    settings.TRIVY_BINARY = str(engine)
    with pytest.raises(EngineCrash) as error:
        examined(tmp_path / "work", write_layers(tmp_path, good=GOOD))
    assert error.value.reason == "The scan engine failed with exit code 3."


@pytest.mark.django_db
def test_layers_that_are_too_much_together_are_looked_at_one_by_one(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trivy.scan_layout

    def scan_layout(self: Trivy, layout: Path, **options: Any) -> object:
        layers = [blob for blob in (layout / "blobs" / "sha256").iterdir() if tarfile.is_tarfile(blob)]
        if len(layers) > 1:
            raise EngineCrash("Too much.", "Give it less.")
        return real(self, layout, **options)

    monkeypatch.setattr(Trivy, "scan_layout", scan_layout)
    layers = write_layers(tmp_path, good=GOOD, other=tar(etc__motd=b"hello"))
    assert examined(tmp_path / "work", layers).report.os_family == "alpine"
    assert LayerAnalysis.objects.count() == len(layers)


@contextmanager
def held_elsewhere(diff_id: str) -> Iterator[threading.Event]:
    """Another worker looks at the layer until the event is set."""
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with analyses.alone(ENGINE, [diff_id], FakePulse()):
                begun.set()
                done.wait(30)
                analyses.save(ENGINE, Analysis(diff_id, "key", b"{}"))
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    yield done
    done.set()
    thread.join(30)


class Ending(FakePulse):
    """Ends the other worker's look as soon as somebody waits for it."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    def wait(self, seconds: float) -> None:
        self.event.set()
        super().wait(seconds)


def test_a_worker_waits_for_another_that_looks_at_the_same_layer(transactional_db: None) -> None:
    layer = Layer.objects.create(diff_id=digest(GOOD))
    with held_elsewhere(layer.diff_id) as done:
        pulse = Ending(done)
        with analyses.alone(ENGINE, [layer.diff_id, digest(b"mine")], pulse):
            assert analyses.load(ENGINE, [layer.diff_id])
        assert pulse.checks


def test_a_worker_that_has_waited_long_goes_on_and_one_that_is_cancelled_stops(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyses, "WAIT_SECONDS", 0.05)
    layer = Layer.objects.create(diff_id=digest(GOOD))

    class Cancelled(FakePulse):
        def wait(self, seconds: float) -> None:
            raise CancelRequestedError

    with held_elsewhere(layer.diff_id):
        with analyses.alone(ENGINE, [layer.diff_id], FakePulse()):
            assert analyses.load(ENGINE, [layer.diff_id]) == {}
        monkeypatch.setattr(analyses, "WAIT_SECONDS", 30)
        with pytest.raises(CancelRequestedError), analyses.alone(ENGINE, [layer.diff_id], Cancelled()):
            pytest.fail("it did not wait")


@pytest.mark.django_db
def test_what_is_kept_comes_back_and_damage_is_as_if_it_were_not_there() -> None:
    Layer.objects.create(diff_id="sha256:a")
    analysis = Analysis("sha256:a", "sha256:key", b'{"DiffID": "sha256:a"}\n')
    analyses.save(ENGINE, analysis)
    assert analyses.load(ENGINE, ["sha256:a", "sha256:b"]) == {"sha256:a": analysis}
    assert analyses.load("trivy 0.0.1 options", ["sha256:a"]) == {}
    LayerAnalysis.objects.update(content=b"damaged")
    assert analyses.load(ENGINE, ["sha256:a"]) == {}
    analyses.save(ENGINE, analysis)
    assert analyses.load(ENGINE, ["sha256:a"]) == {"sha256:a": analysis}


@pytest.mark.django_db
def test_what_no_image_needs_is_forgotten_sooner_where_a_newer_engine_took_over() -> None:
    today = timezone.localdate()
    for name, days in (("used", 89), ("unused", 91), ("replaced", 15), ("renewed", 15), ("recent", 13)):
        Layer.objects.create(diff_id=name)
        analyses.save("old", Analysis(name, "key", b"{}"))
        LayerAnalysis.objects.filter(layer__diff_id=name).update(used_on=today - timedelta(days=days))
    for name in ("replaced", "renewed", "recent"):
        analyses.save("new", Analysis(name, "key", b"{}"))
    analyses.note_use("old", ["renewed"])
    assert analyses.forget() == 2
    left = LayerAnalysis.objects.filter(engine="old").values_list("layer__diff_id", flat=True)
    assert set(left) == {"used", "renewed", "recent"}
    assert LayerAnalysis.objects.filter(engine="new").count() == 3
