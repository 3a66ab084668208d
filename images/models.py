"""What exists, by content: an image is a config digest and its layers; names point at it from elsewhere."""

from datetime import UTC, datetime

from django.db import models
from django.db.models.functions import Now

from images.digests import DIGEST_LENGTH

# Keyset paging loses rows with a null sort key, so "never" is a date.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Severity(models.IntegerChoices):
    """How bad a finding is; an unrecognised word is unknown and never hidden by a severity filter."""

    UNKNOWN = 0, "Unknown"
    NEGLIGIBLE = 1, "Negligible"
    LOW = 2, "Low"
    MEDIUM = 3, "Medium"
    HIGH = 4, "High"
    CRITICAL = 5, "Critical"


class ScanStatus(models.TextChoices):
    """The product's five words for where an image is with scanning."""

    NOT_SCANNED = "not_scanned", "Not scanned"
    SCANNING = "scanning", "Scanning"
    SCANNED = "scanned", "Scanned"
    CANCELLED = "cancelled", "Cancelled"
    EXCEPTION = "exception", "Scan exception"


class CategoryStatus(models.TextChoices):
    """What is known of one risk category of an image; "found nothing" and "could not look" stay apart."""

    NOT_SCANNED = "not_scanned", "Not scanned"
    SCANNED = "scanned", "Scanned"
    # Packages of this distribution have no advisories: no finding means nothing.
    UNSUPPORTED = "unsupported", "Distribution unknown"
    PARTIAL = "partial", "Not fully scanned"
    FAILED = "failed", "Failed"


class ArtifactKind(models.TextChoices):
    """What a manifest describes; only images are licensed and scanned."""

    IMAGE = "image", "Image"
    INDEX = "index", "Multi-platform image"
    CHART = "chart", "Helm chart"
    SIGNATURE = "signature", "Signature"
    SBOM = "sbom", "SBOM"
    WASM = "wasm", "WebAssembly module"
    CNAB = "cnab", "CNAB bundle"
    OTHER = "other", "Other artifact"


