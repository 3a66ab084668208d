"""Debian packages as dpkg records them, at the versions of about Debian 12.5 and 11.2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from demo.layers import Entry, noise, program

ESSENTIAL = ("base-files", "bash", "coreutils", "dpkg", "libc-bin", "perl-base", "tar", "util-linux")

BOOKWORM = """
adduser 3.134 - all
apt 2.6.1
base-files 12.4+deb12u5
base-passwd 3.6.1
bash 5.2.15-2+b2 bash=5.2.15-2
bsdutils 1:2.38.1-5+b1 util-linux=2.38.1-5
coreutils 9.1-1
dash 0.5.12-2
debconf 1.5.82 - all
debian-archive-keyring 2023.3+deb12u1 - all
debianutils 5.7-0.5~deb12u1
diffutils 1:3.8-4
dpkg 1.21.22
e2fsprogs 1.47.0-2
findutils 4.9.0-4
gcc-12-base 12.2.0-14 gcc-12
gpgv 2.2.40-1.1 gnupg2
grep 3.8-5
gzip 1.12-1
hostname 3.23+nmu1
init-system-helpers 1.65.2 - all
libacl1 2.3.1-3 acl
libapt-pkg6.0 2.6.1 apt
libattr1 1:2.5.1-4 attr
libaudit1 1:3.0.9-1 audit
libblkid1 2.38.1-5+b1 util-linux=2.38.1-5
libbz2-1.0 1.0.8-5+b1 bzip2=1.0.8-5
libc-bin 2.36-9+deb12u4 glibc
libc6 2.36-9+deb12u4 glibc
libcap-ng0 0.8.3-1+b3 libcap-ng=0.8.3-1
libcap2 1:2.66-4
libcom-err2 1.47.0-2 e2fsprogs
libcrypt1 1:4.4.33-2 libxcrypt
libdb5.3 5.3.28+dfsg2-1 db5.3
libdebconfclient0 0.270 cdebconf
libext2fs2 1.47.0-2 e2fsprogs
libffi8 3.4.4-1 libffi
libgcc-s1 12.2.0-14 gcc-12
libgcrypt20 1.10.1-3
libgmp10 2:6.2.1+dfsg1-1.1 gmp
libgnutls30 3.7.9-2+deb12u2 gnutls28
libgpg-error0 1.46-1 libgpg-error
libhogweed6 3.8.1-2 nettle
libidn2-0 2.3.3-1+b1 libidn2=2.3.3-1
liblz4-1 1.9.4-1 lz4
liblzma5 5.4.1-0.2 xz-utils
libmd0 1.0.4-2 libmd
libmount1 2.38.1-5+b1 util-linux=2.38.1-5
libnettle8 3.8.1-2 nettle
libp11-kit0 0.24.1-2 p11-kit
libpam-modules 1.5.2-6+deb12u1 pam
libpam-runtime 1.5.2-6+deb12u1 pam all
libpam0g 1.5.2-6+deb12u1 pam
libpcre2-8-0 10.42-1 pcre2
libseccomp2 2.5.4-1+b3 libseccomp=2.5.4-1
libselinux1 3.4-1+b6 libselinux=3.4-1
libsmartcols1 2.38.1-5+b1 util-linux=2.38.1-5
libss2 1.47.0-2 e2fsprogs
libstdc++6 12.2.0-14 gcc-12
libsystemd0 252.22-1~deb12u1 systemd
libtasn1-6 4.19.0-2
libtinfo6 6.4-4 ncurses
libudev1 252.22-1~deb12u1 systemd
libunistring2 1.0-2 libunistring
libuuid1 2.38.1-5+b1 util-linux=2.38.1-5
libxxhash0 0.8.1-1 xxhash
libzstd1 1.5.4+dfsg2-5 libzstd
login 1:4.13+dfsg1-1+b1 shadow=1:4.13+dfsg1-1
logsave 1.47.0-2 e2fsprogs
mawk 1.3.4.20200120-3.1
mount 2.38.1-5+b1 util-linux=2.38.1-5
ncurses-base 6.4-4 ncurses all
ncurses-bin 6.4-4 ncurses
passwd 1:4.13+dfsg1-1+b1 shadow=1:4.13+dfsg1-1
perl-base 5.36.0-7+deb12u1 perl
sed 4.9-1
sysvinit-utils 3.06-4 sysvinit
tar 1.34+dfsg-1.2+deb12u1
tzdata 2024a-0+deb12u1 - all
util-linux 2.38.1-5+b1 util-linux=2.38.1-5
zlib1g 1:1.2.13.dfsg-1 zlib
"""

BULLSEYE = """
apt 2.2.4
base-files 11.1+deb11u2
bash 5.1-2+b3 bash=5.1-2
coreutils 8.32-4+b1 coreutils=8.32-4
dash 0.5.11+git20200708+dd9ef66-5
debian-archive-keyring 2021.1.1 - all
dpkg 1.20.9
e2fsprogs 1.46.2-2
gcc-10-base 10.2.1-6 gcc-10
grep 3.6-1
gzip 1.10-4
libc-bin 2.31-13+deb11u2 glibc
libc6 2.31-13+deb11u2 glibc
libcurl4 7.74.0-1.3+deb11u1 curl
libexpat1 2.2.10-2 expat
libgcc-s1 10.2.1-6 gcc-10
libgnutls30 3.7.1-5 gnutls28
liblzma5 5.2.5-2 xz-utils
libssl1.1 1.1.1k-1+deb11u1 openssl
perl-base 5.32.1-4+deb11u2 perl
tar 1.34+dfsg-1
util-linux 2.36.1-8
zlib1g 1:1.2.11.dfsg-2 zlib
"""

BOOKWORM_ADDITIONS = """
ca-certificates 20230311 - all
curl 7.88.1-10+deb12u5
git 1:2.39.2-1.1
libbrotli1 1.0.9-2+b6 brotli=1.0.9-2
libcurl3-gnutls 7.88.1-10+deb12u5 curl
libcurl4 7.88.1-10+deb12u5 curl
libexpat1 2.5.0-1 expat
libfreetype6 2.12.1+dfsg-5 freetype
libgssapi-krb5-2 1.20.1-2+deb12u1 krb5
libkrb5-3 1.20.1-2+deb12u1 krb5
libldap-2.5-0 2.5.13+dfsg-5 openldap
libnghttp2-14 1.52.0-1 nghttp2
libpng16-16 1.6.39-2 libpng1.6
libpq5 15.5-0+deb12u1 postgresql-15
libpython3.11-minimal 3.11.2-6 python3.11
libpython3.11-stdlib 3.11.2-6 python3.11
libreadline8 8.2-1.3 readline
libsqlite3-0 3.40.1-2 sqlite3
libssh2-1 1.10.0-3+b1 libssh2=1.10.0-3
libssl3 3.0.11-1~deb12u2 openssl
libwebp7 1.2.4-0.2 libwebp
libxml2 2.9.14+dfsg-1.3~deb12u1
openssh-client 1:9.2p1-2+deb12u1 openssh
openssl 3.0.11-1~deb12u2
python3.11-minimal 3.11.2-6 python3.11
wget 1.21.3-1
"""


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """One binary package and the source package it was built from."""

    name: str
    version: str
    source: str
    source_version: str
    architecture: str = "amd64"


def parse(table: str) -> dict[str, DebianPackage]:
    """Read lines of "name version [source[=its version]] [architecture]"; `-` is the package's own name."""
    packages = {}
    for line in table.split("\n"):
        if not line:
            continue
        name, version, *rest = line.split()
        source, _, source_version = (rest[0] if rest and rest[0] != "-" else name).partition("=")
        architecture = rest[1] if len(rest) > 1 else "amd64"
        packages[name] = DebianPackage(name, version, source, source_version or version, architecture)
    return packages


