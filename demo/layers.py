"""Layers and image configs as bytes: deterministic tar archives, their compressed blobs, their histories."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

import zstandard

Compression = Literal["gzip", "zstd"]

LAYER_TIME = datetime(2024, 2, 13, tzinfo=UTC)
"""Every file's modification time, so that the same files always make the same layer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a layer; a `link` makes it a symbolic link to that target."""

    content: bytes = b""
    mode: int = 0o644
    link: str = ""


Tree = Mapping[str, "bytes | str | Entry"]
"""Paths, without a leading slash, and what stands there; text is stored as UTF-8."""


def program(content: bytes) -> Entry:
    """A file that may be executed."""
    return Entry(content, mode=0o755)


def noise(name: str, size: int) -> bytes:
    """Bytes that do not compress and are always the same for a name: the bulk of a library or a program."""
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass(frozen=True)
class Layer:
    """One layer: its files, the instruction that made it, and how its blob is compressed.

    For a `damaged` layer the registry hands out other bytes than its digest promises, as after a disk fault.
    """

    files: Tree
    created_by: str
    compression: Compression = "gzip"
    damaged: bool = False

    @cached_property
    def archive(self) -> bytes:
        """The uncompressed tar archive."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(_with_parents(self.files)):
                _add(tar, path, self.files.get(path))
        return buffer.getvalue()

    @cached_property
    def diff_id(self) -> str:
        """The digest of the uncompressed archive."""
        return digest_of(self.archive)

    @cached_property
    def blob(self) -> bytes:
        """The compressed archive."""
        if self.compression == "zstd":
            return zstandard.ZstdCompressor(level=3).compress(self.archive)
        return gzip.compress(self.archive, compresslevel=6, mtime=0)

    @cached_property
    def digest(self) -> str:
        """The digest of the compressed archive."""
        return digest_of(self.blob)

    @property
    def stored(self) -> bytes:
        """What the registry hands out: the blob, or for a damaged layer as many bytes, some of them wrong."""
        if not self.damaged:
            return self.blob
        middle = len(self.blob) // 2
        return (
            self.blob[:middle]
            + bytes(byte ^ 0x5A for byte in self.blob[middle : middle + 64])
            + self.blob[middle + 64 :]
        )


@dataclass(frozen=True)
class Image:
    """One platform's image: its layers from the base up, and what its config says.

    `instructions` are the steps after the last layer that change no file. `base_steps` likewise stand
    between the first `base_depth` layers and the rest, as when a base image ended in its own `CMD`.
    """

    layers: tuple[Layer, ...]
    created: datetime
    architecture: str = "amd64"
    variant: str = ""
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    working_directory: str = ""
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    base_depth: int = 0
    base_steps: tuple[str, ...] = ()
    author: str = ""

    @cached_property
    def history(self) -> tuple[Mapping[str, object], ...]:
        """The config's history: one entry for each instruction, in the order of the build."""
        when = timestamp(self.created)
        entries: list[Mapping[str, object]] = []
        for position, layer in enumerate(self.layers):
            if self.base_depth and position == self.base_depth:
                entries += [_empty_step(step, when) for step in self.base_steps]
            entries.append(
                {"created": when, "created_by": layer.created_by, "comment": "buildkit.dockerfile.v0"}
            )
        return (*entries, *(_empty_step(step, when) for step in self.instructions))

    @cached_property
    def runtime(self) -> Mapping[str, object]:
        """The `config` part of the config: what a container starts with."""
        runtime: dict[str, object] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.ports},
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *self.environment],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "WorkingDir": self.working_directory,
            "Labels": dict(self.labels),
        }
        return {key: value for key, value in runtime.items() if value}

    @cached_property
    def config(self) -> bytes:
        """The config blob, whose digest is the image ID."""
        config: dict[str, object] = {
            "architecture": self.architecture,
            "config": self.runtime,
            "created": timestamp(self.created),
            "history": self.history,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        }
        if self.variant:
            config["variant"] = self.variant
        if self.author:
            config["author"] = self.author
        return canonical(config)


def digest_of(content: bytes) -> str:
    """The SHA-256 digest of bytes, as registries write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical(document: object) -> bytes:
    """A JSON document as bytes that depend on its content only."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def timestamp(moment: datetime) -> str:
    """A moment as image configs write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _empty_step(instruction: str, when: str) -> Mapping[str, object]:
    return {
        "created": when,
        "created_by": instruction,
        "comment": "buildkit.dockerfile.v0",
        "empty_layer": True,
    }


def _with_parents(files: Tree) -> Sequence[str]:
    paths = set(files)
    for path in files:
        parts = path.split("/")
        paths.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return list(paths)


def _add(tar: tarfile.TarFile, path: str, content: bytes | str | Entry | None) -> None:
    member = tarfile.TarInfo(path)
    member.mtime = int(LAYER_TIME.timestamp())
    member.uname = member.gname = "root"
    if content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        return
    entry = (
        content
        if isinstance(content, Entry)
        else Entry(content.encode() if isinstance(content, str) else content)
    )
    if entry.link:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(member)
        return
    member.mode, member.size = entry.mode, len(entry.content)
    tar.addfile(member, io.BytesIO(entry.content))
