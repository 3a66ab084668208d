"""The sample images that hold little: Go programs, Alpine, an unknown distribution, a single page."""

from __future__ import annotations

from functools import cache

from demo import packages_alpine as alpine, packages_debian as debian
from demo.applications import GO_APP
from demo.layers import Image, Layer, Tree, noise, program
from demo.packages_language import go_program, python_packages
from demo.recipes import ADDITIONS, BOOKWORM, debian_12, moment


def ledger() -> Image:
    """A Go service on a base without dpkg or shell, whose packages stand in status.d."""
    names = ("base-files", "libc6", "tzdata")
    packages = [*debian.select(BOOKWORM, names), *debian.select(ADDITIONS, ("libssl3", "openssl"))]
    base: Tree = {
        **debian.os_release("12.5", "bookworm"),
        **debian.distroless(packages),
        **debian.payload(packages),
    }
    binary = go_program("git.example/payments/ledger", "1.20.4", GO_APP)
    return Image(
        (Layer(base, "bazel build ..."), Layer({"ledger": binary}, "COPY /out/ledger /ledger # buildkit")),
        moment("2024-03-11 13:37"),
        entrypoint=("/ledger",),
        user="nonroot",
        instructions=("USER nonroot", 'ENTRYPOINT ["/ledger"]'),
    )


def gateway() -> Image:
    """A Go service on the shared base whose own layer the registry's disk has damaged."""
    binary = go_program("git.example/payments/gateway", "1.21.5", {"golang.org/x/net": "v0.17.0"})
    return Image(
        (
            *debian_12().layers,
            Layer(
                {"usr/local/bin/gateway": binary},
                "COPY /out/gateway /usr/local/bin/gateway # buildkit",
                damaged=True,
            ),
        ),
        moment("2024-07-01 06:00"),
        entrypoint=("/usr/local/bin/gateway",),
        base_depth=1,
        base_steps=('CMD ["bash"]',),
        instructions=('ENTRYPOINT ["/usr/local/bin/gateway"]',),
    )


@cache
def alpine_3_18(architecture: str = "amd64") -> Image:
    """The small base, for one of two architectures."""
    packages, word = alpine.parse(alpine.ALPINE_3_18), apk_word(architecture)
    files: Tree = {
        **alpine.os_release("3.18.2"),
        **alpine.installed(packages, word),
        **alpine.payload(packages, word),
    }
    layer = Layer(files, "/bin/sh -c #(nop) ADD file:289c2fac17119508ced527225d445747cd177111 in / ")
    return Image(
        (layer,),
        moment("2023-06-14 20:41"),
        architecture,
        instructions=('CMD ["/bin/sh"]',),
        command=("/bin/sh",),
    )


def nginx(architecture: str) -> Image:
    """A web server for one of two architectures."""
    added, word = alpine.parse(alpine.NGINX_ADDITIONS), apk_word(architecture)
    files: Tree = {
        **alpine.installed([*alpine.parse(alpine.ALPINE_3_18), *added], word),
        **alpine.payload(added, word),
        "etc/nginx/nginx.conf": "events {}\nhttp { server { listen 80; root /usr/share/nginx/html; } }\n",
        "usr/share/nginx/html/index.html": "<!doctype html><title>Welcome to nginx!</title>\n",
    }
    return Image(
        (
            *alpine_3_18(architecture).layers,
            Layer(files, "RUN /bin/sh -c apk add --no-cache nginx tzdata # buildkit"),
        ),
        moment("2023-06-28 07:30"),
        architecture,
        variant="v8" if architecture == "arm64" else "",
        environment=("NGINX_VERSION=1.24.0",),
        command=("nginx", "-g", "daemon off;"),
        ports=("80/tcp",),
        base_depth=1,
        base_steps=('CMD ["/bin/sh"]', "ENV NGINX_VERSION=1.24.0"),
        instructions=("EXPOSE map[80/tcp:{}]", 'CMD ["nginx" "-g" "daemon off;"]'),
    )


def redis() -> Image:
    """A cache server on Alpine 3.19 whose upper layer is compressed with zstd."""
    packages, added = alpine.parse(alpine.ALPINE_3_19), alpine.parse(alpine.REDIS_ADDITIONS)
    base: Tree = {
        **alpine.os_release("3.19.0"),
        **alpine.installed(packages, "x86_64"),
        **alpine.payload(packages, "x86_64"),
    }
    server: Tree = {**alpine.installed([*packages, *added], "x86_64"), **alpine.payload(added, "x86_64")}
    return Image(
        (
            Layer(base, "/bin/sh -c #(nop) ADD file:1f4eb46669b5b6275af19eb7471a6899a61c276a in / "),
            Layer(
                server,
                "RUN /bin/sh -c apk add --no-cache redis su-exec tzdata # buildkit",
                compression="zstd",
            ),
        ),
        moment("2023-12-08 22:15"),
        command=("redis-server",),
        ports=("6379/tcp",),
        instructions=("EXPOSE map[6379/tcp:{}]", 'CMD ["redis-server"]'),
    )


def appliance() -> Image:
    """An image of a distribution nobody knows, with a few Python packages in it."""
    files: Tree = {
        "etc/os-release": 'NAME="Harbourline Linux"\nID=harbourline\nVERSION_ID=4.1\n',
        **python_packages(
            {"requests": "2.31.0", "urllib3": "2.0.7", "Jinja2": "3.1.3"}, "usr/lib/python3.11/site-packages"
        ),
        "opt/appliance/bin/agent": program(noise("appliance agent", 250_000)),
    }
    return Image(
        (Layer(files, "COPY rootfs/ / # buildkit"),),
        moment("2024-08-09 03:14"),
        entrypoint=("/opt/appliance/bin/agent",),
        labels={"vendor": "Harbourline"},
        instructions=('ENTRYPOINT ["/opt/appliance/bin/agent"]',),
    )


def static_site() -> Image:
    """A single page over a base of three harmless packages: scanned, and nothing found."""
    packages = debian.select({**BOOKWORM, **ADDITIONS}, ("base-files", "ca-certificates", "tzdata"))
    base: Tree = {
        **debian.os_release("12.5", "bookworm"),
        **debian.distroless(packages),
        **debian.payload(packages),
    }
    site: Tree = {
        "www/index.html": "<!doctype html><title>Status</title><p>All systems work.</p>\n",
        "server": program(noise("static server", 90_000)),
    }
    return Image(
        (Layer(base, "bazel build ..."), Layer(site, "COPY www server / # buildkit")),
        moment("2024-09-02 12:00"),
        entrypoint=("/server",),
        instructions=('ENTRYPOINT ["/server"]',),
    )


def apk_word(architecture: str) -> str:
    """What apk calls an architecture."""
    return {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
