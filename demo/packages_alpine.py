"""Alpine packages as apk records them, at the versions of Alpine 3.18 and 3.19 when they were new."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from demo.layers import Entry, noise, program

ALPINE_3_18 = """
alpine-baselayout 3.4.3-r1
alpine-baselayout-data 3.4.3-r1 alpine-baselayout
alpine-keys 2.4-r1
apk-tools 2.14.0-r2
busybox 1.36.1-r0
busybox-binsh 1.36.1-r0 busybox
ca-certificates-bundle 20230506-r0 ca-certificates
libc-utils 0.7.2-r5 libc-dev
libcrypto3 3.1.1-r1 openssl
libssl3 3.1.1-r1 openssl
musl 1.2.4-r0
musl-utils 1.2.4-r0 musl
scanelf 1.3.7-r1 pax-utils
ssl_client 1.36.1-r0 busybox
zlib 1.2.13-r1
"""

NGINX_ADDITIONS = """
brotli-libs 1.0.9-r14 brotli
libcurl 8.1.2-r0 curl
libexpat 2.5.0-r1 expat
libxml2 2.11.4-r0
nghttp2-libs 1.53.0-r0 nghttp2
nginx 1.24.0-r6
pcre2 10.42-r1
tzdata 2023c-r1
"""

ALPINE_3_19 = """
alpine-baselayout 3.4.3-r2
alpine-baselayout-data 3.4.3-r2 alpine-baselayout
alpine-keys 2.4-r1
apk-tools 2.14.0-r5
busybox 1.36.1-r15
busybox-binsh 1.36.1-r15 busybox
ca-certificates-bundle 20230506-r0 ca-certificates
libc-utils 0.7.2-r5 libc-dev
libcrypto3 3.1.4-r2 openssl
libssl3 3.1.4-r2 openssl
musl 1.2.4_git20230717-r4
musl-utils 1.2.4_git20230717-r4 musl
scanelf 1.3.7-r2 pax-utils
ssl_client 1.36.1-r15 busybox
zlib 1.3-r2
"""

REDIS_ADDITIONS = """
redis 7.2.3-r0
su-exec 0.2-r3
tzdata 2023c-r1
"""


@dataclass(frozen=True, slots=True)
class AlpinePackage:
    """One installed package and the origin it was built from."""

    name: str
    version: str
    origin: str


def parse(table: str) -> list[AlpinePackage]:
    """Read lines of "name version [origin]"."""
    packages = []
    for line in table.split("\n"):
        if line:
            name, version, *origin = line.split()
            packages.append(AlpinePackage(name, version, origin[0] if origin else name))
    return packages


def os_release(version: str) -> dict[str, bytes | str | Entry]:
    """The files by which Alpine is recognised; `version` is like 3.18.2."""
    return {
        "etc/alpine-release": f"{version}\n",
        "etc/os-release": (
            f'NAME="Alpine Linux"\nID=alpine\nVERSION_ID={version}\n'
            f'PRETTY_NAME="Alpine Linux v{version.rpartition(".")[0]}"\nHOME_URL="https://alpinelinux.org/"\n'
        ),
    }


def installed(packages: Iterable[AlpinePackage], architecture: str) -> dict[str, bytes | str | Entry]:
    """apk's database for these packages; `architecture` is in apk's words, such as x86_64 or aarch64."""
    ordered = sorted(packages, key=lambda package: package.name)
    return {
        "lib/apk/db/installed": "".join(_paragraph(package, architecture) for package in ordered),
        "etc/apk/world": "".join(
            f"{package.name}\n" for package in ordered if package.name == package.origin
        ),
        "etc/apk/arch": f"{architecture}\n",
    }


def payload(packages: Iterable[AlpinePackage], architecture: str) -> dict[str, bytes | str | Entry]:
    """One file of each package, different on every architecture."""
    return {
        _path(package).removeprefix("/"): program(
            noise(f"{package.name}{package.version}{architecture}", 20_000)
        )
        for package in packages
    }


def _path(package: AlpinePackage) -> str:
    library = package.name.startswith("lib") or package.name.endswith("-libs")
    return f"/usr/lib/{package.name}.so" if library else f"/usr/bin/{package.name}"


def _paragraph(package: AlpinePackage, architecture: str) -> str:
    checksum = base64.b64encode(hashlib.sha1(package.name.encode(), usedforsecurity=False).digest()).decode()
    folder, _, file = _path(package).removeprefix("/").rpartition("/")
    return (
        f"C:Q1{checksum}\nP:{package.name}\nV:{package.version}\nA:{architecture}\nS:20480\nI:45056\n"
        f"T:{package.name} for Alpine\nU:https://alpinelinux.org/\nL:MIT\no:{package.origin}\n"
        f"m:Alpine maintainers <alpine-devel@lists.alpinelinux.org>\nt:1687000000\n"
        f"F:{folder}\nR:{file}\na:0:0:755\nZ:Q1{checksum}\n\n"
    )
