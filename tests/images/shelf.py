"""A shelf of image versions for the tests of the pages: registries, tags and images without a network."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from images.models import ArtifactKind, Image, Manifest
from repositories.credentials import Secret
from repositories.models import Registry, RegistryKind, Repository, Tag

START = timezone.now().replace(microsecond=0) - timedelta(days=30)


def digest(word: str) -> str:
    return "sha256:" + hashlib.sha256(word.encode()).hexdigest()


def registry(name: str = "main", *, kind: str = RegistryKind.HARBOR) -> Registry:
    return Registry.objects.create(
        name=name,
        kind=kind,
        address=f"https://{name}.example.org",
        username="robot",
        password=Secret.of("secret"),
        last_synced_at=timezone.now(),
    )


def image(word: str, **columns: Any) -> Image:
    fields = {"os": "linux", "architecture": "amd64", "size": 1000, **columns}
    return Image.objects.create(image_id=digest(f"image {word}"), **fields)


def tag(
    where: Registry,
    name: str,
    *,
    repository: str = "shop/api",
    content: Image | None = None,
    kind: str = ArtifactKind.IMAGE,
    pushed_at: datetime | None = None,
    **columns: Any,
) -> Tag:
    repositories = Repository.objects.get_or_create(
        registry=where, name=repository, defaults={"namespace": repository.partition("/")[0]}
    )
    manifest = Manifest.objects.create(
        digest=digest(f"{where.name}/{repository}:{name}"), kind=kind, image=content
    )
    return Tag.objects.create(
        registry=where,
        repository=repositories[0],
        repository_name=repository,
        name=name,
        manifest=manifest,
        manifest_digest=manifest.digest,
        image=content,
        pushed_at=pushed_at or START,
        **columns,
    )
