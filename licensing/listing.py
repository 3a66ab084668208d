"""What the licenses page shows: entitlements with their use, and the newest assignments page by page."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from images.models import Image
from licensing.models import Entitlement, LicenseAssignment, Validity
from repositories.models import Tag

PAGE_SIZE = 50
# Of an installation with more entitlements than anybody reads, the page shows the newest.
_MAX_ENTITLEMENTS = 200


@dataclass(frozen=True, slots=True)
class EntitlementRow:
    """One entitlement as the page shows it."""

    entitlement: Entitlement
    validity: Validity


@dataclass(frozen=True, slots=True)
class Usage:
    """How many images have a license, and how many could have one."""

    licensed: int
    unlicensed: int


@dataclass(frozen=True, slots=True)
class AssignmentPage:
    """Some assignments, newest first; the keys lead to the pages beside it, None where there is none."""

    assignments: tuple[LicenseAssignment, ...]
    newer_than: int | None
    older_than: int | None


def entitlement_rows(moment: datetime) -> list[EntitlementRow]:
    """Every entitlement, those that give seats at ``moment`` first."""
    rows = [
        EntitlementRow(entitlement, entitlement.validity_at(moment))
        for entitlement in Entitlement.objects.order_by("-id")[:_MAX_ENTITLEMENTS]
    ]
    order = [Validity.VALID, Validity.NOT_BEGUN, Validity.ENDED]
    return sorted(rows, key=lambda row: order.index(row.validity))


def usage() -> Usage:
    """Images with and without a license."""
    counted = Image.objects.aggregate(
        licensed=Count("pk", filter=Q(is_licensed=True)), unlicensed=Count("pk", filter=Q(is_licensed=False))
    )
    return Usage(**counted)


def assignment_page(*, older_than: int | None = None, newer_than: int | None = None) -> AssignmentPage:
    """The assignments before or after one of them, else the newest of all."""
    rows = _assignments()
    if newer_than is not None:
        found = list(rows.filter(pk__gt=newer_than).order_by("pk")[: PAGE_SIZE + 1])
        has_newer, has_older = len(found) > PAGE_SIZE, True
        found = found[:PAGE_SIZE][::-1]
    else:
        if older_than is not None:
            rows = rows.filter(pk__lt=older_than)
        found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
        has_newer, has_older = older_than is not None, len(found) > PAGE_SIZE
        found = found[:PAGE_SIZE]
    return AssignmentPage(
        assignments=tuple(found),
        newer_than=found[0].pk if found and has_newer else None,
        older_than=found[-1].pk if found and has_older else None,
    )


def _assignments() -> QuerySet[LicenseAssignment]:
    """Assignments with what a row shows, among it the first name under which the image is known."""
    tags = Tag.objects.visible().filter(image=OuterRef("image")).order_by("pk")
    return LicenseAssignment.objects.select_related("image", "entitlement", "assigned_by").annotate(
        tag_pk=Subquery(tags.values("pk")[:1]),
        repository_name=Subquery(tags.values("repository_name")[:1]),
        tag_name=Subquery(tags.values("name")[:1]),
    )
