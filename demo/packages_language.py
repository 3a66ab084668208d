"""Installed packages of Python, Node.js, Go and Java as the files their tools leave behind."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping

from demo.layers import Entry, noise, program

BUILD_INFO_MAGIC = b"\xff Go buildinf:"
BUILD_INFO_START = bytes.fromhex("3077af0c9274080241e1c107e6d618e6")
BUILD_INFO_END = bytes.fromhex("f932433186182072008242104116d8f2")

JAR_TIME = (2024, 2, 13, 0, 0, 0)


def python_packages(versions: Mapping[str, str], site: str) -> dict[str, bytes | str | Entry]:
    """What pip writes for each distribution below `site`, a site-packages folder."""
    files: dict[str, bytes | str | Entry] = {}
    for name, version in versions.items():
        folder = f"{site}/{name.replace('-', '_')}-{version}.dist-info"
        module = name.replace("-", "_").lower()
        files[f"{folder}/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {name} for Python\n\n"
        )
        files[f"{folder}/INSTALLER"] = "pip\n"
        files[f"{folder}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files[f"{folder}/RECORD"] = f"{module}/__init__.py,,\n{folder.rpartition('/')[2]}/METADATA,,\n"
        files[f"{site}/{module}/__init__.py"] = f'__version__ = "{version}"\n'
    return files


def node_packages(versions: Mapping[str, str], folder: str) -> dict[str, bytes | str | Entry]:
    """What npm writes for each package below `folder`/node_modules; a name may hold a nested path."""
    files: dict[str, bytes | str | Entry] = {}
    for place, version in versions.items():
        name = place.rpartition("node_modules/")[2]
        manifest = {"name": name, "version": version, "license": "MIT", "main": "index.js"}
        files[f"{folder}/node_modules/{place}/package.json"] = json.dumps(manifest, indent=2) + "\n"
        files[f"{folder}/node_modules/{place}/index.js"] = "module.exports = {};\n"
    return files


def go_program(module: str, go_version: str, requirements: Mapping[str, str]) -> Entry:
    """A small ELF file carrying the build information of a Go program, as `go version -m` reads it.

    The layout of the section is that of Go 1.18 and later: magic, pointer size, a flag for inline
    strings, then two length-prefixed strings at offset 32.
    """
    lines = [f"path\t{module}", f"mod\t{module}\t(devel)\t"]
    lines += [f"dep\t{name}\t{version}\th1:{noise(name, 8).hex()}=" for name, version in requirements.items()]
    lines += ["build\t-compiler=gc", "build\tCGO_ENABLED=0", "build\tGOARCH=amd64", "build\tGOOS=linux"]
    text = BUILD_INFO_START + ("\n".join(lines) + "\n").encode() + BUILD_INFO_END
    header = BUILD_INFO_MAGIC + bytes([8, 2]) + bytes(16)
    return program(
        _elf(header + _counted(f"go{go_version}".encode()) + _counted(text), noise(module, 180_000))
    )


def _counted(text: bytes) -> bytes:
    """A string after its length as an unsigned varint."""
    length, prefix = len(text), bytearray()
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + text


def _elf(build_info: bytes, filler: bytes) -> bytes:
    """A 64-bit little-endian ELF with one loaded segment and the section `.go.buildinfo`."""
    names = b"\0.go.buildinfo\0.shstrtab\0"
    base, data_at = 0x400000, 0x1000
    data = build_info.ljust(-(-len(build_info) // 16) * 16, b"\0") + filler
    names_at = data_at + len(data)
    sections_at = -(-(names_at + len(names)) // 8) * 8
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + data_at, 64, sections_at, 0, 64, 56, 1, 64, 3, 2
    )
    segment = struct.pack(
        "<IIQQQQQQ", 1, 6, data_at, base + data_at, base + data_at, len(data), len(data), 0x1000
    )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 3, base + data_at, data_at, len(build_info), 0, 0, 16, 0)
    sections += struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return ((header + segment).ljust(data_at, b"\0") + data + names).ljust(sections_at, b"\0") + sections


def jar(coordinates: str, version: str, inside: Mapping[str, bytes] | None = None) -> bytes:
    """A jar of the Maven coordinates "group:artifact", with other files such as nested jars inside."""
    group, _, artifact = coordinates.partition(":")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        manifest = (
            f"Manifest-Version: 1.0\nImplementation-Title: {artifact}\nImplementation-Version: {version}\n"
        )
        properties = f"version={version}\ngroupId={group}\nartifactId={artifact}\n"
        _store(archive, "META-INF/MANIFEST.MF", manifest.encode())
        _store(archive, f"META-INF/maven/{group}/{artifact}/pom.properties", properties.encode())
        _store(archive, f"{group.replace('.', '/')}/package.class", noise(coordinates, 900))
        for name, content in (inside or {}).items():
            _store(archive, name, content)
    return buffer.getvalue()


def spring_boot_jar(coordinates: str, version: str, libraries: Mapping[str, str]) -> bytes:
    """A Spring Boot program: a jar that holds the jars it depends on under BOOT-INF/lib."""
    nested = {
        f"BOOT-INF/lib/{name.partition(':')[2]}-{number}.jar": jar(name, number)
        for name, number in libraries.items()
    }
    return jar(coordinates, version, nested)


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed time and system keep the archive's bytes the same on every run and every machine.
    member = zipfile.ZipInfo(name, JAR_TIME)
    member.create_system = 3
    archive.writestr(member, content)
