"""The quick scan's form: what to look for, and in which images."""

from dataclasses import dataclass

from django import forms
from django.db.models import Q
from django.http import QueryDict

from images.selection import select
from repositories.models import Tag
from scanning.models import Category
from scanning.services import Requestable, preview, scannable_images

ALL, SPECIFIED = "all", "specified"
MAX_LISTED = 100


class ScanForm(forms.Form):
    """Scanning settings; the chosen image versions are checkboxes named `tag` beside it."""

    category = forms.MultipleChoiceField(
        label="Risk category",
        choices=[(category.value, category.label) for category in Category],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Select at least one risk category."},
    )
    images = forms.ChoiceField(
        label="Images",
        choices=[(ALL, "All images"), (SPECIFIED, "Specified images")],
        widget=forms.RadioSelect,
    )
    q = forms.CharField(label="Search", max_length=200, required=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the form's data stand for now: image versions chosen and listed, and what a scan would do."""

    form: ScanForm
    is_specified: bool
    chosen: tuple[Tag, ...]
    listed: tuple[Tag, ...]
    found: int
    gone: int
    image_pks: tuple[int, ...]
    versions: int
    outcome: Requestable

    @property
    def scope(self) -> str:
        """What is asked for, in words."""
        if not self.is_specified:
            return "All images"
        return f"{self.versions:,} specified image version{'' if self.versions == 1 else 's'}"


def read_choice(data: QueryDict) -> Choice:
    """Parse the form's data, whole or not; nothing sent means all categories of all images."""
    if not data:
        data = QueryDict(mutable=True)
        data.setlist("category", [category.value for category in Category])
        data["images"] = ALL
    form = ScanForm(data)
    form.is_valid()
    cleaned = getattr(form, "cleaned_data", {})
    is_specified = cleaned.get("images") == SPECIFIED
    selection = select(data.getlist("tag"))
    named = Tag.objects.visible().filter(image__isnull=False).select_related("image", "registry")
    order = ("repository_name", "name", "pk")
    found = named.exclude(pk__in=selection.tag_pks)
    for word in cleaned.get("q", "").lower().split():
        found = found.filter(Q(search__contains=word) | Q(registry__name__icontains=word))
    if is_specified:
        image_pks, versions = selection.image_pks, len(selection.tag_pks)
    else:
        image_pks = tuple(scannable_images().values_list("pk", flat=True))
        versions = Tag.objects.filter(image__isnull=False, missing_since=None).count()
    return Choice(
        form=form,
        is_specified=is_specified,
        chosen=tuple(named.filter(pk__in=selection.tag_pks).order_by(*order)) if is_specified else (),
        listed=tuple(found.order_by(*order)[:MAX_LISTED]) if is_specified else (),
        found=found.count() if is_specified else 0,
        gone=selection.gone,
        image_pks=image_pks,
        versions=versions,
        outcome=preview(image_pks),
    )
