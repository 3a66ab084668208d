"""Images with real root file systems for benchmarks: Debian and PyPI packages, 24 applications on 6 bases.

The packages are fetched by name with `apt-get download` and `pip download`, once, into a folder that is kept.
"""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.registry import ACCOUNT, PASSWORD
from demo.blobs import BlobStore
from demo.catalog import (
    LONG_AGO,
    OCI_CONFIG,
    OCI_MANIFEST,
    Account,
    Artifact,
    Catalog,
    Project,
    Repository,
    Tag,
)

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
DEBIAN = ("base-files", "base-passwd", "bash", "coreutils", "dpkg", "apt", "login", "util-linux", "perl-base")
# What each base adds to Debian.
BASES = {
    "python": ("python3", "python3-venv"),
    "perl": ("perl", "git"),
    "java": ("openjdk-17-jre-headless",),
    "compiler": ("gcc", "make"),
    "web": ("nginx", "php-cli"),
    "tools": ("curl", "openssh-client", "postgresql-client", "imagemagick"),
}
# What the applications of every base bring: wheels, each set for one of them.
APPLICATIONS = (
    ("django==4.2.11", "requests==2.31.0", "pillow==10.2.0"),
    ("twisted==22.10.0", "flask==2.2.5", "jinja2==3.1.2"),
    ("tornado==6.4", "sqlalchemy==2.0.25", "pyyaml==6.0.1"),
    ("cryptography==41.0.7", "aiohttp==3.9.1", "lxml==5.1.0"),
)
_PLANTED = 'AWS_ACCESS_KEY_ID = "AKIA{0}"\nAWS_SECRET_ACCESS_KEY = "{1}"\n'

Filler = Callable[[tarfile.TarFile], None]


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """One layer in the store: its descriptor's values and its diff ID."""

    digest: str
    size: int
    diff_id: str


class RootFiles:
    """Makes layers of packages, each once, in a store that is kept between runs."""

    def __init__(self, directory: Path) -> None:
        self._packages = directory / "packages"
        self._made = directory / "layers"
        self._store = BlobStore(directory / "registry")
        for each in (self._packages, self._made):
            each.mkdir(parents=True, exist_ok=True)

    @property
    def store(self) -> BlobStore:
        """Where the blobs are."""
        return self._store

    def debian(self, names: Sequence[str], below: Sequence[str]) -> BuiltLayer:
        """The files of packages and all they depend on that are not in ``below``, with dpkg's own records."""
        return self._layer(("debian", *names, "over", *below), lambda tar: self._unpack(tar, names, below))

    def wheels(self, requirements: Sequence[str], name: str) -> BuiltLayer:
        """Wheels as pip installs them, and a settings file with a key in it that somebody forgot."""

        def fill(tar: tarfile.TarFile) -> None:
            target = self._packages / f"wheels-{_short(*requirements)}"
            if not target.exists():
                command = [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--target",
                    str(target),
                    "--no-deps",
                ]
                subprocess.run([*command, *requirements], check=True)
            for path in sorted(target.rglob("*")):
                if "__pycache__" not in path.parts:
                    tar.add(
                        path, f"usr/lib/python3/dist-packages/{path.relative_to(target)}", recursive=False
                    )
            key = hashlib.sha256(name.encode()).hexdigest().upper()
            _add(
                tar, f"srv/{name}/settings.py", _PLANTED.format(re.sub("[^A-Z2-7]", "Q", key[:16]), key[:40])
            )

        return self._layer(("wheels", *requirements, name), fill)

    def _layer(self, what: Sequence[str], fill: Filler) -> BuiltLayer:
        record = self._made / f"{_short(*what)}.json"
        if record.exists():
            return BuiltLayer(**json.loads(record.read_text()))
        raw = self._made / f"{record.stem}.tar"
        with tarfile.open(raw, "w") as tar:
            fill(tar)
        content = raw.read_bytes()
        raw.unlink()
        blob = gzip.compress(content, 6, mtime=0)
        layer = BuiltLayer(self._store.put(blob), len(blob), "sha256:" + hashlib.sha256(content).hexdigest())
        fields = {"digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id}
        record.write_text(json.dumps(fields))
        return layer

    def _unpack(self, tar: tarfile.TarFile, names: Sequence[str], below: Sequence[str]) -> None:
        there = set(_closure(below)) if below else set()
        status = "".join(_status(self._fetch(name)) for name in sorted(there))
        seen: set[str] = set()
        for name in _closure([*below, *names]):
            if name in there:
                continue
            package = self._fetch(name)
            status += _status(package)
            files = []
            with subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
            ) as unpacked:
                if unpacked.stdout is None:
                    raise RuntimeError("no output of dpkg-deb")
                with tarfile.open(fileobj=unpacked.stdout, mode="r|") as inside:
                    for member in inside:
                        files.append(member.name.removeprefix("."))
                        member.name = member.name.removeprefix("./")
                        if member.name in seen or member.name in ("", "."):
                            continue
                        seen.add(member.name)
                        tar.addfile(member, inside.extractfile(member) if member.isreg() else None)
            _add(tar, f"var/lib/dpkg/info/{name}.list", "\n".join(files) + "\n")
        _add(tar, "var/lib/dpkg/status", status)

    def _fetch(self, name: str) -> Path:
        found = sorted(self._packages.glob(f"{name}_*.deb"))
        if not found:
            subprocess.run(["apt-get", "download", "-qq", name], cwd=self._packages, check=True)
            found = sorted(self._packages.glob(f"{name}_*.deb"))
        return found[0]


