"""Why a request of ours got no usable answer: fixed codes and fixed sentences, never a byte of the answer."""

import http.client
import socket
import ssl

import urllib3.exceptions

TEXTS = {
    "REG_DNS": (
        "The host name of the address has no address in DNS.",
        "Check the spelling of the address, and that this server's DNS knows the name.",
    ),
    "REG_CONNECT": (
        "The server could not be reached, or it closed the connection.",
        "Check host and port, that the registry is running, and that no firewall is in between.",
    ),
    "REG_TIMEOUT": (
        "The server did not answer in time.",
        "Check that the registry is running and not overloaded, and that no firewall drops the connection.",
    ),
    "REG_TLS_EXPIRED": (
        "The server's certificate has expired or is not valid yet.",
        "Renew the certificate of the registry, and check the clock of this server.",
    ),
    "REG_TLS_UNTRUSTED": (
        "The server's certificate is self-signed or was issued by an authority that is not trusted.",
        "Paste the authority's certificate under Custom CA, or untick Validate remote certificates.",
    ),
    "REG_TLS_NAME": (
        "The server's certificate is for another name than the one in the address.",
        "Use the name the certificate was issued for, or have it issued for this name.",
    ),
    "REG_BLOCKED_ADDR": (
        "The address leads into a network this console may not connect to.",
        "If the registry really is there, the installer can allow its network with TCSS_ALLOWED_NETWORKS.",
    ),
    "REG_PROTOCOL": (
        "The answer is not what a registry answers.",
        "Check that the address is that of the registry itself and not of another service or a proxy.",
    ),
    "IMG_TOO_LARGE": (
        "The answer is larger than such an answer may be.",
        "Check that the address is that of the registry itself and not of another service.",
    ),
}
NO_DNS = "No DNS server answered in time."
NO_DNS_REMEDY = "Check that this server reaches its DNS servers; it is tried again by itself."
OWN_SERVICE = "The address is that of the console itself, or of its database or message broker."
OWN_SERVICE_REMEDY = "Enter the address of the registry."
OLD_TLS = "The server offers only versions of TLS that are no longer safe."
OLD_TLS_REMEDY = "Let the registry, or the proxy before it, speak TLS 1.2 or newer."
NO_TLS = "The server does not speak TLS at this port."
NO_TLS_REMEDY = "Check the port, or begin the address with http:// if the registry has no TLS."

# OpenSSL's X509_V_ERR_* numbers.
_NOT_VALID_NOW = {9, 10}
_OLD_TLS_REASONS = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW"}
_OTHER_NAME = {62, 63, 64}


class OutboundError(Exception):
    """A request got no usable answer; the three texts are for the operator."""

    def __init__(self, code: str, reason: str = "", remedy: str = "") -> None:
        super().__init__(code)
        fixed_reason, fixed_remedy = TEXTS[code]
        self.code = code
        self.reason = reason or fixed_reason
        self.remedy = remedy or fixed_remedy

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.code in {"REG_DNS", "REG_CONNECT", "REG_TIMEOUT"}


def classify(error: BaseException) -> OutboundError:
    """The fixed failure behind whatever urllib3, http.client or ssl raised."""
    chain = list(_chain(error))
    for inner in chain:
        if isinstance(inner, OutboundError):
            return inner
    for inner in chain:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return OutboundError(_certificate_code(inner))
    for inner in chain:
        if isinstance(inner, ssl.SSLError) and inner.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
            return OutboundError("REG_PROTOCOL", NO_TLS, NO_TLS_REMEDY)
        if isinstance(inner, ssl.SSLError) and inner.reason in _OLD_TLS_REASONS:
            return OutboundError("REG_PROTOCOL", OLD_TLS, OLD_TLS_REMEDY)
    for inner in chain:
        if isinstance(inner, TimeoutError | urllib3.exceptions.TimeoutError):
            return OutboundError("REG_TIMEOUT")
        if isinstance(inner, socket.gaierror):
            return OutboundError("REG_DNS")
        if isinstance(
            inner, urllib3.exceptions.InvalidChunkLength | urllib3.exceptions.InvalidHeader | ValueError
        ):
            return OutboundError("REG_PROTOCOL")
        # An answer that ends early, or none at all.
        if isinstance(inner, OSError | http.client.IncompleteRead):
            return OutboundError("REG_CONNECT")
    if any("ended prematurely" in str(inner) for inner in chain):
        return OutboundError("REG_CONNECT")
    return OutboundError("REG_PROTOCOL")


def _certificate_code(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _NOT_VALID_NOW:
        return "REG_TLS_EXPIRED"
    return "REG_TLS_NAME" if error.verify_code in _OTHER_NAME else "REG_TLS_UNTRUSTED"


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it wraps: as an argument, a reason or a context; outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        candidate = waiting.pop(0)
        if not isinstance(candidate, BaseException) or candidate in found:
            continue
        found.append(candidate)
        waiting += [*candidate.args, getattr(candidate, "reason", None), candidate.__cause__]
        waiting.append(candidate.__context__)
    return found
