"""The sample images on Debian: which layers each is made of, and what its config says."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from functools import cache

from demo import packages_debian as debian
from demo.applications import FLASK_APP, NODE_APP, SPRING_APP
from demo.layers import Entry, Image, Layer, Tree, noise, program
from demo.packages_language import jar, node_packages, python_packages, spring_boot_jar
from demo.plants import eicar, letters, private_key

PYTHON_SITE = "usr/local/lib/python3.11/site-packages"

BOOKWORM = debian.parse(debian.BOOKWORM)
BULLSEYE = debian.parse(debian.BULLSEYE)
ADDITIONS = debian.parse(debian.BOOKWORM_ADDITIONS)

SLIM = ("ca-certificates", "libexpat1", "libreadline8", "libsqlite3-0", "libssl3", "openssl")
"""What the Python base adds to Debian."""

APT_RUN = (
    "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends {}"
    " && rm -rf /var/lib/apt/lists/* # buildkit"
)


def moment(text: str) -> datetime:
    """A date and time in UTC, such as "2024-02-13 09:30"."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@cache
def debian_12() -> Image:
    """The base most of the others stand on."""
    files: Tree = {
        **debian.os_release("12.5", "bookworm"),
        **debian.installed(BOOKWORM.values()),
        **debian.payload(BOOKWORM.values()),
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/bin/false\n",
        "bin": Entry(link="usr/bin"),
        "lib": Entry(link="usr/lib"),
    }
    layer = Layer(files, "/bin/sh -c #(nop) ADD file:9c4b7c9ec04d3eb7e0cbe7d9ab0e4dc5e1f4e5a2 in / ")
    return Image((layer,), moment("2024-02-13 00:38"), instructions=('CMD ["bash"]',), command=("bash",))


@cache
def python_slim() -> Image:
    """Debian 12 with a Python of its own in /usr/local."""
    tools = python_packages({"pip": "22.3.1", "setuptools": "65.5.0", "wheel": "0.37.1"}, PYTHON_SITE)
    interpreter: Tree = {
        "usr/local/bin/python3.11": program(noise("python 3.11.8", 400_000)),
        "usr/local/bin/python": Entry(link="python3.11"),
        **tools,
    }
    return Image(
        (
            *debian_12().layers,
            _apt(SLIM),
            Layer(interpreter, "RUN /bin/sh -c make -j $(nproc) && make install # buildkit"),
        ),
        moment("2024-02-20 04:11"),
        environment=("LANG=C.UTF-8", "PYTHON_VERSION=3.11.8"),
        command=("python3",),
        base_depth=1,
        base_steps=('CMD ["bash"]', "ENV LANG=C.UTF-8", "ENV PYTHON_VERSION=3.11.8"),
        instructions=('CMD ["python3"]',),
    )


def web(version: str, created: str, packages: dict[str, str]) -> Image:
    """The shop's Django site."""
    site = python_packages(packages, PYTHON_SITE)
    code: Tree = {
        "srv/web/manage.py": "import django\n",
        "srv/web/shop/settings.py": f'ALLOWED_HOSTS = ["shop.example"]\nVERSION = "{version}"\n',
        "srv/web/static/app.css": noise("shop/web " + version, 40_000),
    }
    return Image(
        (
            *python_slim().layers,
            _apt(("libpq5", "libgssapi-krb5-2", "libkrb5-3", "libldap-2.5-0", "libwebp7"), present=SLIM),
            Layer(site, "RUN /bin/sh -c pip install --no-cache-dir -r requirements.txt # buildkit"),
            Layer(code, "COPY . /srv/web # buildkit"),
        ),
        moment(created),
        environment=("LANG=C.UTF-8", "DJANGO_SETTINGS_MODULE=shop.settings"),
        command=("gunicorn", "shop.wsgi:application", "--bind", "0.0.0.0:8000"),
        user="www-data",
        working_directory="/srv/web",
        ports=("8000/tcp",),
        labels={
            "org.opencontainers.image.source": "https://git.example/shop/web",
            "org.opencontainers.image.version": version,
        },
        base_depth=3,
        base_steps=('CMD ["python3"]', "WORKDIR /srv/web"),
        instructions=(
            "USER www-data",
            "EXPOSE map[8000/tcp:{}]",
            'CMD ["gunicorn" "shop.wsgi:application" "--bind" "0.0.0.0:8000"]',
        ),
        author="Shop team <shop@example.com>",
    )


def api() -> Image:
    """The shop's Flask service, with credentials left in a file and in the environment."""
    site = python_packages(FLASK_APP, PYTHON_SITE)
    code: Tree = {
        "srv/api/app.py": "from flask import Flask\n\napp = Flask(__name__)\n",
        "srv/api/.env": (
            f"AWS_ACCESS_KEY_ID={'AK' + 'IA' + letters('aws id', 16, string.ascii_uppercase)}\n"
            f"AWS_SECRET_ACCESS_KEY={letters('aws key', 40)}\n"
        ),
        "srv/api/deploy/github.token": f"token={'gh' + 'p_' + letters('github', 36)}\n",
        "root/.ssh/id_rsa": Entry(private_key().encode(), mode=0o600),
    }
    token = "-".join(
        ("xo" + "xb", letters("slack team", 12, string.digits), letters("slack bot", 12, string.digits))
    )
    return Image(
        (
            *python_slim().layers,
            Layer(site, "RUN /bin/sh -c pip install --no-cache-dir -r requirements.txt # buildkit"),
            Layer(code, "COPY . /srv/api # buildkit"),
        ),
        moment("2024-05-06 15:42"),
        environment=(f"SLACK_BOT_TOKEN={token}", "FLASK_APP=app.py"),
        command=("flask", "run", "--port", "5000"),
        working_directory="/srv/api",
        ports=("5000/tcp",),
        base_depth=3,
        base_steps=('CMD ["python3"]', "WORKDIR /srv/api"),
        instructions=("ENV FLASK_APP=app.py", 'CMD ["flask" "run" "--port" "5000"]'),
    )