def build(directory: Path, *, applications: int = len(APPLICATIONS)) -> tuple[BlobStore, Catalog]:
    """The registry's content: every base with so many applications on it."""
    files = RootFiles(directory)
    debian = files.debian(DEBIAN, ())
    repositories = []
    for base, packages in BASES.items():
        runtime = files.debian(packages, DEBIAN)
        for number, requirements in enumerate(APPLICATIONS[:applications]):
            name = f"{base}-{number}"
            layers = [debian, runtime, files.wheels(requirements, name)]
            repositories.append(Repository(name, (_artifact(files.store, name, layers),)))
    account = Account(ACCOUNT, PASSWORD, admin=True)
    return files.store, Catalog(projects=(Project("bench", tuple(repositories)),), accounts=(account,))


def _artifact(store: BlobStore, name: str, layers: Sequence[BuiltLayer]) -> Artifact:
    made = "2026-02-03T04:05:06Z"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": made,
        "config": {"Cmd": ["/bin/bash"], "Labels": {"org.opencontainers.image.title": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": made, "created_by": f"ADD {layer.digest} /"} for layer in layers],
    }
    content = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "size": len(content), "digest": store.put(content)},
        "layers": [{"mediaType": LAYER_TYPE, "size": layer.size, "digest": layer.digest} for layer in layers],
    }
    return Artifact(
        digest=store.put(json.dumps(manifest).encode()),
        media_type=OCI_CONFIG,
        manifest_media_type=OCI_MANIFEST,
        size=sum(layer.size for layer in layers) + len(content),
        extra_attrs={"architecture": "amd64", "os": "linux", "created": made, "author": ""},
        tags=(Tag("1.0", LONG_AGO),),
    )


def _closure(names: Sequence[str]) -> list[str]:
    """Packages and everything they depend on, by apt's lists."""
    refused = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{word}" for word in refused), *names]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {line for line in listed.splitlines() if re.fullmatch("[a-z0-9][a-z0-9.+-]+", line)}
    return sorted(found)


def _status(package: Path) -> str:
    fields = subprocess.run(
        ["dpkg-deb", "--field", str(package)], check=True, stdout=subprocess.PIPE, text=True
    )
    name, _, rest = fields.stdout.partition("\n")
    return f"{name}\nStatus: install ok installed\n{rest}\n"


def _add(tar: tarfile.TarFile, path: str, text: str) -> None:
    member = tarfile.TarInfo(path)
    content = text.encode()
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _short(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