def os_release(version: str, codename: str) -> dict[str, bytes | str | Entry]:
    """The files by which Debian is recognised; `version` is the point release, such as 12.5."""
    major = version.partition(".")[0]
    return {
        "etc/debian_version": f"{version}\n",
        "etc/os-release": Entry(link="../usr/lib/os-release"),
        "usr/lib/os-release": (
            f'PRETTY_NAME="Debian GNU/Linux {major} ({codename})"\nNAME="Debian GNU/Linux"\n'
            f'VERSION_ID="{major}"\nVERSION="{major} ({codename})"\nVERSION_CODENAME={codename}\nID=debian\n'
            'HOME_URL="https://www.debian.org/"\nBUG_REPORT_URL="https://bugs.debian.org/"\n'
        ),
    }


def installed(packages: Iterable[DebianPackage]) -> dict[str, bytes | str | Entry]:
    """dpkg's database for these packages: the status file, and each one's list of files and checksums."""
    ordered = sorted(packages, key=lambda package: package.name)
    files: dict[str, bytes | str | Entry] = {
        "var/lib/dpkg/status": "".join(
            _paragraph(package) + "Status: install ok installed\n\n" for package in ordered
        )
    }
    for package in ordered:
        paths = [path for path in payload([package]) if not path.startswith("var/")]
        listing = "\n".join(["/.", *(f"/{path}" for path in paths)]) + "\n"
        checksums = "".join(f"{_md5(path)}  {path}\n" for path in paths)
        files[f"var/lib/dpkg/info/{package.name}.list"] = listing
        files[f"var/lib/dpkg/info/{package.name}.md5sums"] = checksums
    return files


