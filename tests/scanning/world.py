"""The demo registry's images as rows, read through the real pull client, without a data update."""

from collections.abc import Iterable
from dataclasses import dataclass

from demo.catalog import Artifact, Catalog
from demo.images import ROBOT
from demo.server import DemoServer
from images.models import ArtifactKind, Image, Manifest
from images.services import ReadManifest, record_manifests
from repositories.connections import pull_client
from repositories.credentials import Secret
from repositories.models import Registry, Repository, Tag
from repositories.registries.protocol import Kind

CONFIG_LIMIT = 2**20


@dataclass(frozen=True)
class World:
    """A demo server and what the console knows of it."""

    server: DemoServer
    registry: Registry

    def image(self, name: str) -> Image:
        """The image that `repository:tag` names."""
        repository, _, tag = name.rpartition(":")
        found = Tag.objects.get(registry=self.registry, repository_name=repository, name=tag).image
        assert found is not None
        return found

    def names(self) -> dict[str, Image]:
        """One `repository:tag` of every distinct image."""
        tags = Tag.objects.exclude(image=None).select_related("image").order_by("-pk")
        by_image = {tag.image_id: tag for tag in tags}
        return {f"{tag.repository_name}:{tag.name}": tag.image for tag in by_image.values() if tag.image}


def register(server: DemoServer, name: str = "demo") -> World:
    """Connect the server and make rows for every tagged image it holds, all of them licensed."""
    account = server.catalog.account(ROBOT)
    assert account is not None
    registry = Registry.objects.create(
        name=name, address=server.url, username=account.name, password=Secret.of(account.password)
    )
    for full_name, artifacts in _repositories(server.catalog):
        repository = Repository.objects.create(
            registry=registry, name=full_name, namespace=full_name.partition("/")[0]
        )
        for artifact in artifacts:
            _record(registry, repository, artifact)
    Image.objects.update(is_licensed=True)
    return World(server, registry)


def _repositories(catalog: Catalog) -> Iterable[tuple[str, tuple[Artifact, ...]]]:
    for project in catalog.projects:
        for repository in project.repositories:
            yield f"{project.name}/{repository.name}", repository.artifacts


def _record(registry: Registry, repository: Repository, artifact: Artifact) -> None:
    if artifact.type != "IMAGE" or not artifact.tags or artifact.tags[0].name.endswith(".sig"):
        return
    manifest = _read(registry, repository, artifact.digest)
    image = manifest.image
    if manifest.kind == ArtifactKind.INDEX:
        child = manifest.platforms.get(os="linux", architecture="amd64").manifest
        image = _read(registry, repository, child.digest).image
    for tag in artifact.tags:
        Tag.objects.create(
            registry=registry,
            repository=repository,
            repository_name=repository.name,
            name=tag.name,
            manifest=manifest,
            manifest_digest=manifest.digest,
            image=image,
            pushed_at=tag.push_time,
        )


def _read(registry: Registry, repository: Repository, digest: str) -> Manifest:
    client = pull_client(registry)
    body = client.get_manifest(repository.name, digest)
    for platform in body.platforms:
        Manifest.objects.get_or_create(digest=platform.digest, defaults={"kind": ArtifactKind.IMAGE})
    row, _ = Manifest.objects.get_or_create(digest=digest, defaults={"kind": ArtifactKind(body.kind)})
    config = b""
    if body.kind == Kind.IMAGE:
        config = client.read_blob(repository.name, body.config_digest, limit=CONFIG_LIMIT)
    record_manifests([ReadManifest(row, body, config)])
    row.refresh_from_db()
    return row
