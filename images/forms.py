"""What the tabs of an image's details may be asked for."""

from django import forms

from images.models import Severity

_SEVERITIES = [(each.name.lower(), each.label) for each in reversed(Severity)]
_LARGEST_OFFSET = 10_000_000


class FindingForm(forms.Form):
    """Which part of a list of findings to show; a value that makes no sense is as good as none."""

    q = forms.CharField(required=False, max_length=200, strip=True)
    severity = forms.MultipleChoiceField(required=False, choices=_SEVERITIES)
    fix = forms.ChoiceField(required=False, choices=[("yes", "Has a fix"), ("no", "Has no fix")])
    type = forms.CharField(required=False, max_length=128)
    offset = forms.IntegerField(required=False, min_value=0, max_value=_LARGEST_OFFSET)

    def asked(self, name: str) -> str:
        """The text of a field, empty when it was not understood."""
        self.is_valid()
        return str(self.cleaned_data.get(name) or "")

    @property
    def severities(self) -> frozenset[int]:
        """The severities asked for; none of them means all of them."""
        self.is_valid()
        return frozenset(Severity[word.upper()] for word in self.cleaned_data.get("severity", []))

    @property
    def fixable(self) -> bool | None:
        """Whether there must, or must not, be a fix; None is either."""
        return {"yes": True, "no": False}.get(self.asked("fix"))

    @property
    def start(self) -> int:
        """How many findings come before this page."""
        return int(self.asked("offset") or 0)

    @property
    def is_narrowed(self) -> bool:
        """Whether any filter is set."""
        return bool(self.asked("q") or self.severities or self.fixable is not None or self.asked("type"))
