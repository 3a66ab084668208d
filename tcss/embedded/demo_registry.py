"""The demo registries of `make demo`: their processes, accounts, and the addresses kept between starts."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tcss.embedded import host
from tcss.embedded.children import Child, Pause, run_to_end, wait_until
from tcss.embedded.installation import Installation

NAME = "demo-registry"


class DemoServer:
    """A server of this checkout, filled with sample images, on the loopback address."""

    name: ClassVar[str]
    module: ClassVar[str]
    # The variables of its secrets, and the files in which they are kept.
    secrets: ClassVar[Mapping[str, str]]

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._folder = installation.directory.path / self.name
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._address = self._folder / "address"
        # The address is stored with the connection in the console, so it stays the same where it can.
        self._port = _port_of(self._address)
        for variable, file in self.secrets.items():
            installation.set(variable, installation.directory.secret(file).read_text(encoding="utf-8"))

    def start(self, pause: Pause) -> Child:
        """Starts it and waits until it has said where it listens."""
        self._address.unlink(missing_ok=True)
        child = Child(
            self._installation.module(
                *(self.name, self.module, "--port", str(self._port)),
                *("--data", str(self._folder / "blobs"), "--announce", str(self._address)),
            )
        )
        wait_until(self._address.exists, child, pause, seconds=60)
        return child

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._address.read_text(encoding="utf-8").strip()


class DemoRegistry(DemoServer):
    """The Harbor of the demonstration."""

    name = NAME
    module = "demo.server"
    secrets = MappingProxyType(
        {"DEMO_OPERATOR_PASSWORD": "demo-operator-password", "DEMO_ROBOT_SECRET": "demo-robot-secret"}
    )


class DemoCloud(DemoServer):
    """The Tencent cloud of the demonstration: TCR, CCR and the API that leads to them."""

    name = "demo-cloud"
    module = "demo.tencent"
    secrets = MappingProxyType(
        {"DEMO_TENCENT_SECRET_KEY": "demo-tencent-key", "DEMO_TENCENT_PASSWORD": "demo-tencent-password"}
    )


def _port_of(address: Path) -> int:
    """The port of an earlier start while it is free, else 0: any."""
    if not address.exists():
        return 0
    port = int(address.read_text(encoding="utf-8").strip().rpartition(":")[2])
    try:
        host.listen(port).close()
    except OSError:
        return 0
    return port


def install_demo_vulnerabilities(installation: Installation, pause: Pause) -> None:
    """Installs the small database of this checkout where there is no vulnerability database yet."""
    if (installation.directory.path / "vulnerability-db" / "current").exists():
        return
    folder = str(installation.directory.path / NAME / "demo-advisories")
    run_to_end(
        installation.module("demo-vulnerabilities", "demo.vulnerability_db", folder), pause, seconds=120
    )
    run_to_end(installation.manage("vulnerability_db", "import", folder), pause, seconds=300)


def allow_loopback(installation: Installation, networks: str) -> None:
    """Lets the console connect to registries on this machine, besides the networks allowed anyway."""
    installation.set("TCSS_ALLOWED_NETWORKS", ",".join(part for part in (networks, "127.0.0.0/8") if part))
