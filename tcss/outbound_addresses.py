"""Which addresses the console may connect to: the form of a typed one, and the rule for a resolved one.

Names prove nothing: the rule looks at what a name resolves to at the moment of connecting, at every address
of the answer, and the connection goes to the very address that was looked at.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS_LENGTH = 255
_EXAMPLE = "for example https://harbor.example.org or https://harbor.example.org:8443"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Never connected to, whatever the installer allows: no registry is here, but the keys of a cloud account are.
_NEVER = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # the host agent of Azure, an otherwise public address
        "169.254.0.0/16",  # link-local, and nearly every cloud's metadata
        "192.0.0.192/32",  # metadata of Oracle Cloud
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fd00:ec2::/32",  # metadata and time of AWS
        "fd20:ce::254/128",  # metadata of Google Cloud
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
]
# Not public (IANA's special-purpose registries): only where the installer allows it.
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
]
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
# IPv6 addresses that are another way to write an IPv4 address, in the last 32 bits.
_CARRIES_IPV4 = [ipaddress.IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "::/96")]


class AddressFormError(ValueError):
    """A typed address cannot be meant; the sentence says what to type."""


class AddressBlockedError(Exception):
    """An address the console does not connect to."""


@dataclass(frozen=True, slots=True)
class Service:
    """Something of the console's own, where no registry is: its database, its broker, itself.

    A ``shared`` address and port belong to a proxy that may lead to a registry under another name.
    """

    host: str
    port: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: all that an address of a registry has."""

    scheme: str
    host: str
    port: int

    @property
    def is_https(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.scheme == "https"

    @property
    def netloc(self) -> str:
        """Host and port as a URL has them; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def parse_origin(text: str) -> Origin:
    """The origin somebody typed as a registry's address; raises AddressFormError with what to type instead.

    Strict on purpose: ``urlsplit`` and resolvers read many texts in ways nobody expects, such as
    ``http://a@b``, ``http://a\\@b`` or ``http://0x7f.1``.
    """
    text = text.strip(" ")
    if not text:
        raise AddressFormError(f"Enter an address, {_EXAMPLE}.")
    if len(text) > ADDRESS_LENGTH:
        raise AddressFormError(f"The address is longer than {ADDRESS_LENGTH} characters.")
    if not text.isascii():
        raise AddressFormError("Write the host in ASCII; a name in another script has an xn-- form.")
    if not text.isprintable() or any(sign in text for sign in ' \\"<>^`{|}%'):
        raise AddressFormError(f"The address holds a character that no address has; enter one, {_EXAMPLE}.")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in _DEFAULT_PORTS:
        raise AddressFormError(f"Begin the address with https:// (or http://), {_EXAMPLE}.")
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest:
        raise AddressFormError("Leave the account out of the address; it has fields of its own.")
    if rest[len(netloc) :].strip("/"):
        raise AddressFormError(f"Only scheme, host and port belong here: {scheme.lower()}://{netloc.lower()}")
    scheme = scheme.lower()
    host, port_text = _split_port(netloc.lower())
    if port_text and not (port_text.isdecimal() and len(port_text) <= 5 and 1 <= int(port_text) <= 65535):
        raise AddressFormError("The port is a number from 1 to 65535.")
    return Origin(scheme, _parse_host(host), int(port_text) if port_text else _DEFAULT_PORTS[scheme])


def origin_of(url: str) -> Origin | None:
    """The origin of a URL a server sent us, or None where it has none that we would connect to."""
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in " \\"):
        return None
    try:
        parts = urlsplit(url)
        return parse_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return None


def _split_port(netloc: str) -> tuple[str, str]:
    if netloc.startswith("["):
        host, bracket, rest = netloc.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise AddressFormError("Write an IPv6 address in brackets: https://[2001:db8::1]:8443")
        return host + bracket, _port(rest)
    host, colon, port = netloc.partition(":")
    return host, _port(colon + port)


def _port(text: str) -> str:
    if text == ":":
        raise AddressFormError("The port is a number from 1 to 65535.")
    return text[1:]


def _parse_host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise AddressFormError("This is no IPv6 address.") from None
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        # Resolvers take 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 for addresses; people mean four numbers.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressFormError("Write an IPv4 address as four decimal numbers.") from None
    if len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        raise AddressFormError(f"This is no host name; enter an address, {_EXAMPLE}.")
    return host


def is_allowed(address: IPAddress, allowed_networks: Iterable[Network]) -> bool:
    """Whether the console may connect to this address: public, or non-public and allowed by the installer."""
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Address(int(address))  # without its zone
        carried = next((net for net in _CARRIES_IPV4 if address in net), None)
        if address == ipaddress.IPv6Address("::1"):
            # A name of this machine leads to both, and both are the same machine.
            return any(address in network for network in allowed_networks) or is_allowed(
                ipaddress.IPv4Address("127.0.0.1"), allowed_networks
            )
        if carried is not None:
            return is_allowed(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), allowed_networks)
    if any(address in network for network in _NEVER):
        return False
    is_public = not any(address in network for network in _NOT_PUBLIC) and (
        address.version == 4 or address in _PUBLIC_IPV6
    )
    return is_public or any(address in network for network in allowed_networks)


def check_addresses(addresses: Iterable[str], allowed_networks: Iterable[Network]) -> None:
    """Refuse the whole answer of a resolver when one address of it is not allowed; AddressBlockedError.

    One bad address among good ones is how a name is made to lead somewhere else on the next attempt.
    """
    networks = tuple(allowed_networks)
    for text in addresses:
        if not is_allowed(ipaddress.ip_address(text), networks):
            raise AddressBlockedError
