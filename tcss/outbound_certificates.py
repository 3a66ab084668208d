"""Says when a server's certificate was or will be valid, which Python does not tell of one it refused."""

import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from tcss.outbound_failures import TEXTS, OutboundError, classify
from tcss.outbound_sockets import GuardedSocket

_EXPIRED = "REG_TLS_EXPIRED"


def refusal(error: ssl.SSLError, dial: Callable[[], GuardedSocket], host: str) -> OutboundError:
    """Why a handshake failed; where it is a matter of dates, with the date.

    The certificate is read by a second handshake over a connection that ``dial`` makes. Nothing is sent
    over it.
    """
    found = classify(error)
    if found.code != _EXPIRED:
        return found
    with contextlib.suppress(OSError, ValueError, OutboundError):
        return OutboundError(_EXPIRED, _sentence(_read(dial(), host), datetime.now(UTC)))
    return found


def _read(sock: GuardedSocket, host: str) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.closing(sock), context.wrap_socket(sock, server_hostname=host) as encrypted:
        return x509.load_der_x509_certificate(encrypted.getpeercert(binary_form=True) or b"")


def _sentence(certificate: x509.Certificate, now: datetime) -> str:
    """The dates are those of the server's own certificate; one above it may be the one at fault."""
    if now > certificate.not_valid_after_utc:
        return f"The server's certificate expired on {_written(certificate.not_valid_after_utc)}."
    if now < certificate.not_valid_before_utc:
        return f"The server's certificate is not valid before {_written(certificate.not_valid_before_utc)}."
    return TEXTS[_EXPIRED][0]


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
