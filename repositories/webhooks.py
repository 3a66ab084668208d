"""Webhooks: the address and the token a registry announces itself with, and what is done with what it says.

What is posted is a hint that a repository changed, and nothing more: content always comes from the registry.
"""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from repositories import hints
from repositories.models import Registry, RegistryKind
from repositories.webhook_events import EventKind, parse_event

_RANDOM_BYTES = 32
_HEARD_EVERY = timedelta(minutes=1)
# Of no token: nothing is hashed to it.
_NOBODYS_HASH = "0" * 64


def has_webhooks(registry: Registry) -> bool:
    """Whether a registry of this kind can post to an address; CCR cannot."""
    return registry.kind != RegistryKind.CCR


def renew(registry: Registry) -> str:
    """Switch the webhook on, or give it another token; nobody can ask for the token a second time."""
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    if registry.webhook_id is None:
        registry.webhook_id = secrets.token_urlsafe(_RANDOM_BYTES)
    registry.webhook_token_hash = _hashed(token)
    registry.save(update_fields=["webhook_id", "webhook_token_hash"])
    return token


def switch_off(registry: Registry) -> None:
    """Answer the registry's webhook no more; its address is never used again."""
    registry.webhook_id = None
    registry.webhook_token_hash = ""
    registry.webhook_heard_at = None
    registry.save(update_fields=["webhook_id", "webhook_token_hash", "webhook_heard_at"])
    hints.waiting(registry).delete()


def addressed(webhook_id: str, tokens: Iterable[str]) -> Registry | None:
    """The registry of this address, if one of the tokens is its own; None for a wrong address or token alike.

    Both take the same steps, so that an answer's time does not tell which it was.
    """
    found = Registry.objects.filter(webhook_id=webhook_id).only("webhook_token_hash", "webhook_heard_at")
    registry = found.first()
    expected = registry.webhook_token_hash if registry is not None else _NOBODYS_HASH
    matches = [secrets.compare_digest(_hashed(token), expected) for token in tokens]
    return registry if any(matches) else None


def receive(registry: Registry, body: bytes) -> None:
    """Take a registry's webhook; raises MalformedEventError."""
    event = parse_event(body)
    _note_heard(registry)
    if event.kind is not EventKind.OTHER and event.repositories:
        hints.note(registry, event.repositories)


def _note_heard(registry: Registry) -> None:
    """Keep when the registry was last heard, to the minute: a flood of events is not one of writes."""
    heard = registry.webhook_heard_at
    if heard is None or timezone.now() - heard >= _HEARD_EVERY:
        long_ago = Q(webhook_heard_at=None) | Q(webhook_heard_at__lte=Now() - _HEARD_EVERY)
        Registry.objects.filter(long_ago, pk=registry.pk).update(webhook_heard_at=Now())


def _hashed(token: str) -> str:
    """The token as it is kept: with 256 random bits there is nothing to guess, so one round is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
