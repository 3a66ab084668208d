"""What later layers hide: noted once for each layer, and said of what was found below them."""

import io
import tarfile
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from images.models import CategoryStatus, Image, ImageLayer, Layer
from scanning import whiteouts
from scanning.engine_models import LayerWhiteout
from scanning.findings import malware_of, secrets_of
from scanning.models import MalwareFinding, SecretFinding
from scanning.whiteouts import deleted_in, record

pytestmark = pytest.mark.django_db


def make_image(number: int, *layers: Layer) -> Image:
    image = Image.objects.create(image_id=f"sha256:{number:064x}")
    for position, layer in enumerate(layers):
        ImageLayer.objects.create(image=image, position=position, layer=layer)
    return image


@pytest.fixture
def layer(tmp_path: Path):
    """Makes a layer whose archive has these members, and notes what it hides."""

    def make(*names: str, damage: bytes = b"") -> Layer:
        number = Layer.objects.count() + 1
        made = Layer.objects.create(diff_id=f"sha256:{number:064x}")
        path = tmp_path / f"{number}.tar"
        path.write_bytes(archive(*names) + damage)
        record(made.pk, path, lambda: None)
        return made

    return make


def archive(*names: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return target.getvalue()


def noted(layer: Layer) -> set[tuple[str, bool]]:
    return set(LayerWhiteout.objects.filter(layer=layer).values_list("path", "is_opaque"))


def test_a_layers_whiteouts_are_noted_and_its_files_are_not(layer) -> None:
    made = layer("etc/key", "srv/.wh.env", "./var//.wh..wh..opq", ".wh.tmp", "x/.wh..")
    assert noted(made) == {("srv/env", False), ("var", True), ("tmp", False)}


def test_a_layer_is_noted_once(layer, tmp_path: Path) -> None:
    made = layer(".wh.a")
    (tmp_path / "other.tar").write_bytes(archive(".wh.b"))
    record(made.pk, tmp_path / "other.tar", lambda: None)
    assert noted(made) == {("a", False)}


def test_a_layer_that_hides_very_much_is_noted_in_part(layer, monkeypatch) -> None:
    monkeypatch.setattr(whiteouts, "MAX_WHITEOUTS", 10)
    assert len(noted(layer(*(f".wh.{number}" for number in range(30))))) == 10


def test_what_stands_before_damage_is_noted(tmp_path: Path) -> None:
    made = Layer.objects.create(diff_id="sha256:1")
    path = tmp_path / "damaged.tar"
    path.write_bytes(archive(".wh.a", "b")[:1_600] + b"damage" * 400)
    record(made.pk, path, lambda: None)
    assert noted(made) == {("a", False)}


def test_a_cancelled_scan_notes_nothing(tmp_path: Path) -> None:
    made = Layer.objects.create(diff_id="sha256:1")
    (tmp_path / "layer.tar").write_bytes(archive(".wh.a"))

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        record(made.pk, tmp_path / "layer.tar", cancelled)
    assert not noted(made)


@pytest.mark.parametrize(
    ("whiteout", "is_deleted"),
    [
        ("srv/app/.wh.env", True),
        ("srv/.wh.app", True),
        (".wh.srv", True),
        ("srv/app/.wh..wh..opq", True),
        ("srv/.wh..wh..opq", True),
        (".wh..wh..opq", True),
        ("srv/app/env/.wh..wh..opq", False),
        ("srv/app/.wh.en", False),
        ("srv/app/.wh.env2", False),
        ("app/.wh.env", False),
        ("srv/app/env", False),
    ],
)
def test_a_path_is_hidden_by_itself_or_by_what_is_above_it(layer, whiteout, is_deleted) -> None:
    base, upper = layer("srv/app/env"), layer(whiteout)
    image = make_image(1, base, upper)
    for path in ("srv/app/env", "/srv/app/env"):
        expected = {(base.pk, path): 2} if is_deleted else {}
        assert deleted_in(image, [(base.pk, path)]) == expected


def test_only_a_later_layer_of_the_same_image_hides(layer) -> None:
    base, upper = layer("a"), layer(".wh.a", "a")
    spots = [(base.pk, "a"), (upper.pk, "a")]
    assert deleted_in(make_image(1, base, upper), spots) == {(base.pk, "a"): 2}
    assert deleted_in(make_image(2, upper, base), spots) == {}
    assert deleted_in(make_image(3, base), spots) == {}
    assert deleted_in(make_image(4, base, upper, base), spots) == {}
    assert deleted_in(make_image(5, base, upper, base, upper), spots) == {(base.pk, "a"): 4}


def test_a_page_of_findings_costs_two_queries(layer) -> None:
    base = layer("a")
    image = make_image(1, base, layer(".wh.a"))
    with CaptureQueriesContext(connection) as queries:
        assert len(deleted_in(image, [(base.pk, "a"), *((base.pk, f"b/{each}") for each in range(50))])) == 1
    assert len(queries) == 2
    with CaptureQueriesContext(connection) as queries:
        assert deleted_in(image, []) == {}
    assert len(queries) == 0
    with CaptureQueriesContext(connection) as queries:
        assert deleted_in(image, [(base.pk, "b")]) == {}
    assert len(queries) == 1


def test_a_finding_says_which_layer_deletes_its_file(layer) -> None:
    base, upper = layer("srv/env", "srv/key"), layer("other")
    last = layer("srv/.wh.env")
    image = make_image(1, base, upper, last)
    fields = {"sensitive_status": CategoryStatus.SCANNED, "malware_status": CategoryStatus.SCANNED}
    Image.objects.filter(pk=image.pk).update(**fields)
    image.refresh_from_db()
    for path in ("srv/env", "srv/key"):
        SecretFinding.objects.create(layer=base, fingerprint=path, title="Key", rule_id="k", path=f"/{path}")
        MalwareFinding.objects.create(layer=base, fingerprint=path, signature="EICAR", kind="test", path=path)
    SecretFinding.objects.create(image=image, fingerprint="ENV", title="Key", rule_id="k", path="ENV KEY")
    assert [(row.path, row.deleted_in) for row in malware_of(image)] == [("srv/env", 3), ("srv/key", 0)]
    found = {row.path: row.deleted_in for row in secrets_of(image)}
    assert found == {"/srv/env": 3, "/srv/key": 0, "ENV KEY": 0}
