"""Reading image configs: what is kept, what is masked, and what nonsense does."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from images.config import ImageConfig, mask, parse_config
from images.models import ArtifactKind, Image, ImageLayer, Layer, Manifest, ManifestLayer
from images.services import record_manifest
from repositories.registries.protocol import Kind, LayerItem, ManifestBody

DIFF_IDS = [f"sha256:{number:064x}" for number in range(3)]


def config(**fields: object) -> bytes:
    body = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "created": "2024-05-01T10:00:00.123456789Z",
        "author": "somebody",
        "config": {"Labels": {"maintainer": "somebody"}, "Env": ["PASSWORD=canary"]},
        "rootfs": {"type": "layers", "diff_ids": DIFF_IDS},
        "history": [
            {"created": "2024-05-01T10:00:00Z", "created_by": "ADD file /"},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN make"},
            {"created_by": "COPY . ."},
        ],
        **fields,
    }
    return json.dumps(body).encode()


def test_a_config_is_read() -> None:
    read = parse_config(config())
    assert (read.os, read.architecture, read.variant, read.author) == ("linux", "arm64", "v8", "somebody")
    assert read.built_at == datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert read.diff_ids == tuple(DIFF_IDS)
    assert read.labels == (("maintainer", "somebody"),)
    assert read.instructions() == ["ADD file /", "RUN make", "COPY . ."]
    assert [entry["empty_layer"] for entry in read.history] == [False, True, False, False]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"7",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"rootfs":7,"history":"x","config":[]}',
    ],
)
def test_a_config_that_says_nothing_is_no_error(raw: bytes) -> None:
    assert parse_config(raw) == ImageConfig()


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"created": "0001-01-01T00:00:00Z"}, "built_at", None),
        ({"created": "9999-12-31T23:59:59-23:59"}, "built_at", None),
        ({"created": "yesterday"}, "built_at", None),
        ({"created": 7}, "built_at", None),
        ({"os": ["linux"]}, "os", ""),
        ({"os": "a\x00b\ud800"}, "os", "a\\x00b\\ud800"),
        ({"rootfs": {"diff_ids": [*DIFF_IDS, "sha256:../x"]}}, "diff_ids", ()),
    ],
)
def test_what_is_odd_is_left_out(fields: dict[str, object], name: str, value: object) -> None:
    assert getattr(parse_config(config(**fields)), name) == value


def test_a_huge_history_is_bounded() -> None:
    read = parse_config(config(history=[{"created_by": "x" * 100_000}] * 5000))
    assert len(read.history) == 1000
    assert all(len(str(entry["created_by"])) <= 4000 for entry in read.history)


@pytest.mark.parametrize(
    ("instruction", "shown"),
    [
        ("ENV DB_PASSWORD=hunter2", "ENV DB_PASSWORD=…"),
        (
            "/bin/sh -c #(nop)  ENV TOKEN=a TOKEN2='b c' T3=\"d e\"",
            "/bin/sh -c #(nop)  ENV TOKEN=… TOKEN2=… T3=…",
        ),
        ("ENV OLD secret words", "ENV OLD …"),
        ("ENV SPACED=a\\ b NEXT=c", "ENV SPACED=… NEXT=…"),
        ("ARG KEY=abc", "ARG KEY=…"),
        ("/bin/sh -c #(nop)  ENV KEY=two words NEXT=a", "/bin/sh -c #(nop)  ENV KEY=… NEXT=…"),
        ("ENV KEY=abc # buildkit", "ENV KEY=… # buildkit"),
        ("ENV PATH=/usr/bin:/bin", "ENV PATH=/usr/bin:/bin"),
        ("ENV PYTHON_VERSION=3.11.8", "ENV PYTHON_VERSION=3.11.8"),
        (
            "RUN |2 TOKEN=abc B=c /bin/sh -c make x=1 # buildkit",
            "RUN |2 TOKEN=… B=… /bin/sh -c make x=1 # buildkit",
        ),
        ("RUN make CFLAGS=-O2", "RUN make CFLAGS=-O2"),
    ],
)
def test_values_of_variables_and_arguments_are_masked(instruction: str, shown: str) -> None:
    assert mask(instruction) == shown


@pytest.mark.parametrize(
    "instruction",
    [
        'ENV KEY=ab"CANARY"cd',
        'ENV KEY="CANARY and no end',
        "ENV KEY='CANARY and no end",
        'ENV KEY="a \\" CANARY"',
        "ENV my/key=CANARY 1KEY=CANARY",
        "ENV KEY=\\\nCANARY",
        "ARG KEY=it's CANARY",
    ],
)
def test_no_way_of_quoting_shows_a_value(instruction: str) -> None:
    assert "CANARY" not in mask(instruction)


@pytest.mark.parametrize("word", ["a", "a.", "a=", 'A="\\', "A='", "\\", "ENV ", " "])
def test_masking_takes_time_in_proportion_to_the_text(word: str) -> None:
    crafted = config(history=[{"created_by": "ENV " + word * (16_000 // len(word))}] * 20)
    began = time.process_time()
    assert len(parse_config(crafted).history) == 20
    assert time.process_time() - began < 2


def body_of(config_digest: str, count: int = 3) -> ManifestBody:
    layers = tuple(LayerItem(f"sha256:{number + 50:064x}", 10, "gzip") for number in range(count))
    return ManifestBody("sha256:" + "d" * 64, "m", b"", Kind.IMAGE, "", config_digest, 7, "c", layers)


def manifest(number: int, kind: ArtifactKind = ArtifactKind.IMAGE) -> Manifest:
    return Manifest.objects.create(digest=f"sha256:{number + 1000:064x}", kind=kind)


@pytest.mark.django_db
def test_recording_twice_is_recording_once_and_layers_are_shared() -> None:
    first, again, other = manifest(1), manifest(2), manifest(3)
    image = record_manifest(first, body_of("sha256:" + "1" * 64), config())
    assert record_manifest(again, body_of("sha256:" + "1" * 64), config()) == image
    shorter = config(rootfs={"diff_ids": DIFF_IDS[:2]})
    record_manifest(other, body_of("sha256:" + "2" * 64, 2), shorter)

    assert image is not None
    assert (Image.objects.count(), Layer.objects.count(), ImageLayer.objects.count()) == (2, 3, 5)
    assert ManifestLayer.objects.count() == 8
    assert image.size == 30
    stored = Image.objects.get(pk=image.pk)
    assert "canary" not in str(vars(stored))
    made = stored.image_layers.order_by("position").values_list("layer__diff_id", "created_by")
    assert list(made) == list(zip(DIFF_IDS, ["ADD file /", "RUN make", "COPY . ."], strict=True))


@pytest.mark.django_db
def test_a_signature_in_the_form_of_an_image_is_no_image() -> None:
    signature = manifest(1)
    body = replace(body_of("sha256:" + "1" * 64), kind=Kind.SIGNATURE)
    assert record_manifest(signature, body, config()) is None
    signature.refresh_from_db()
    assert (signature.kind, signature.is_read) == (ArtifactKind.SIGNATURE, True)
    assert not Image.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("listed", [ArtifactKind.SIGNATURE, ArtifactKind.OTHER, ArtifactKind.CHART])
def test_an_image_that_was_listed_as_something_else_is_an_image(listed: ArtifactKind) -> None:
    hidden = manifest(1, listed)
    image = record_manifest(hidden, body_of("sha256:" + "1" * 64), config())
    hidden.refresh_from_db()
    assert (hidden.kind, hidden.image) == (ArtifactKind.IMAGE, image)
    assert image is not None
