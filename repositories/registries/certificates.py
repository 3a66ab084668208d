"""What a server's certificate says of itself (X.509), so that an operator can compare it with the real one.

Whoever answers at the address wrote every word of it: texts are cleaned and cut, and nothing is believed.
"""

import hashlib

from cryptography import x509

from repositories.registries.protocol import CertificateItem
from tcss.text import clean_text

_TEXT = 200
_NAMES = 10


def read_certificate(der: bytes) -> CertificateItem | None:
    """The certificate in ``der``, or None where it cannot be read."""
    try:
        read = x509.load_der_x509_certificate(der)
        return CertificateItem(
            subject=clean_text(read.subject.rfc4514_string(), _TEXT),
            issuer=clean_text(read.issuer.rfc4514_string(), _TEXT),
            names=_names(read),
            valid_from=read.not_valid_before_utc,
            valid_until=read.not_valid_after_utc,
            fingerprint=hashlib.sha256(der).digest().hex(":").upper(),
        )
    except Exception:  # noqa: BLE001 - a hostile certificate breaks its reader in more ways than are listed
        return None


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    named = [name for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]
    return tuple(clean_text(name.value, _TEXT) for name in named[:_NAMES])
