"""Scans that were asked for, and the facts they found: facts belong to layers, not to names."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from images.models import Image, Layer, Severity
from scanning import engine_models  # noqa: F401 - Django finds an app's tables through this module
from scanning.queue import QueueQuerySet
from tcss.lifecycle import ACTIVE, LifecycleModel, State


class Category(models.TextChoices):
    """What a scan looks for."""

    VULNERABILITIES = "vulnerabilities", "Vulnerabilities"
    MALWARE = "malware", "Viruses and trojans"
    SENSITIVE = "sensitive", "Sensitive data"


class TaskTrigger(models.TextChoices):
    """What made a scan task."""

    MANUAL = "manual", "By hand"
    QUICK = "quick", "Quick scan"
    SCHEDULE = "schedule", "Scheduled"
    COMMAND = "command", "Command line"


class Outcome(models.TextChoices):
    """What a scan task did about one image it was asked for."""

    STARTED = "started", "Started"
    JOINED = "joined", "Already scanning"
    UNLICENSED = "unlicensed", "Not licensed"
    NOT_AN_IMAGE = "not_an_image", "Not an image"


class ScanTask(models.Model):
    """What somebody, or a schedule, asked to have scanned; its totals are those of its scans."""

    trigger = models.CharField(max_length=8, choices=TaskTrigger.choices)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    categories = models.JSONField()
    scope = models.CharField(max_length=255, help_text="What was asked, in words.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"scan task {self.pk}"


class ScanStep(models.TextChoices):
    """Where a running scan is in its pipeline."""

    WAITING = "waiting", "Waiting"
    MANIFEST = "manifest", "Reading the manifest"
    PULL = "pull", "Pulling layers"
    ANALYSE = "analyse", "Analysing"
    JUDGE = "judge", "Looking for viruses and trojans"
    SAVE = "save", "Saving"


class Part(models.TextChoices):
    """What a scan is at: its two parts go through queues of their own, one after the other."""

    CONTENT = "content", "Vulnerabilities and sensitive data"
    MALWARE = "malware", "Viruses and trojans"


# The categories that each part looks for.
CATEGORIES_OF = {
    Part.CONTENT: (Category.VULNERABILITIES, Category.SENSITIVE),
    Part.MALWARE: (Category.MALWARE,),
}


class ScanQuerySet(QueueQuerySet["Scan"]):
    """Questions about scans, and the only writer of their state."""


class Scan(LifecycleModel):
    """One run on one image ID; at most one of an image waits or runs."""

    image = models.ForeignKey(Image, models.CASCADE, related_name="scans")
    registry = models.ForeignKey(
        "repositories.Registry",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="That of the image's newest tag when it was asked for; registries take turns.",
    )
    part = models.CharField(max_length=8, choices=Part.choices, default=Part.CONTENT, db_default=Part.CONTENT)
    step = models.CharField(max_length=8, choices=ScanStep.choices, default=ScanStep.WAITING)
    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent.")
    # 0 overtakes 9: what a person waits for goes first.
    priority = models.PositiveSmallIntegerField(default=0)
    # The registry it waits for, while it does; until when is in available_at. With a failure beside it the
    # registry asked to be left alone, without one our hourly limit for it is reached.
    waits_for = models.ForeignKey(
        "repositories.Registry", models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = ScanQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint("image", condition=models.Q(state__in=ACTIVE), name="scan_one_active"),
            models.CheckConstraint(condition=models.Q(progress__lte=100), name="scan_progress_percent"),
        ]
        indexes = [
            models.Index(fields=["image", "-id"], name="scan_by_image"),
            models.Index(
                fields=["priority", "id"], condition=models.Q(state=State.QUEUED), name="scan_queue"
            ),
            models.Index(
                fields=["part", "registry", "priority", "id"],
                condition=models.Q(state=State.QUEUED, available_at=None),
                name="scan_turns",
            ),
            models.Index(
                fields=["part", "registry", "available_at"],
                condition=models.Q(state=State.QUEUED, available_at__isnull=False),
                name="scan_turns_at_a_time",
            ),
            models.Index(fields=["lease_until"], condition=models.Q(state=State.RUNNING), name="scan_leases"),
        ]

    def __str__(self) -> str:
        return f"scan {self.pk}"

    @property
    def waits_until(self) -> datetime | None:
        """The time it waits for while it is queued, be it a registry's or that of another attempt."""
        is_later = self.available_at is not None and self.available_at > timezone.now()
        return self.available_at if self.state == State.QUEUED and is_later else None


class TaskItem(models.Model):
    """What a scan task did about one image."""

    task = models.ForeignKey(ScanTask, models.CASCADE, related_name="items")
    image = models.ForeignKey(Image, models.CASCADE, related_name="task_items")
    scan = models.ForeignKey(Scan, models.CASCADE, null=True, blank=True, related_name="task_items")
    outcome = models.CharField(max_length=12, choices=Outcome.choices)

    class Meta:
        constraints = [models.UniqueConstraint("task", "image", name="task_item_once")]

    def __str__(self) -> str:
        return f"{self.task_id}: {self.outcome}"


class CategoryState(models.TextChoices):
    """Where one category of a scan is, or how it ended."""

    WAITING = "waiting", "Waiting"
    SUCCEEDED = "succeeded", "Scanned"
    UNSUPPORTED = "unsupported", "Distribution unknown"
    PARTIAL = "partial", "Not fully scanned"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


# Ends after which the category's findings are those of this scan.
GOOD_CATEGORY_STATES = (CategoryState.SUCCEEDED, CategoryState.UNSUPPORTED, CategoryState.PARTIAL)


