"""The demo registry as a process and behind HTTPS, and its blob store on disk."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from demo.blobs import BlobMissingError, BlobStore
from demo.server import running
from tests.demo.small_registry import ask, content

ROOT = Path(__file__).resolve().parents[2]


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files


def test_speaks_https_with_the_certificate_it_is_given(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    with running(tmp_path, content(BlobStore(tmp_path)), certificate=files) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server, "/v2/", context=ssl.create_default_context())
        trusted = ask(server, "/v2/", context=ssl.create_default_context(cafile=str(files[0])))
        assert f'realm="{server.url}/service/token"' in trusted.headers["www-authenticate"]
        assert len(server.requests) == 1


@pytest.mark.parametrize(("face", "path"), [("harbor2", "/api/v2.0/projects"), ("harbor1", "/api/projects")])
def test_runs_as_a_process_that_says_where_it_listens(tmp_path: Path, face: str, path: str) -> None:
    announced = tmp_path / "address"
    command = [sys.executable, "-m", "demo.server", "--port", "0", "--face", face]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "data"), "--announce", str(announced)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        url = announced.read_text(encoding="utf-8")
        assert line == f"listening on {url}"
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        client.request("GET", path)
        assert [each["metadata"]["public"] for each in json.load(client.getresponse())] == ["true"]
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_sample_images_are_served_whole(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert len(server.catalog.projects) > 1
        repository = server.catalog.repository("library/debian")
        assert repository is not None
        digest = repository.artifacts[0].digest
        accept = {"Accept": repository.artifacts[0].manifest_media_type, "Authorization": "Bearer none"}
        manifest = ask(server, f"/v2/library/debian/manifests/{digest}", accept)
        assert "sha256:" + hashlib.sha256(manifest.body).hexdigest() == digest
        for layer in manifest.json()["layers"]:
            blob = ask(server, f"/v2/library/debian/blobs/{layer['digest']}", accept)
            assert len(blob.body) == layer["size"]


def test_blobs_are_kept_under_the_digest_of_their_bytes(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"content")
    assert digest == "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert store.read(digest) == b"content"
    assert (store.size(digest), store.digests(), digest in store) == (7, [digest], True)
    with store.open(digest) as file:
        assert file.read() == b"content"
    assert sorted(path.name for path in (tmp_path / "blobs" / "sha256").iterdir()) == [digest[7:]]


def test_a_missing_blob_and_a_bad_digest_are_told_apart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    missing = "sha256:" + "0" * 64
    for ask_for in (store.read, store.open, store.size):
        with pytest.raises(BlobMissingError):
            ask_for(missing)
    for bad in ("sha256:../../etc/passwd", "sha256:" + "0" * 63, "md5:0", ""):
        with pytest.raises(ValueError, match="not a SHA-256 digest"):
            store.path(bad)
        assert bad not in store
