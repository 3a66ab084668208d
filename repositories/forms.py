"""The form of an image repository: everything its connection needs, and never a password in the page."""

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django import forms

from repositories.credentials import Secret
from repositories.models import PULL_LIMITS, Network, Registry, RegistryKind
from repositories.services import CHANGEABLE
from tcss.outbound import tls_context
from tcss.outbound_addresses import AddressFormError, parse_origin

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Registry]
else:
    _ModelForm = forms.ModelForm

PASSWORD_LENGTH = 1024
CUSTOM_CA_LENGTH = 64 * 1024
DEFAULT_REGION = "default"
NAME_TAKEN = "This instance name is taken."


# How the page groups the fields: a title, and rows of what belongs side by side.
SECTIONS = (
    ("Registry", (("name",), ("kind", "version", "network", "region"), ("address",))),
    ("Account", (("username", "password"),)),
    ("Pulling and trust", (("hourly_pull_limit",), ("verify_tls",), ("custom_ca",))),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A group of fields under one title."""

    title: str
    rows: list[list[forms.BoundField]]


class RegistryForm(_ModelForm):
    """Add or change an image repository."""

    kind = forms.ChoiceField(
        label="Repository type", choices=[(RegistryKind.HARBOR.value, RegistryKind.HARBOR.label)]
    )
    network = forms.ChoiceField(label="Network type", choices=[(Network.PUBLIC.value, Network.PUBLIC.label)])
    region = forms.ChoiceField(choices=[(DEFAULT_REGION, "Default region")])
    password = forms.CharField(
        max_length=PASSWORD_LENGTH,
        strip=False,
        widget=forms.PasswordInput(
            attrs={"autocomplete": "new-password", "hx-preserve": "true"}, render_value=False
        ),
    )
    hourly_pull_limit = forms.TypedChoiceField(
        label="Limit",
        required=False,
        coerce=int,
        empty_value=None,
        choices=[("", "Unlimited"), *((str(limit), str(limit)) for limit in PULL_LIMITS)],
        help_text="Images whose content may be pulled for scanning in any hour. When it is reached, scans "
        "wait and go on by themselves; data updates are not counted.",
    )

    class Meta:
        model = Registry
        fields = [
            "name",
            "kind",
            "version",
            "network",
            "region",
            "address",
            "username",
            "hourly_pull_limit",
            "verify_tls",
            "custom_ca",
        ]
        widgets = {
            "address": forms.TextInput(
                attrs={"placeholder": "https://harbor.example.org", "inputmode": "url", "spellcheck": "false"}
            ),
            "username": forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            "custom_ca": forms.Textarea(
                attrs={"rows": 5, "spellcheck": "false", "placeholder": "-----BEGIN CERTIFICATE-----"}
            ),
        }
        help_texts = {
            "address": "Scheme, host and port of the registry itself, without a path.",
            "username": "A robot account that may list and pull is enough, for example robot$scanner.",
            "verify_tls": "Leave this ticked. For a self-signed certificate, paste its authority below "
            "rather than untick it: without validation anybody in between could read the password.",
            "custom_ca": "PEM certificates trusted for this one registry, beside the public authorities.",
        }

    field_order = CHANGEABLE

    def __init__(self, *args: object, **fields: object) -> None:
        super().__init__(*args, **fields)  # type: ignore[arg-type]
        self._stored = (self.instance.address, self.instance.username) if self.instance.pk else None
        if self._stored:
            self.fields["password"].required = False
            self.fields["password"].help_text = "Leave it empty to keep the stored one."

    @property
    def sections(self) -> list[Section]:
        """The form's fields as the page groups them."""
        return [
            Section(title, [[self[name] for name in row if name in self.fields] for row in rows])
            for title, rows in SECTIONS
        ]

    def clean_name(self) -> str:
        """A name nobody else has, whatever its case."""
        name = str(self.cleaned_data["name"])
        if not name.isprintable():
            raise forms.ValidationError("The name holds a character that cannot be shown.")
        if Registry.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(NAME_TAKEN)
        return name

    def clean_address(self) -> str:
        """The address in its one form."""
        try:
            return str(parse_origin(str(self.cleaned_data["address"])))
        except AddressFormError as error:
            raise forms.ValidationError(str(error)) from None

    def clean_username(self) -> str:
        """A name that Basic authentication can carry: the colon ends it there."""
        username = str(self.cleaned_data["username"])
        if ":" in username or not username.isprintable():
            raise forms.ValidationError("A username has no colon and no invisible character.")
        return username

    def clean_custom_ca(self) -> str:
        """Certificates that can be read."""
        pem = str(self.cleaned_data["custom_ca"]).strip()
        if len(pem) > CUSTOM_CA_LENGTH:
            raise forms.ValidationError("This is more than the certificates of a few authorities.")
        try:
            tls_context(verify=True, custom_ca=pem)
        except (ssl.SSLError, ValueError, TypeError):
            raise forms.ValidationError("This is no certificate in PEM form.") from None
        return pem

    def clean(self) -> None:
        """A stored password goes only where, and for whom, it was entered."""
        super().clean()
        wanted = (self.cleaned_data.get("address"), self.cleaned_data.get("username"))
        keeps = self._stored is not None and not self.cleaned_data.get("password")
        if keeps and None not in wanted and wanted != self._stored:
            self.add_error("password", "Enter the password again for the new address or username.")
        password = self.cleaned_data.pop("password", "")
        if password:
            self.instance.password = Secret.of(password)
