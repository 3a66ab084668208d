"""Servers whose TLS is wrong in one way each; every certificate is made on the spot."""

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOCAL = ("127.0.0.1",)


class Maker:
    """Makes certificates in a directory; each is (certificate and chain, key) files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._signed("root", self.root_key, "root", self.root_key, authority=True)
        self._middle_key = ec.generate_private_key(ec.SECP256R1())
        self._middle = self._signed("middle", self._middle_key, "root", self.root_key, authority=True)

    @property
    def pem(self) -> str:
        """The root, for the field Custom CA."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def server(
        self, *, names: tuple[str, ...] = LOCAL, days: tuple[float, float] = (-1, 30)
    ) -> tuple[Path, Path]:
        """A certificate that the root signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._written(key, self._signed("server", key, "root", self.root_key, names=names, days=days))

    def self_signed(self) -> tuple[Path, Path]:
        """A certificate that nobody else signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._written(key, self._signed("server", key, "server", key, names=LOCAL))

    def below_middle(self, *, complete: bool) -> tuple[Path, Path]:
        """A certificate below an authority in the middle, which is sent along only where ``complete``."""
        key = ec.generate_private_key(ec.SECP256R1())
        chain = [self._middle] if complete else []
        return self._written(
            key, self._signed("server", key, "middle", self._middle_key, names=LOCAL), *chain
        )

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        names: tuple[str, ...] = (),
        days: tuple[float, float] = (-1, 30),
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(each) for each in names]), critical=False
            )
        return builder.sign(issuer_key, hashes.SHA256())

    def _written(self, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> tuple[Path, Path]:
        self._made += 1
        files = self._directory / f"{self._made}.pem", self._directory / f"{self._made}.key"
        pem = serialization.Encoding.PEM
        files[0].write_bytes(b"".join(each.public_bytes(pem) for each in chain))
        private = serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def old_tls(certificate: tuple[Path, Path]) -> Iterator[str]:
    """The address of a server that speaks no TLS newer than 1.0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), connection:
                        context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