class Image(models.Model):
    """One image ID: the content of one platform, whatever names point at it."""

    image_id = models.CharField("image ID", max_length=DIGEST_LENGTH, unique=True)
    os = models.CharField("operating system", max_length=64, blank=True)
    architecture = models.CharField(max_length=64, blank=True)
    variant = models.CharField(max_length=64, blank=True)
    built_at = models.DateTimeField("created", null=True, blank=True)
    size = models.BigIntegerField(default=0, help_text="Bytes of its compressed layers.")
    author = models.CharField(max_length=255, blank=True)
    # Lists of plain values, cleaned; environment values are never stored: they hold passwords.
    history = models.JSONField(default=list, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    # What a scan found out about the system inside.
    os_family = models.CharField(max_length=64, blank=True)
    os_name = models.CharField("OS version", max_length=64, blank=True)
    os_end_of_life = models.BooleanField(default=False)
    # With it the list of packages and the sensitive data are known for good: the content never changes.
    inventory_engine = models.CharField(
        max_length=128,
        blank=True,
        default="",
        db_default="",
        help_text="The engine and version that made the image's inventory; empty until there is a whole one.",
    )

    # Summary of facts kept elsewhere, recomputed in the transaction that changes the facts, so that the list
    # can filter and sort a million rows.
    is_licensed = models.BooleanField(default=False)
    scan_status = models.CharField(max_length=12, choices=ScanStatus.choices, default=ScanStatus.NOT_SCANNED)
    vulnerabilities_status = models.CharField(
        max_length=12, choices=CategoryStatus.choices, default=CategoryStatus.NOT_SCANNED
    )
    malware_status = models.CharField(
        max_length=12, choices=CategoryStatus.choices, default=CategoryStatus.NOT_SCANNED
    )
    sensitive_status = models.CharField(
        max_length=12, choices=CategoryStatus.choices, default=CategoryStatus.NOT_SCANNED
    )
    critical_count = models.PositiveIntegerField(default=0)
    high_count = models.PositiveIntegerField(default=0)
    medium_count = models.PositiveIntegerField(default=0)
    low_count = models.PositiveIntegerField(default=0)
    negligible_count = models.PositiveIntegerField(default=0)
    unknown_count = models.PositiveIntegerField(default=0)
    vulnerability_count = models.PositiveIntegerField(default=0)
    fixable_count = models.PositiveIntegerField(default=0)
    malware_count = models.PositiveIntegerField(default=0)
    sensitive_count = models.PositiveIntegerField(default=0)
    package_count = models.PositiveIntegerField(default=0)
    worst_severity = models.SmallIntegerField(
        default=-1, help_text="The worst finding of any category; -1 where there is none."
    )
    last_scanned_at = models.DateTimeField(
        "last scanned", default=NEVER, help_text="Of the last good result."
    )
    error_code = models.CharField(max_length=32, blank=True)
    error_reason = models.CharField(max_length=500, blank=True)
    error_remedy = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["scan_status", "id"], name="image_by_scan_status"),
            models.Index(fields=["-last_scanned_at", "-id"], name="image_by_last_scanned"),
            models.Index(
                fields=["-worst_severity", "-critical_count", "-high_count", "-id"],
                name="image_by_worst_severity",
            ),
            models.Index(fields=["-size", "-id"], name="image_by_size"),
            models.Index(fields=["id"], condition=models.Q(malware_count__gt=0), name="image_with_malware"),
            models.Index(fields=["id"], condition=models.Q(sensitive_count__gt=0), name="image_with_secrets"),
            models.Index(fields=["-built_at", "-id"], name="image_by_built"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(worst_severity__gte=-1, worst_severity__lte=5),
                name="image_worst_severity_known",
            ),
            models.CheckConstraint(condition=models.Q(size__gte=0), name="image_size_not_negative"),
        ]

    def __str__(self) -> str:
        return self.image_id

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]`` as registries write it."""
        return "/".join(filter(None, [self.os, self.architecture, self.variant]))

    @property
    def was_scanned(self) -> bool:
        """Whether there is any good result to show."""
        return self.last_scanned_at != NEVER


class Manifest(models.Model):
    """One manifest digest: how a registry serves an image, an index of images, or something else."""

    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True)
    media_type = models.CharField(max_length=255, blank=True)
    artifact_type = models.CharField(max_length=255, blank=True)
    kind = models.CharField(max_length=12, choices=ArtifactKind.choices)
    size = models.BigIntegerField(default=0, help_text="Bytes as the registry counts them.")
    config_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True)
    config_size = models.BigIntegerField(default=0)
    # Null until the manifest has been read, and for whatever is not an image.
    image = models.ForeignKey(Image, models.SET_NULL, null=True, blank=True, related_name="manifests")
    is_read = models.BooleanField(
        default=False, help_text="Whether its body has been fetched, which is done once."
    )
    # Why it could not be read when that was last tried; of no meaning once it has been.
    error_code = models.CharField(max_length=32, blank=True, default="", db_default="")
    error_reason = models.CharField(max_length=500, blank=True, default="", db_default="")
    error_remedy = models.CharField(max_length=500, blank=True, default="", db_default="")
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.digest


class Platform(models.Model):
    """One entry of an index: which manifest serves which platform."""

    index = models.ForeignKey(Manifest, models.CASCADE, related_name="platforms")
    manifest = models.ForeignKey(Manifest, models.CASCADE, related_name="indexes")
    os = models.CharField(max_length=64, blank=True)
    architecture = models.CharField(max_length=64, blank=True)
    variant = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint("index", "manifest", name="platform_once_in_index")]

    def __str__(self) -> str:
        return "/".join(filter(None, [self.os, self.architecture, self.variant]))


class ManifestLayer(models.Model):
    """One layer as a manifest names it: the compressed blob a registry stores."""

    manifest = models.ForeignKey(Manifest, models.CASCADE, related_name="layers")
    position = models.PositiveSmallIntegerField()
    blob_digest = models.CharField(max_length=DIGEST_LENGTH)
    size = models.BigIntegerField(help_text="Compressed bytes.")
    media_type = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("manifest", "position", name="manifest_layer_position"),
            models.CheckConstraint(condition=models.Q(size__gte=0), name="manifest_layer_size_not_negative"),
        ]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.position}: {self.blob_digest}"


class Layer(models.Model):
    """One diff ID: the uncompressed content of a layer, shared by every image that holds it."""

    diff_id = models.CharField("diff ID", max_length=DIGEST_LENGTH, unique=True)
    size = models.BigIntegerField(default=0, help_text="Uncompressed bytes; 0 until it was pulled.")
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.diff_id


class LayerBlob(models.Model):
    """One blob digest that was pulled, unpacked, and found to be this layer: both digests were verified."""

    layer = models.ForeignKey(Layer, models.CASCADE, related_name="blobs")
    blob_digest = models.CharField(max_length=DIGEST_LENGTH)

    class Meta:
        constraints = [models.UniqueConstraint("blob_digest", "layer", name="layer_blob_once")]

    def __str__(self) -> str:
        return self.blob_digest


class ImageLayer(models.Model):
    """One layer's place in an image, and the instruction that made it."""

    image = models.ForeignKey(Image, models.CASCADE, related_name="image_layers")
    position = models.PositiveSmallIntegerField()
    layer = models.ForeignKey(Layer, models.PROTECT, related_name="image_layers")
    created_by = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint("image", "position", name="image_layer_position")]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.position}: {self.layer_id}"
