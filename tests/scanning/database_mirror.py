"""A registry that carries the vulnerability database the way OCI mirrors do."""

import json
from pathlib import Path

from demo.blobs import BlobStore
from demo.catalog import OCI_MANIFEST, Account, Artifact, Catalog, Project, Repository, Tag


def mirrored(store: BlobStore, bundle: Path, reader: Account | None = None) -> Catalog:
    """A repository `mirror/trivy-db` whose tag 2 is the database; public unless a reader is given."""
    layer = {
        "mediaType": "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
        "digest": store.put(bundle.read_bytes()),
        "size": bundle.stat().st_size,
        "annotations": {"org.opencontainers.image.title": "db.tar.gz"},
    }
    config_type = "application/vnd.aquasec.trivy.config.v1+json"
    config = {"mediaType": config_type, "digest": store.put(b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    content = json.dumps(manifest).encode()
    artifact = Artifact(store.put(content), config_type, OCI_MANIFEST, len(content), tags=(Tag("2"),))
    project = Project("mirror", (Repository("trivy-db", (artifact,)),), public=reader is None)
    return Catalog(projects=(project,), accounts=(reader,) if reader else ())
