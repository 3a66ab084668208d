"""Entitlements and the licenses taken from them; a license lets one image ID be scanned."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from images.models import Image


class EntitlementKind(models.TextChoices):
    """Where an entitlement comes from."""

    BUILT_IN = "built_in", "Built in"
    TRIAL = "trial", "Trial"
    PURCHASED = "purchased", "Purchased"


class Validity(models.TextChoices):
    """Where an entitlement is in its term."""

    NOT_BEGUN = "not_begun", "Not begun"
    VALID = "valid", "Valid"
    ENDED = "ended", "Ended"


class EntitlementQuerySet(models.QuerySet["Entitlement"]):
    """Questions about entitlements; the database's clock answers them."""

    def valid(self) -> Self:
        """Those that have begun and have not ended."""
        return self.filter(self._not_ended(), starts_at__lte=Now())

    def ended(self) -> Self:
        """Those whose licenses hold no longer."""
        return self.exclude(self._not_ended())

    def soonest_ending_first(self) -> Self:
        """In the order in which their seats are taken: what would be lost first goes first."""
        return self.order_by(models.F("ends_at").asc(nulls_last=True), "id")

    @staticmethod
    def _not_ended() -> models.Q:
        return models.Q(ends_at=None) | models.Q(ends_at__gt=Now())


class Entitlement(models.Model):
    """A quantity of image scan licenses with a validity.

    A seat once taken is never given back: neither by a failed scan nor by the image's disappearance.
    """

    kind = models.CharField(max_length=12, choices=EntitlementKind.choices)
    quantity = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)
    starts_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    note = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = EntitlementQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(used__lte=models.F("quantity")), name="entitlement_never_oversold"
            ),
            models.CheckConstraint(
                condition=models.Q(ends_at=None) | models.Q(ends_at__gt=models.F("starts_at")),
                name="entitlement_ends_after_start",
            ),
            models.UniqueConstraint(
                "kind", condition=models.Q(kind="built_in"), name="entitlement_one_built_in"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.used} of {self.quantity}"

    @property
    def remaining(self) -> int:
        """Seats that nobody has taken."""
        return self.quantity - self.used

    def validity_at(self, moment: datetime) -> Validity:
        """Where ``moment`` is in its term."""
        if moment < self.starts_at:
            return Validity.NOT_BEGUN
        if self.ends_at is not None and moment >= self.ends_at:
            return Validity.ENDED
        return Validity.VALID


class LicenseAssignmentQuerySet(models.QuerySet["LicenseAssignment"]):
    """Questions about licenses."""

    def in_force(self) -> Self:
        """Licenses that have not lapsed; an image has at most one."""
        return self.filter(lapsed_at=None)


class LicenseAssignment(models.Model):
    """One seat taken for one image ID; all rows with that image ID are licensed by it until it lapses."""

    image = models.ForeignKey(Image, models.PROTECT, related_name="license_assignments")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="assignments")
    assigned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    assigned_at = models.DateTimeField(db_default=Now(), editable=False)
    lapsed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When its entitlement was found to have ended."
    )

    objects = LicenseAssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "image", condition=models.Q(lapsed_at=None), name="license_once_for_image"
            ),
        ]
        indexes = [
            models.Index(fields=["entitlement"], condition=models.Q(lapsed_at=None), name="license_in_force"),
        ]

    def __str__(self) -> str:
        return f"license of {self.image_id}"
