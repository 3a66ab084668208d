"""The sample images: the same bytes every time, true to their digests, and as varied as promised."""

import gzip
import json
import time

import pytest
import zstandard

from demo import images, recipes
from demo.blobs import BlobStore
from demo.layers import digest_of
from demo.plants import eicar, private_key


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return BlobStore(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def catalog(store):
    return images.build(store, operator_password="operator", robot_secret="robot")


def artifacts(catalog):
    for project in catalog.projects:
        for repository in project.repositories:
            for artifact in repository.artifacts:
                yield f"{project.name}/{repository.name}", artifact


def find(catalog, name, reference):
    return catalog.repository(name).find(reference)


def manifest(store, artifact):
    return json.loads(store.read(artifact.digest))


def config(store, artifact):
    return json.loads(store.read(manifest(store, artifact)["config"]["digest"]))


def image_id(store, artifact):
    return manifest(store, artifact)["config"]["digest"]


def raw(blob):
    if blob[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(blob)
    return gzip.decompress(blob)


def is_container(artifact):
    """Whether it is one platform's image: not an index, a chart, a signature or an attestation."""
    return artifact.media_type.endswith(("image.config.v1+json", "container.image.v1+json")) and (
        (artifact.extra_attrs or {}).get("architecture") not in ("", "unknown")
    )


def test_building_twice_gives_the_same_digests_and_blobs(tmp_path, store, catalog):
    other = BlobStore(tmp_path)
    again = images.build(other, operator_password="operator", robot_secret="robot")
    assert again == catalog
    assert other.digests() == store.digests()


def test_the_registry_is_built_in_less_than_five_seconds_and_twenty_megabytes(tmp_path):
    recipes.debian_12.cache_clear()
    recipes.python_slim.cache_clear()
    started = time.process_time()
    store = BlobStore(tmp_path)
    images.build(store)
    assert time.process_time() - started < 5
    assert sum(store.size(digest) for digest in store.digests()) < 20 * 2**20


def test_there_are_at_least_fourteen_different_images(store, catalog):
    ids = {image_id(store, artifact) for _, artifact in artifacts(catalog) if is_container(artifact)}
    assert len(ids) >= 14


def test_every_blob_but_the_damaged_one_matches_its_digest(store, catalog):
    gateway = find(catalog, "payments/gateway", "5.0.1")
    damaged = manifest(store, gateway)["layers"][-1]
    wrong = [digest for digest in store.digests() if digest_of(store.read(digest)) != digest]
    assert wrong == [damaged["digest"]]
    assert store.size(damaged["digest"]) == damaged["size"]


def test_every_manifest_names_blobs_that_are_there_with_their_size(store, catalog):
    for _, artifact in artifacts(catalog):
        document = manifest(store, artifact)
        named = [*document.get("manifests", ()), *document.get("layers", ())]
        named += [document["config"]] if "config" in document else []
        for descriptor in named:
            assert store.size(descriptor["digest"]) == descriptor["size"]


def test_every_artifacts_size_counts_manifest_config_layers_and_children(store, catalog):
    for _, artifact in artifacts(catalog):
        document = manifest(store, artifact)
        if "manifests" in document:
            holder = catalog.repository("library/nginx")
            inside = sum(holder.find(each["digest"]).size for each in document["manifests"])
        else:
            inside = document["config"]["size"] + sum(layer["size"] for layer in document["layers"])
        assert artifact.size == store.size(artifact.digest) + inside


def test_layers_uncompressed_match_the_diff_ids_of_the_config(store, catalog):
    for name, artifact in artifacts(catalog):
        if not is_container(artifact) or name == "payments/gateway":
            continue
        blobs = [store.read(layer["digest"]) for layer in manifest(store, artifact)["layers"]]
        assert [digest_of(raw(blob)) for blob in blobs] == config(store, artifact)["rootfs"]["diff_ids"]


def test_the_history_tells_of_every_layer(store, catalog):
    for _, artifact in artifacts(catalog):
        if is_container(artifact):
            document = config(store, artifact)
            steps = [step for step in document["history"] if not step.get("empty_layer")]
            assert len(steps) == len(document["rootfs"]["diff_ids"])
            assert all(step["created_by"] for step in document["history"])
            assert list(artifact.history) == document["history"]


def test_the_base_layer_is_shared_by_several_images(store, catalog):
    base = manifest(store, find(catalog, "library/debian", "12"))["layers"][0]["digest"]
    users = {
        image_id(store, artifact)
        for _, artifact in artifacts(catalog)
        if is_container(artifact) and manifest(store, artifact)["layers"][0]["digest"] == base
    }
    assert len(users) >= 7


def test_two_repositories_hold_one_image_id_under_two_manifests(store, catalog):
    one = find(catalog, "library/debian", "12")
    other = find(catalog, "platform/base/debian", "approved-2024q1")
    assert one.digest != other.digest
    assert image_id(store, one) == image_id(store, other)


def test_one_image_has_several_tags(catalog):
    assert {tag.name for tag in find(catalog, "library/debian", "bookworm").tags} == {
        "12",
        "12.5",
        "bookworm",
    }


def test_the_index_lists_two_platforms_and_an_attestation(store, catalog):
    index = find(catalog, "library/nginx", "1.24-alpine")
    platforms = [(each.platform.os, each.platform.architecture) for each in index.references]
    assert platforms == [("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown")]
    listed = [each["digest"] for each in manifest(store, index)["manifests"]]
    assert listed == [each.digest for each in index.references]


def test_signatures_and_charts_are_there_and_are_no_images(store, catalog):
    ledger = find(catalog, "payments/ledger", "1.8.2")
    (accessory,) = ledger.accessories
    assert accessory.type == "signature.cosign"
    assert find(catalog, "payments/ledger", accessory.digest) is not None
    batch = find(catalog, "payments/core/settlement", "0.9.4")
    old_style = find(catalog, "payments/core/settlement", batch.digest.replace(":", "-") + ".sig")
    assert "simplesigning" in manifest(store, old_style)["layers"][0]["mediaType"]
    chart = find(catalog, "platform/charts/shop", "1.6.0")
    assert chart.type == "CHART"
    assert "helm" in chart.media_type


def test_the_planted_credentials_and_the_test_virus_are_in_their_layers(store, catalog):
    api = manifest(store, find(catalog, "shop/api", "2.3.0"))["layers"][-1]
    assert private_key().encode() in raw(store.read(api["digest"]))
    legacy = manifest(store, find(catalog, "shop/legacy-cms", "2021.12"))["layers"][-1]
    assert eicar().encode() in raw(store.read(legacy["digest"]))
    assert len(eicar()) == 68


def test_everybody_may_see_the_public_project_only_and_the_accounts_may_see_all(catalog):
    assert [project.name for project in catalog.projects if project.public] == ["library"]
    for name in (images.OPERATOR, images.ROBOT):
        account = catalog.account(name)
        assert all(account.may("repository:pull", project.name) for project in catalog.projects)
        assert not account.admin


def test_passwords_are_made_up_anew_when_none_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("DEMO_OPERATOR_PASSWORD", raising=False)
    passwords = {images.build(BlobStore(tmp_path)).account(images.OPERATOR).password for _ in range(2)}
    assert len(passwords) == 2
    assert all(len(password) >= 12 for password in passwords)
    monkeypatch.setenv("DEMO_OPERATOR_PASSWORD", "chosen")
    assert images.build(BlobStore(tmp_path)).account(images.OPERATOR).password == "chosen"
