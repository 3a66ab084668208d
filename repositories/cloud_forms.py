"""The forms of built-in connections and of the cloud accounts they come from; no secret is ever in a page."""

from typing import TYPE_CHECKING

from django import forms

from repositories.cloud import regions_of
from repositories.credentials import Secret
from repositories.models import PULL_LIMITS, CloudAccount, Network, Registry, RegistryKind
from repositories.registries.tencent_api import is_region, is_secret_id

if TYPE_CHECKING:
    _RegistryForm = forms.ModelForm[Registry]
    _AccountForm = forms.ModelForm[CloudAccount]
else:
    _RegistryForm = forms.ModelForm
    _AccountForm = forms.ModelForm

SECRET_LENGTH = 255


class BuiltInForm(_RegistryForm):
    """What a person may change of a connection that came from a cloud account."""

    hourly_pull_limit = forms.TypedChoiceField(
        label="Limit",
        required=False,
        coerce=int,
        empty_value=None,
        choices=[("", "Unlimited"), *((str(limit), str(limit)) for limit in PULL_LIMITS)],
        help_text="Images whose content may be pulled for scanning in any hour.",
    )

    class Meta:
        model = Registry
        fields = ["hourly_pull_limit", "network"]
        widgets = {"network": forms.RadioSelect}

    def __init__(self, *args: object, **fields: object) -> None:
        super().__init__(*args, **fields)  # type: ignore[arg-type]
        if self.instance.kind != RegistryKind.TCR:
            del self.fields["network"]

    @property
    def network_chosen(self) -> Network:
        """The network asked for, or the one it has."""
        return Network(self.cleaned_data.get("network") or self.instance.network)


class CloudAccountForm(_AccountForm):
    """An account in support's admin: its secrets are written here and never read back."""

    secret_key = forms.CharField(
        label="Secret key",
        required=False,
        max_length=SECRET_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
        help_text="Stored encrypted and never shown. Leave it empty to keep the stored one.",
    )
    regions = forms.CharField(
        required=False,
        max_length=1000,
        help_text="Names with commas between: ap-guangzhou, ap-singapore. Empty: all but finance regions.",
    )
    personal_password = forms.CharField(
        label="CCR password",
        required=False,
        max_length=SECRET_LENGTH,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
        help_text="The fixed password of the personal edition. Leave it empty to keep the stored one.",
    )

    class Meta:
        model = CloudAccount
        fields = ["site", "secret_id", "regions", "personal_username"]
        help_texts = {
            "personal_username": "The account's number (UIN), which is the personal edition's username.",
        }

    field_order = ["site", "secret_id", "secret_key", "regions", "personal_username", "personal_password"]

    def __init__(self, *args: object, **fields: object) -> None:
        super().__init__(*args, **fields)  # type: ignore[arg-type]
        self._secret_id = self.instance.secret_id if self.instance.pk else ""
        self._personal_username = self.instance.personal_username if self.instance.pk else ""
        self.initial["regions"] = ", ".join(str(name) for name in self.instance.regions or [])

    def clean_secret_id(self) -> str:
        """A text that may stand in a header."""
        secret_id = str(self.cleaned_data["secret_id"]).strip()
        if not is_secret_id(secret_id):
            raise forms.ValidationError("A secret ID is 8 to 128 letters and digits.")
        return secret_id

    def clean_regions(self) -> list[str]:
        """Names of the form regions have, each once."""
        names = regions_of(word.strip().lower() for word in str(self.cleaned_data["regions"]).split(","))
        wrong = [name for name in names if not is_region(name)]
        if wrong:
            raise forms.ValidationError("A region's name has only letters, digits and hyphens: ap-guangzhou.")
        return names

    def clean_personal_username(self) -> str:
        """A name that Basic authentication can carry."""
        name = str(self.cleaned_data["personal_username"])
        if ":" in name or not name.isprintable():
            raise forms.ValidationError("A username has no colon and no invisible character.")
        return name

    def clean(self) -> None:
        """A stored secret goes only with the name it was entered for."""
        super().clean()
        key = str(self.cleaned_data.pop("secret_key", ""))
        if not key and self.cleaned_data.get("secret_id", self._secret_id) != self._secret_id:
            self.add_error("secret_key", "Enter the secret key of this secret ID.")
        if not (key.isascii() and key.isprintable() and " " not in key):
            self.add_error("secret_key", "A secret key has only ASCII letters, digits and signs.")
        elif key:
            self.instance.secret_key = Secret.of(key)
        password = str(self.cleaned_data.pop("personal_password", ""))
        name = self.cleaned_data.get("personal_username", self._personal_username)
        if password:
            self.instance.personal_password = Secret.of(password)
        elif name != self._personal_username:
            # The stored one was for another name.
            self.instance.personal_password = None
