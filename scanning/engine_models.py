"""What engines know already of layers, of file contents and of the fleet, so that nothing is done twice."""

from django.db import models
from django.db.models.functions import Now

from images.models import Layer, Severity
from tcss.lifecycle import ACTIVE, LifecycleModel, LifecycleQuerySet


class PastMatch(models.Model):
    """One vulnerability of one package that a later database no longer reports."""

    package = models.ForeignKey("scanning.Package", models.CASCADE, related_name="past_matches")
    vulnerability = models.ForeignKey("scanning.Vulnerability", models.PROTECT, related_name="past_matches")
    data_source = models.CharField(max_length=64, blank=True)
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.UNKNOWN)
    first_seen_at = models.DateTimeField()
    fixed_at = models.DateTimeField(db_default=Now(), help_text="When the database stopped reporting it.")

    class Meta:
        verbose_name_plural = "past matches"
        constraints = [
            models.UniqueConstraint("package", "vulnerability", "data_source", name="past_match_once")
        ]

    def __str__(self) -> str:
        return f"{self.vulnerability_id} in {self.package_id} until {self.fixed_at}"


class MatchRunQuerySet(LifecycleQuerySet["MatchRun"]):
    """Questions about matchings of the fleet, and the only writer of their state."""


class MatchRun(LifecycleModel):
    """One matching of all known packages with one vulnerability database, without pulling anything."""

    database_version = models.CharField(max_length=128, help_text="As ScanCategory.database_version has it.")
    database_updated_at = models.DateTimeField(null=True, blank=True)
    packages_total = models.PositiveIntegerField(default=0)
    packages_done = models.PositiveIntegerField(default=0)
    matches_new = models.PositiveIntegerField(default=0)
    matches_gone = models.PositiveIntegerField(default=0)
    images_changed = models.PositiveIntegerField(default=0)

    objects = MatchRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=models.Q(state__in=ACTIVE), name="match_run_one_active"
            )
        ]
        indexes = [models.Index(fields=["database_version", "state"], name="match_run_by_database")]

    def __str__(self) -> str:
        return f"matching with {self.database_version}"


class MatchNews(models.Model):
    """What one matching of the fleet found new: a vulnerability, and how many images have it since."""

    run = models.ForeignKey(MatchRun, models.CASCADE, related_name="news")
    vulnerability = models.ForeignKey("scanning.Vulnerability", models.CASCADE, related_name="+")
    severity = models.SmallIntegerField(choices=Severity.choices, default=Severity.UNKNOWN)
    image_count = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "match news"
        constraints = [models.UniqueConstraint("run", "vulnerability", name="match_news_once")]

    def __str__(self) -> str:
        return f"{self.image_count} images got {self.vulnerability_id}"


class LayerAnalysis(models.Model):
    """What an engine read in one layer, in the engine's own form: with it no image needs the layer again."""

    layer = models.ForeignKey(Layer, models.CASCADE, related_name="analyses")
    engine = models.CharField(max_length=128, help_text="Engine, version and options.")
    content = models.BinaryField(help_text="Compressed with zlib.")
    used_on = models.DateField(auto_now_add=True, help_text="When an image was last put together from it.")

    class Meta:
        verbose_name_plural = "layer analyses"
        constraints = [models.UniqueConstraint("layer", "engine", name="layer_analysis_once")]

    def __str__(self) -> str:
        return f"{self.engine}: {self.layer_id}"


class SignatureSet(models.Model):
    """One engine with one version of its signatures: a verdict holds as long as both are the same."""

    engine = models.CharField(max_length=32)
    engine_version = models.CharField(max_length=64, blank=True)
    signatures = models.CharField(
        max_length=128, blank=True, help_text="Their version in the engine's words."
    )
    updated_at = models.DateTimeField(null=True, blank=True, help_text="The signatures' own date.")
    first_used_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint("engine", "engine_version", "signatures", name="signature_set_once")
        ]

    def __str__(self) -> str:
        return f"{self.engine} {self.engine_version} {self.signatures}".strip()


class LayerVerdict(models.Model):
    """That one engine has judged every file of one layer, and with which signatures."""

    layer = models.ForeignKey(Layer, models.CASCADE, related_name="verdicts")
    engine = models.CharField(max_length=32)
    signature_set = models.ForeignKey(SignatureSet, models.PROTECT, related_name="+")
    file_count = models.PositiveIntegerField(default=0)
    unscanned_count = models.PositiveIntegerField(default=0, help_text="Files not or not fully looked at.")
    unscanned = models.CharField(max_length=500, blank=True, help_text="Why, for the first of them.")
    judged_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint("layer", "engine", name="layer_verdict_once")]

    def __str__(self) -> str:
        return f"{self.engine}: {self.layer_id}"


class JudgedContent(models.Model):
    """One file content that an engine has judged with its present signatures, wherever it turns up."""

    signature_set = models.ForeignKey(SignatureSet, models.CASCADE, related_name="+")
    sha256 = models.BinaryField(max_length=32)
    # Names, kinds, severities and descriptions of what was found; nothing for the many that are clean.
    signatures = models.JSONField(default=list, blank=True)
    unscanned = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint("signature_set", "sha256", name="content_judged_once")]

    def __str__(self) -> str:
        return bytes(self.sha256).hex()


class LayerWhiteout(models.Model):
    """One path that a layer hides from the layers below it; an opaque one hides all that is inside."""

    layer = models.ForeignKey(Layer, models.CASCADE, related_name="whiteouts")
    path = models.CharField(max_length=1024)
    is_opaque = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint("layer", "path", "is_opaque", name="whiteout_once_in_layer")]

    def __str__(self) -> str:
        return self.path
