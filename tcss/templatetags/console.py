"""Small filters and tags every page may use: times, digests, severities and text from outside."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince

from images.digests import short
from images.models import NEVER, Severity
from scanning import installed
from scanning.engines.malware import SignatureVersion
from scanning.engines.protocol import DatabaseVersion

register = template.Library()

# Characters that reorder or hide their neighbours: a file name may not pretend to be another one.
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_WEB = re.compile(r"https?://[^\s/?#\\@]+(?:[/?#]|\Z)", re.IGNORECASE)
_MINUTE = timedelta(minutes=1)
_NOTICES = {"success": "ok", "warning": "warn", "error": "fail"}


@register.filter
def visible(value: object) -> str:
    """Text from outside with its direction marks and zero-width characters spelled out as ``\\uNNNN``."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match.group()):04x}", "" if value is None else str(value))


@register.filter
def written_time(value: str) -> str:
    """A moment as somebody else wrote it (``2024-05-01T10:00:00Z``), to the minute."""
    return visible(value)[:16].replace("T", " ", 1)


@register.filter
def short_digest(value: str) -> str:
    """The first 12 hex digits of a digest."""
    return short(value)


@register.filter
def severity_word(value: int) -> str:
    """The lower-case word of a severity's number, as class names and query strings have it."""
    return Severity(value).name.lower()


@register.filter
def severity_label(value: int) -> str:
    """The word of a severity's number as people read it."""
    return str(Severity(value).label)


@register.filter
def reference(address: str) -> str:
    """A reference as a link; one that is not plain http or https is text, whatever it says it is."""
    if _WEB.match(address):
        link = '<a href="{}" target="_blank" rel="noopener noreferrer" class="breakable">{}</a>'
        return format_html(link, address, visible(address))
    return format_html('<span class="breakable">{}</span>', visible(address))


@register.filter
def notice_kind(level: str) -> str:
    """The notice class of a Django message level."""
    return _NOTICES.get(level, "info")


@dataclass(frozen=True, slots=True)
class Freshness:
    """Which vulnerability database scans use now; version None when there is none."""

    version: DatabaseVersion | None
    is_stale: bool


@register.simple_tag
def vulnerability_database() -> Freshness:
    """The vulnerability database as it lies on the disk; no query."""
    version = installed.vulnerability_database().current()
    age = version.age_days(timezone.now()) if version else None
    return Freshness(version, age is not None and age >= settings.DATABASE_STALE_DAYS)


@dataclass(frozen=True, slots=True)
class ClamdFreshness:
    """How old the signatures of clamd are; `is_named` says whether there is to be one."""

    is_named: bool
    version: SignatureVersion | None
    is_stale: bool


@register.simple_tag
def malware_signatures() -> ClamdFreshness:
    """What clamd recognises viruses and trojans by; no query, and clamd is asked once a minute."""
    version = installed.clamd_version()
    age = version.age_days(timezone.now()) if version else None
    is_stale = age is not None and age >= settings.DATABASE_STALE_DAYS
    return ClamdFreshness(settings.CLAMD_ADDRESS is not None, version, is_stale)


@register.simple_tag
def when(value: datetime | None, never: str = "Never") -> str:
    """A moment as people say it ("3 minutes ago"), the exact one on hover."""
    if value is None or value == NEVER:
        return format_html('<span class="muted">{}</span>', never)
    local = timezone.localtime(value)
    age = timezone.now() - value
    # A clock that is a little behind must not put what has just happened into the future.
    words = f"{timesince(value, depth=1)} ago" if age > _MINUTE else "just now"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}",
        words,
    )


@register.simple_tag
def exactly(value: datetime | None, never: str = "Unknown") -> str:
    """A moment to the minute."""
    if value is None or value == NEVER:
        return format_html('<span class="muted">{}</span>', never)
    local = timezone.localtime(value)
    return format_html(
        '<time datetime="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M} {local.tzname()}",
    )


@register.simple_tag
def until(value: datetime) -> str:
    """A moment that is waited for, to the minute and never too early; the day only where it is another."""
    whole = value.replace(second=0, microsecond=0)
    local = timezone.localtime(whole if whole == value else whole + _MINUTE)
    is_today = local.date() == timezone.localtime().date()
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M} {local.tzname()}",
        f"{local:%H:%M}" if is_today else f"{local:%Y-%m-%d %H:%M}",
    )
