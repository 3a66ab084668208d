"""Strict, typed readers of the process environment; secrets may come from a file named in ``NAME_FILE``."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tcss.outbound_addresses import AddressFormError, Service, parse_origin

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WORD = "[a-z0-9][a-z0-9._-]{0,63}"
_PLATFORM = re.compile(f"{_WORD}/{_WORD}(/{_WORD})?", re.ASCII)


class SettingError(Exception):
    """A setting is missing or has a value that cannot be meant; the sentence names the setting."""


def text(name: str, default: str | None = None) -> str:
    """The variable's text; raises SettingError when it is missing and has no default."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise SettingError(f"{name} is not set")
    return default


def secret(name: str) -> str:
    """A secret from ``NAME`` or from the file named by ``NAME_FILE``; never has a default."""
    file_name = os.environ.get(f"{name}_FILE", "").strip()
    if file_name:
        try:
            value = Path(file_name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingError(f"{name}_FILE cannot be read: {error.strerror}") from error
    else:
        value = os.environ.get(name, "").strip()
    if not value:
        raise SettingError(f"{name} or {name}_FILE is not set")
    return value


def optional_secret(name: str) -> str:
    """A secret as ``secret`` reads it, or an empty text where neither variable is set."""
    is_set = os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE", "").strip()
    return secret(name) if is_set else ""


def given_secret(name: str) -> str:
    """A secret as ``secret`` reads it; empty where neither variable is set, or the file is empty.

    A container's secret has to be a file, also where there is nothing to say.
    """
    file_name = os.environ.get(f"{name}_FILE", "").strip()
    if not file_name:
        return os.environ.get(name, "").strip()
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingError(f"{name}_FILE cannot be read") from None


def boolean(name: str, *, default: bool) -> bool:
    """``1/true/yes/on`` or ``0/false/no/off``; anything else is an error."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise SettingError(f"{name} must be 1 or 0, not {value!r}")


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """A whole number within bounds."""
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise SettingError(f"{name} must be a whole number, not {value!r}") from None
    if not minimum <= number <= maximum:
        raise SettingError(f"{name} must be between {minimum} and {maximum}, not {number}")
    return number


def words(name: str, default: str = "") -> list[str]:
    """A comma separated list without empty entries."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, as registries write it: ``os/architecture[/variant]``."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.os, self.architecture, self.variant]))


def platform(name: str, default: str) -> Platform:
    """A platform in small letters, as in ``linux/amd64`` or ``linux/arm/v7``."""
    value = text(name, default)
    if not _PLATFORM.fullmatch(value):
        raise SettingError(f"{name} must be os/architecture or os/architecture/variant, not {value!r}")
    return Platform(*value.split("/"))


def networks(name: str, default: str = "") -> list[Network]:
    """A comma separated list of address ranges in CIDR form."""
    try:
        return [ipaddress.ip_network(word) for word in words(name, default)]
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from None


def origin(name: str) -> str:
    """Scheme, host and port, or an empty text where the variable is not set."""
    value = os.environ.get(name, "").strip()
    try:
        return str(parse_origin(value)) if value else ""
    except AddressFormError as error:
        raise SettingError(f"{name}: {error}") from None


def socket_address(name: str) -> Path | tuple[str, int] | None:
    """Where a service listens: a path, ``host:port`` or ``[IPv6]:port``; None where it is not set."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    if value.startswith("/"):
        return Path(value)
    try:
        url = urlsplit(f"//{value}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or not port or url.netloc != value or "@" in value:
        raise SettingError(f"{name} must be the path of a socket or host:port, not {value!r}")
    return host, port


def folder(name: str) -> Path | None:
    """An absolute path of a folder; None where it is not set."""
    value = os.environ.get(name, "").strip()
    if value and not value.startswith("/"):
        raise SettingError(f"{name} must be an absolute path, not {value!r}")
    return Path(value) if value else None


def own_services(public_url: str, names: list[str], *addresses: str) -> list[Service]:
    """Where the console itself is, under each of its names, and the services at these addresses.

    A service that is reached by a socket file has no place in it. A proxy may have the console's own port.
    """
    public = urlsplit(public_url)
    port = public.port or {"http": 80, "https": 443}.get(public.scheme, 0)
    hosts = {public.hostname or "", *(name.strip("[]") for name in names)} - {"", "*"}
    found = [Service(host.lower(), port, shared=True) for host in sorted(hosts)]
    for address in addresses:
        url = urlsplit(address)
        usual = {"postgres": 5432, "postgresql": 5432, "redis": 6379, "rediss": 6379}.get(url.scheme)
        host = parse_qs(url.query).get("host", [unquote(url.hostname or "")])[0]
        if usual and host and not host.startswith("/"):
            found.append(Service(host.lower(), url.port or usual))
    return found


def database(name: str) -> dict[str, object]:
    """Django's connection settings from ``postgres://user:password@host:port/database?host=/socket/folder``."""
    url = urlsplit(secret(name))
    if url.scheme not in {"postgres", "postgresql"}:
        raise SettingError(f"{name} must begin with postgres://")
    query = parse_qs(url.query)
    host = query.get("host", [unquote(url.hostname or "")])[0]
    # A database that does not answer must not hold a health probe, or a page, for minutes.
    options: dict[str, object] = {"application_name": "tcss", "connect_timeout": 10}
    if "sslmode" in query:
        options["sslmode"] = query["sslmode"][0]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path.lstrip("/")) or "tcss",
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": host,
        "PORT": str(url.port or query.get("port", [""])[0]),
        "OPTIONS": options,
    }


def celery_broker(name: str) -> str:
    """Celery's spelling of a Redis address: ``unix:///path?db=n`` becomes ``redis+socket:///path?virtual_host=n``."""
    address = secret(name)
    url = urlsplit(address)
    if url.scheme == "unix":
        number = parse_qs(url.query).get("db", ["0"])[0]
        return f"redis+socket://{url.path}?virtual_host={number}"
    if url.scheme in {"redis", "rediss"}:
        return address
    raise SettingError(f"{name} must begin with unix://, redis:// or rediss://")
