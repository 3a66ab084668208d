"""Entitlements and the licenses taken from them; a license lets one image ID be scanned."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from images.models import Image


class EntitlementKind(models.TextChoices):
    """Where an entitlement comes from."""

    BUILT_IN = "built_in", "Built in"
    TRIAL = "trial", "Trial"
    PURCHASED = "purchased", "Purchased"


class Entitlement(models.Model):
    """A quantity of image scan licenses with a validity."""

    kind = models.CharField(max_length=12, choices=EntitlementKind.choices)
    quantity = models.PositiveIntegerField()
    used = models.PositiveIntegerField(default=0)
    starts_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    note = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

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


class LicenseAssignment(models.Model):
    """One image ID's license; all rows with that image ID are licensed by it."""

    image = models.OneToOneField(Image, models.CASCADE, related_name="license_assignment")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="assignments")
    assigned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    assigned_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"license of {self.image_id}"
