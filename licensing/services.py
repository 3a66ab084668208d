"""Takes seats of entitlements for images, and lets licenses lapse with them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Sum
from django.db.models.functions import Now

from images.models import Image
from licensing.models import Entitlement, LicenseAssignment

log = logging.getLogger(__name__)

# Rows of one INSERT statement.
_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Assigned:
    """What came of licensing some images: keys of images, the newest first."""

    licensed: tuple[int, ...]
    already: tuple[int, ...]
    refused: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What licensing some images would do now: numbers of images, and the seats left to do it with."""

    licensed: int
    already: int
    refused: int
    remaining: int


def assign(image_pks: Iterable[int], user: User | None) -> Assigned:
    """License these images: all of them, or the newest as far as the seats go.

    An image that has a license keeps it and takes no seat; one that does not exist is left out. Seats of the
    entitlement that ends soonest are taken first. ``user`` is None where nobody asked, as in a command.
    """
    with transaction.atomic():
        entitlements = _lock_entitlements_with_room()
        # Whoever else licenses these images now waits for our lock, so what is read from here on stays true.
        lapse()
        wanted, already = _split_by_license(image_pks)
        licensed = _take_seats(entitlements, wanted, user)
        _mark(licensed, is_licensed=True)
    refused = wanted[len(licensed) :]
    log.info(
        "Images were licensed",
        extra={"licensed": len(licensed), "already": len(already), "refused": len(refused)},
    )
    return Assigned(licensed=tuple(licensed), already=tuple(already), refused=tuple(refused))


def forecast(image_pks: Iterable[int]) -> Forecast:
    """What ``assign`` would do with these images if nobody else took a seat meanwhile."""
    wanted, already = _split_by_license(image_pks)
    left = remaining()
    licensed = min(left, len(wanted))
    return Forecast(licensed=licensed, already=len(already), refused=len(wanted) - licensed, remaining=left)


def remaining() -> int:
    """Seats that can be taken now, over all valid entitlements."""
    left = Entitlement.objects.valid().aggregate(left=Sum(F("quantity") - F("used")))["left"]
    return int(left or 0)


def lapse() -> int:
    """End the licenses of entitlements that have ended; their images are unlicensed again. Returns how many.

    A scan that runs is not disturbed, and results stay; only new scans need a new license.
    """
    ended = LicenseAssignment.objects.in_force().filter(entitlement__in=Entitlement.objects.ended())
    with transaction.atomic():
        images = list(ended.select_for_update().values_list("image_id", flat=True))
        if not images:
            return 0
        LicenseAssignment.objects.in_force().filter(image__in=images).update(lapsed_at=Now())
        _mark(images, is_licensed=False)
    log.info("Licenses lapsed with their entitlement", extra={"images": len(images)})
    return len(images)


def _mark(image_pks: Iterable[int], *, is_licensed: bool) -> None:
    """Write the images' summary column; their rows are locked in the order everybody locks them in."""
    images = Image.objects.filter(pk__in=list(image_pks))
    locked = list(images.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    Image.objects.filter(pk__in=locked).update(is_licensed=is_licensed)


def _lock_entitlements_with_room() -> list[Entitlement]:
    """Valid entitlements that have seats, locked until the transaction ends, always in the same order."""
    return list(
        Entitlement.objects.valid()
        .filter(used__lt=F("quantity"))
        .soonest_ending_first()
        .select_for_update(no_key=True)
    )


def _split_by_license(image_pks: Iterable[int]) -> tuple[list[int], list[int]]:
    """Those of the images that have no license, and those that have one; the newest first."""
    in_force = LicenseAssignment.objects.in_force().filter(image=OuterRef("pk"))
    rows = (
        Image.objects.filter(pk__in=set(image_pks))
        .annotate(has_license=Exists(in_force))
        .order_by("-first_seen_at", "-pk")
        .values_list("pk", "has_license")
    )
    wanted: list[int] = []
    already: list[int] = []
    for pk, has_license in rows:
        (already if has_license else wanted).append(pk)
    return wanted, already


def _take_seats(entitlements: Sequence[Entitlement], wanted: Sequence[int], user: User | None) -> list[int]:
    """Give seats to the first of ``wanted`` until either runs out; returns those that got one."""
    done = 0
    for entitlement in entitlements:
        seats = min(entitlement.remaining, len(wanted) - done)
        # The lock makes this true; the condition makes it certain: the row itself refuses the seat too many.
        room = Entitlement.objects.filter(pk=entitlement.pk, used__lte=F("quantity") - seats)
        if not seats or not room.update(used=F("used") + seats):
            continue
        LicenseAssignment.objects.bulk_create(
            [
                LicenseAssignment(image_id=pk, entitlement=entitlement, assigned_by=user)
                for pk in wanted[done : done + seats]
            ],
            batch_size=_BATCH,
        )
        done += seats
    return list(wanted[:done])
