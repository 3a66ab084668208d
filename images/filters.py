"""What the query string of the Repository Images page may ask for, validated, as conditions on its rows."""

import re
from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import Q, QuerySet, TextChoices

from images.models import NEVER, ArtifactKind, CategoryStatus, Image, ScanStatus, Severity
from repositories.models import Registry, RegistryKind, Tag

SEARCH_LENGTH = 300
# Longer lists of image IDs than this come from a prefix too short to mean one image.
_MAX_IMAGE_IDS = 200
_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})\Z")
# Rows of these kinds are images; the others are listed only when somebody asks for them.
IMAGE_KINDS = (ArtifactKind.IMAGE, ArtifactKind.INDEX)


class Security(TextChoices):
    """What is known of an image's safety: "found nothing" and "did not look" stay apart."""

    AT_RISK = "at_risk", "At risk"
    VULNERABLE = "vulnerable", "Vulnerabilities found"
    MALWARE = "malware", "Viruses or trojans found"
    SENSITIVE = "sensitive", "Sensitive data found"
    NO_RISK = "no_risk", "No risk found"
    UNASSESSED = "unassessed", "Not assessed"


class Licensing(TextChoices):
    """Whether an image may be scanned."""

    LICENSED = "licensed", "Licensed"
    UNLICENSED = "unlicensed", "Not licensed"


class Presence(TextChoices):
    """Whether the last data update still saw an image version."""

    PRESENT = "present", "In the last data update"
    MISSING = "missing", "Not in the last data update"


_SECURITY = {
    Security.AT_RISK: Q(image__worst_severity__gte=0),
    Security.VULNERABLE: Q(image__vulnerability_count__gt=0),
    Security.MALWARE: Q(image__malware_count__gt=0),
    Security.SENSITIVE: Q(image__sensitive_count__gt=0),
    Security.NO_RISK: Q(
        image__worst_severity=-1,
        image__vulnerabilities_status=CategoryStatus.SCANNED,
        image__last_scanned_at__gt=NEVER,
    ),
    Security.UNASSESSED: Q(image__last_scanned_at=NEVER) | Q(image=None),
}


class ImageFilter(django_filters.FilterSet):  # type: ignore[misc]
    """The filters of the list; those of different names narrow each other, values of one name widen it."""

    q = django_filters.CharFilter(label="Search", method="search", max_length=SEARCH_LENGTH)
    status = django_filters.MultipleChoiceFilter(
        label="Status", choices=ScanStatus.choices, method="by_status"
    )
    security = django_filters.MultipleChoiceFilter(
        label="Security status", choices=Security.choices, method="by_security"
    )
    severity = django_filters.MultipleChoiceFilter(
        label="Worst severity",
        choices=[(each.name.lower(), each.label) for each in reversed(Severity)],
        method="by_severity",
    )
    type = django_filters.MultipleChoiceFilter(
        label="Repository type", choices=RegistryKind.choices, method="by_type"
    )
    licensing = django_filters.ChoiceFilter(
        label="Licensing status", choices=Licensing.choices, method="by_licensing"
    )
    registry = django_filters.MultipleChoiceFilter(label="Image repository", field_name="registry")
    presence = django_filters.ChoiceFilter(label="Presence", choices=Presence.choices, method="by_presence")
    kind = django_filters.MultipleChoiceFilter(
        label="Kind", choices=ArtifactKind.choices, field_name="manifest__kind"
    )

    class Meta:
        model = Tag
        fields: list[str] = []

    def __init__(self, data: Any, queryset: QuerySet[Tag], *, registries: Sequence[Registry]) -> None:
        super().__init__(data, queryset)
        self._registries = registries
        self.filters["registry"].extra["choices"] = [(str(each.pk), each.name) for each in registries]

    def filter_queryset(self, queryset: QuerySet[Tag]) -> QuerySet[Tag]:
        """The rows that pass; charts, signatures and the like only when their kind is asked for."""
        if not self.form.cleaned_data.get("kind"):
            queryset = queryset.filter(manifest__kind__in=IMAGE_KINDS)
        rows: QuerySet[Tag] = super().filter_queryset(queryset)
        return rows

    def search(self, queryset: QuerySet[Tag], _name: str, value: str) -> QuerySet[Tag]:
        """Rows whose address, image version, image digest or image ID holds the words."""
        term = value.lower()
        for registry in self._registries:
            if term == registry.host.lower() or term.startswith(f"{registry.host.lower()}/"):
                queryset = queryset.filter(registry=registry)
                term = term[len(registry.host) :].lstrip("/")
                break
        if not term:
            return queryset
        # search is stored in lower case and has a trigram index; icontains could not use it.
        found = Q(search__contains=term)
        if digits := _HEX.match(term):
            ids = Image.objects.filter(image_id__startswith=f"sha256:{digits[1]}").values_list(
                "pk", flat=True
            )
            found |= Q(image__in=list(ids[:_MAX_IMAGE_IDS]))
        return queryset.filter(found)

    def by_status(self, queryset: QuerySet[Tag], _name: str, value: list[str]) -> QuerySet[Tag]:
        """By scanning status; what has not been read yet has not been scanned."""
        found = Q(image__scan_status__in=value)
        return queryset.filter(found | Q(image=None) if ScanStatus.NOT_SCANNED in value else found)

    def by_type(self, queryset: QuerySet[Tag], _name: str, value: list[str]) -> QuerySet[Tag]:
        """By what product the registry is: by its key, so that the planner knows how many rows that is."""
        return queryset.filter(registry__in=[each.pk for each in self._registries if each.kind in value])

    def by_security(self, queryset: QuerySet[Tag], _name: str, value: list[str]) -> QuerySet[Tag]:
        """By what was found."""
        found = Q()
        for each in value:
            found |= _SECURITY[Security(each)]
        return queryset.filter(found)

    def by_severity(self, queryset: QuerySet[Tag], _name: str, value: list[str]) -> QuerySet[Tag]:
        """By the worst finding."""
        return queryset.filter(image__worst_severity__in=[Severity[each.upper()] for each in value])

    def by_licensing(self, queryset: QuerySet[Tag], _name: str, value: str) -> QuerySet[Tag]:
        """By license; what has not been read yet has none."""
        if value == Licensing.LICENSED:
            return queryset.filter(image__is_licensed=True)
        return queryset.filter(Q(image__is_licensed=False) | Q(image=None))

    def by_presence(self, queryset: QuerySet[Tag], _name: str, value: str) -> QuerySet[Tag]:
        """By whether the registry still lists it."""
        return queryset.filter(missing_since__isnull=value == Presence.PRESENT)