def payload(packages: Iterable[DebianPackage]) -> dict[str, bytes | str | Entry]:
    """Some of the files these packages bring: a copyright note, and a library or a program."""
    files: dict[str, bytes | str | Entry] = {}
    for package in packages:
        files[f"usr/share/doc/{package.name}/copyright"] = (
            f"This is {package.source} as packaged by Debian.\n"
        )
        if package.name.startswith("lib"):
            files[f"usr/lib/x86_64-linux-gnu/{package.name}.so"] = noise(
                package.name + package.version, 12_000
            )
        elif package.architecture != "all":
            files[f"usr/bin/{package.name}"] = program(noise(package.name + package.version, 16_000))
    return files


def distroless(packages: Iterable[DebianPackage]) -> dict[str, bytes | str | Entry]:
    """The database of an image without dpkg: one file for each package in status.d, and its checksums."""
    files: dict[str, bytes | str | Entry] = {}
    for package in packages:
        files[f"var/lib/dpkg/status.d/{package.name}"] = _paragraph(package)
        files[f"var/lib/dpkg/status.d/{package.name}.md5sums"] = "".join(
            f"{_md5(path)}  {path}\n" for path in payload([package])
        )
    return files


def select(table: Mapping[str, DebianPackage], names: Iterable[str]) -> list[DebianPackage]:
    """The packages of those names. Raises KeyError for one that the table does not have."""
    return [table[name] for name in names]


def _paragraph(package: DebianPackage) -> str:
    lines = [f"Package: {package.name}"]
    if package.name in ESSENTIAL:
        lines.append("Essential: yes")
    if package.source_version != package.version:
        lines.append(f"Source: {package.source} ({package.source_version})")
    elif package.source != package.name:
        lines.append(f"Source: {package.source}")
    lines += [
        f"Version: {package.version}",
        f"Architecture: {package.architecture}",
        "Maintainer: Debian maintainers <debian-devel@lists.debian.org>",
        f"Section: {'libs' if package.name.startswith('lib') else 'utils'}",
        "Priority: optional",
        f"Installed-Size: {100 + len(package.name) * 37}",
        f"Description: {package.name} from {package.source}",
    ]
    return "\n".join(lines) + "\n"


def _md5(path: str) -> str:
    return hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
