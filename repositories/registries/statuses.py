"""Which error a status code or a transport failure is, with the sentence for the operator."""

import email.utils
from datetime import UTC, datetime

from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    CannotPullError,
    NotThereError,
    NotTrustedError,
    RegistryError,
    TryLaterError,
)
from tcss.outbound import Reply
from tcss.outbound_failures import OutboundError

LONGEST_RETRY_AFTER_SECONDS = 15 * 60.0

NOT_KNOWN = "The registry refuses this username and password."
NOT_KNOWN_REMEDY = (
    "Enter username and password again. Where people log in by single sign-on (OIDC), use a robot account."
)
WEB_PAGE = "The answer is a web page, not the registry's API."
WEB_PAGE_REMEDY = "Enter the address of the registry itself, not that of a portal, a proxy or a login page."


def from_outbound(error: OutboundError) -> RegistryError:
    """The adapter's error for a request that got no usable answer."""
    if error.is_passing:
        return TryLaterError(error.code, error.reason, error.remedy)
    if error.code.startswith("REG_TLS") or error.code == "REG_BLOCKED_ADDR":
        return NotTrustedError(error.code, error.reason, error.remedy)
    if error.code.startswith("IMG_"):
        return CannotPullError(error.code, error.reason, error.remedy)
    return BadAnswerError(error.code, error.reason, error.remedy)


def from_status(reply: Reply) -> RegistryError:
    """The error behind a status code that is none of success."""
    error = _of_status(reply)
    error.status = reply.status
    return error


def _of_status(reply: Reply) -> RegistryError:
    status = reply.status
    if status == 401:
        return AccessRefusedError("REG_AUTH", NOT_KNOWN, NOT_KNOWN_REMEDY)
    if status == 403:
        return AccessRefusedError(
            "REG_FORBIDDEN",
            "This account may not do this in the registry.",
            "Give the account the rights to list and pull, or use another account.",
        )
    if status == 404:
        return NotThereError("REG_NOT_FOUND", "The registry does not have what was asked for.")
    if status == 412:
        return AccessRefusedError(
            "REG_FORBIDDEN",
            "A policy of the registry's project forbids pulling this image.",
            "Switch off vulnerability prevention and content trust for this project in the registry, "
            "or allow the image there.",
        )
    if status in {408, 425, 429}:
        return TryLaterError(
            "REG_RATE", "The registry asks for fewer requests.", retry_after=retry_after(reply)
        )
    if status >= 500:
        return TryLaterError(
            "REG_5XX",
            "The registry, or a proxy before it, reports a fault of its own.",
            "Look at the registry's health and log; the question is asked again by itself.",
            retry_after=retry_after(reply),
        )
    if 300 <= status < 400:
        return BadAnswerError(
            "REG_PROTOCOL",
            "The server sends us to another address.",
            "Enter the address it is finally reached at, with https:// if that is where it leads.",
        )
    return BadAnswerError("REG_PROTOCOL", "The server does not understand the registry's API.")


def retry_after(reply: Reply) -> float:
    """Seconds the registry asks us to wait, written as a number or a date; capped, and 0 for nonsense."""
    written = reply.header("Retry-After").strip()
    seconds = 0.0
    if written.isascii() and written.isdecimal() and len(written) < 10:
        seconds = float(written)
    elif written:
        try:
            wanted = email.utils.parsedate_to_datetime(written)
            seconds = (wanted.astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            seconds = 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
