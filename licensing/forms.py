"""What may be entered about licensing."""

from typing import Any

from django import forms
from django.utils import timezone

from licensing.models import Entitlement, EntitlementKind

_KINDS = [choice for choice in EntitlementKind.choices if choice[0] != EntitlementKind.BUILT_IN]


class EntitlementForm(forms.ModelForm):  # type: ignore[type-arg]
    """An entitlement; how many of its seats are taken is never entered."""

    class Meta:
        model = Entitlement
        fields = ["kind", "quantity", "starts_at", "ends_at", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            # The one that came with the installation is not made twice.
            self.fields["kind"].choices = _KINDS  # type: ignore[attr-defined]
            self.fields["starts_at"].initial = timezone.now
        elif "kind" in self.fields:  # Who may only look has no fields.
            self.fields["kind"].disabled = True

    def clean_quantity(self) -> int:
        """Not fewer than are taken."""
        quantity: int = self.cleaned_data["quantity"]
        if self.instance.pk is not None and quantity < self.instance.used:
            raise forms.ValidationError(
                f"{self.instance.used} of its licenses are taken, and a license is not taken back."
            )
        return quantity