class ScanCategory(models.Model):
    """One category of one scan: how it ended and with what engine and database."""

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="categories")
    category = models.CharField(max_length=16, choices=Category.choices)
    state = models.CharField(max_length=12, choices=CategoryState.choices, default=CategoryState.WAITING)
    engine = models.CharField(max_length=64, blank=True)
    engine_version = models.CharField(max_length=64, blank=True)
    database_version = models.CharField(max_length=128, blank=True)
    database_updated_at = models.DateTimeField(null=True, blank=True)
    finding_count = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=32, blank=True)
    error_reason = models.CharField(max_length=500, blank=True)
    error_remedy = models.CharField(max_length=500, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "scan categories"
        constraints = [models.UniqueConstraint("scan", "category", name="scan_category_once")]

    def __str__(self) -> str:
        return f"{self.get_category_display()}: {self.get_state_display()}"


class Package(models.Model):
    """One package version of one distribution release or language; shared by every layer that holds it."""

    # SHA-256 of the natural key below: those texts together are longer than an index row may be.
    identity = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=255)
    version = models.CharField(max_length=255)
    source_name = models.CharField(max_length=255, blank=True)
    source_version = models.CharField(max_length=255, blank=True)
    kind = models.CharField(
        max_length=64, help_text="Distribution or language, for example debian, alpine, pip."
    )
    os_release = models.CharField(max_length=128, blank=True)
    purl = models.CharField(max_length=1024, blank=True)

    class Meta:
        indexes = [models.Index(fields=["name", "version"], name="package_by_name")]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Inventory(models.Model):
    """A set of packages that came from one layer; images that share the layer share the set."""

    content_hash = models.CharField(max_length=64, unique=True)
    layer = models.ForeignKey(Layer, models.PROTECT, null=True, blank=True, related_name="inventories")
    packages = models.ManyToManyField(Package, through="InventoryPackage", related_name="inventories")
    images = models.ManyToManyField(Image, related_name="inventories")

    class Meta:
        verbose_name_plural = "inventories"

    def __str__(self) -> str:
        return self.content_hash


class InventoryPackage(models.Model):
    """One package's place in an inventory: the file that names it."""

    inventory = models.ForeignKey(Inventory, models.CASCADE, related_name="entries")
    package = models.ForeignKey(Package, models.PROTECT, related_name="entries")
    path = models.CharField(max_length=1024, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint("inventory", "package", "path", name="inventory_package_once")]

    def __str__(self) -> str:
        return f"{self.package_id} {self.path}"


class Vulnerability(models.Model):
    """One published flaw."""

    identifier = models.CharField(max_length=128, unique=True)
    title = models.CharField(max_length=500, blank=True)
    description = models.TextField(blank=True)
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.UNKNOWN)
    cvss_score = models.DecimalField(max_digits=3, decimal_places=1, null=True, blank=True)
    cvss_vector = models.CharField(max_length=255, blank=True)
    cwe_ids = models.JSONField(default=list, blank=True)
    references = models.JSONField(default=list, blank=True)
    primary_url = models.CharField(max_length=1024, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    modified_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "vulnerabilities"

    def __str__(self) -> str:
        return self.identifier


class Match(models.Model):
    """One vulnerability of one package, as one data source says now; what was, is a PastMatch."""

    package = models.ForeignKey(Package, models.CASCADE, related_name="matches")
    vulnerability = models.ForeignKey(Vulnerability, models.PROTECT, related_name="matches")
    data_source = models.CharField(max_length=64, blank=True)
    fixed_version = models.CharField(max_length=500, blank=True)
    status = models.CharField(max_length=32, blank=True)
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.UNKNOWN)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "matches"
        constraints = [models.UniqueConstraint("package", "vulnerability", "data_source", name="match_once")]

    def __str__(self) -> str:
        return f"{self.vulnerability_id} in {self.package_id}"


class SecretFinding(models.Model):
    """One piece of sensitive data: in a layer's file, or in the image's own configuration."""

    layer = models.ForeignKey(Layer, models.CASCADE, null=True, blank=True, related_name="secret_findings")
    image = models.ForeignKey(Image, models.CASCADE, null=True, blank=True, related_name="secret_findings")
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of rule, path, lines and masked match.")
    rule_id = models.CharField("type", max_length=128)
    category = models.CharField(max_length=128, blank=True)
    title = models.CharField("name", max_length=255)
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.UNKNOWN)
    path = models.CharField(max_length=1024, blank=True)
    start_line = models.PositiveIntegerField(default=0)
    end_line = models.PositiveIntegerField(default=0)
    masked_match = models.CharField(max_length=500, blank=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "layer", "fingerprint", condition=models.Q(image=None), name="secret_once_in_layer"
            ),
            models.UniqueConstraint(
                "image", "fingerprint", condition=models.Q(layer=None), name="secret_once_in_image"
            ),
            models.CheckConstraint(
                condition=models.Q(layer=None, image__isnull=False)
                | models.Q(layer__isnull=False, image=None),
                name="secret_in_layer_or_image",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule_id} in {self.path}"


class MalwareFinding(models.Model):
    """One file of a layer that a malware signature recognised."""

    layer = models.ForeignKey(Layer, models.CASCADE, related_name="malware_findings")
    fingerprint = models.CharField(
        max_length=64, help_text="SHA-256 of engine, signature, path and content hash."
    )
    engine = models.CharField(max_length=64)
    signature = models.CharField(max_length=255)
    kind = models.CharField(max_length=32)
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.HIGH)
    path = models.CharField(max_length=1024)
    size = models.BigIntegerField(default=0)
    md5 = models.CharField(max_length=32, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    file_type = models.CharField(max_length=64, blank=True, default="", db_default="")
    description = models.CharField(max_length=500, blank=True, default="", db_default="")
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint("layer", "fingerprint", name="malware_once_in_layer")]

    def __str__(self) -> str:
        return f"{self.signature} in {self.path}"