def front() -> Image:
    """The shop's Node.js front end on Debian 12."""
    modules = node_packages(NODE_APP, "srv/front")
    own: Tree = {
        "srv/front/package.json": '{"name": "shop-front", "version": "3.2.0", "private": true}\n',
        "srv/front/server.js": "require('express')().listen(3000);\n",
    }
    runtime: Tree = {"usr/local/bin/node": program(noise("node 18.19.0", 700_000))}
    return Image(
        (
            *debian_12().layers,
            _apt(("ca-certificates", "curl", "git", "libbrotli1", "libcurl3-gnutls", "libcurl4", "libexpat1",
                  "libnghttp2-14", "libssh2-1", "libssl3", "openssh-client", "wget")),
            Layer(runtime, "RUN /bin/sh -c curl -fsSL $NODE_URL | tar -xJ -C /usr/local # buildkit"),
            Layer(modules, "RUN /bin/sh -c npm ci --omit=dev # buildkit"),
            Layer(own, "COPY . /srv/front # buildkit"),
        ),
        moment("2024-04-18 08:05"),
        environment=("NODE_VERSION=18.19.0", "NODE_ENV=production"),
        command=("node", "server.js"),
        working_directory="/srv/front",
        ports=("3000/tcp",),
        base_depth=1,
        base_steps=('CMD ["bash"]', "ENV NODE_VERSION=18.19.0"),
        instructions=('CMD ["node" "server.js"]',),
    )  # fmt: skip


def orders() -> Image:
    """A Spring Boot service on Debian 12, still with the Log4j of before December 2021."""
    program_jar = spring_boot_jar("com.example.shop:orders", "4.0.2", SPRING_APP)
    runtime: Tree = {"opt/java/openjdk/bin/java": program(noise("java 17.0.9", 600_000))}
    return Image(
        (
            *debian_12().layers,
            _apt(("ca-certificates", "libfreetype6", "libpng16-16")),
            Layer(runtime, "COPY --from=eclipse-temurin:17-jre /opt/java /opt/java # buildkit"),
            Layer({"app/orders.jar": program_jar}, "COPY build/orders.jar /app/orders.jar # buildkit"),
        ),
        moment("2023-11-30 17:20"),
        environment=("JAVA_HOME=/opt/java/openjdk",),
        entrypoint=("java", "-jar", "/app/orders.jar"),
        ports=("8080/tcp",),
        base_depth=1,
        base_steps=('CMD ["bash"]', "ENV JAVA_HOME=/opt/java/openjdk"),
        instructions=('ENTRYPOINT ["java" "-jar" "/app/orders.jar"]',),
    )


def settlement() -> Image:
    """A payments batch job in Java: two plain jars on the shared base, run as its own user."""
    libraries = {"org.yaml:snakeyaml": "1.30", "com.fasterxml.jackson.core:jackson-databind": "2.13.3"}
    jars: Tree = {
        f"opt/settlement/{name.partition(':')[2]}-{version}.jar": jar(name, version)
        for name, version in libraries.items()
    }
    return Image(
        (
            *debian_12().layers,
            _apt(("ca-certificates",)),
            Layer(jars, "COPY lib/*.jar /opt/settlement/ # buildkit"),
        ),
        moment("2024-06-03 11:11"),
        entrypoint=("java", "-cp", "/opt/settlement/*", "com.example.Settlement"),
        user="10001",
        base_depth=1,
        base_steps=('CMD ["bash"]',),
        instructions=("USER 10001", 'ENTRYPOINT ["java" "-cp" "/opt/settlement/*" "com.example.Settlement"]'),
    )


def legacy() -> Image:
    """A content management system on Debian 11 in whose uploads an anti-virus test file lies."""
    base: Tree = {
        **debian.os_release("11.2", "bullseye"),
        **debian.installed(BULLSEYE.values()),
        **debian.payload(BULLSEYE.values()),
    }
    uploads: Tree = {
        "var/www/html/index.php": "<?php echo 'Welcome'; ?>\n",
        "var/www/html/wp-content/uploads/2021/12/invoice.com": eicar(),
        "var/www/html/wp-content/uploads/2021/12/price-list.csv": "sku,price\n1001,9.90\n",
    }
    return Image(
        (
            Layer(base, "/bin/sh -c #(nop) ADD file:11157b07dde10107f3f6f2b892c869ea83868475 in / "),
            Layer(uploads, "/bin/sh -c #(nop) COPY dir:3e6f81f5a3a1f1d1c5e2 in /var/www/html "),
        ),
        moment("2021-12-23 10:02"),
        command=("apache2-foreground",),
        ports=("80/tcp",),
        labels={"maintainer": "webmaster@example.com"},
        instructions=('/bin/sh -c #(nop)  CMD ["apache2-foreground"]',),
    )


def _apt(names: tuple[str, ...], present: tuple[str, ...] = ()) -> Layer:
    """The layer of an `apt-get install` over Debian 12: its files, and dpkg's database as it is then."""
    added = debian.select(ADDITIONS, names)
    everything = [*BOOKWORM.values(), *debian.select(ADDITIONS, present), *added]
    files = {**debian.installed(everything), **debian.payload(added)}
    return Layer(files, APT_RUN.format(" ".join(sorted(names))))
