"""Registries, repositories and tags, and the runs that keep them up to date."""

from typing import Self

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Concat, Lower, Now

from images.digests import DIGEST_LENGTH, REPOSITORY_LENGTH, TAG_LENGTH
from images.models import Image, Manifest
from repositories.credentials import EncryptedTextField
from tcss.lifecycle import ACTIVE, LifecycleModel, LifecycleQuerySet


class RegistryKind(models.TextChoices):
    """What product a registry is."""

    HARBOR = "harbor", "Harbor"
    TCR = "tcr", "TCR"
    CCR = "ccr", "CCR"


class RegistryVersion(models.TextChoices):
    """Which generation of the registry's interface to speak."""

    V1 = "V1", "V1 (1.x.x)"
    V2 = "V2", "V2 (2.x.x or later)"


class Network(models.TextChoices):
    """How the registry is reached."""

    PUBLIC = "public", "Public network"
    VPC = "vpc", "VPC"


class Health(models.TextChoices):
    """What the last contact with a registry showed."""

    UNKNOWN = "unknown", "Not tested"
    HEALTHY = "healthy", "Connected"
    FAILING = "failing", "Failing"


# Images whose content may be pulled in any sliding hour; null is unlimited.
PULL_LIMITS = (5, 10, 20, 50, 100, 500, 1000)


# After as many refusals of a password in a row the console waits for somebody: one more may lock the account.
LOGIN_TRIES = 3


class HealthFields(models.Model):
    """What the last contact with the other side showed."""

    health = models.CharField(max_length=8, choices=Health.choices, default=Health.UNKNOWN)
    health_code = models.CharField(max_length=32, blank=True)
    health_reason = models.CharField(max_length=500, blank=True)
    health_remedy = models.CharField(max_length=500, blank=True)
    health_checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class CloudSite(models.TextChoices):
    """Which of Tencent Cloud's two sites an account belongs to; their API hosts differ."""

    CHINA = "china", "Tencent Cloud (China)"
    INTERNATIONAL = "intl", "Tencent Cloud (International)"


class CloudAccount(HealthFields):
    """A Tencent Cloud account whose TCR instances and CCR regions appear as built-in connections."""

    site = models.CharField(max_length=8, choices=CloudSite.choices, default=CloudSite.CHINA)
    secret_id = models.CharField("secret ID", max_length=128, unique=True)
    secret_key = EncryptedTextField()
    regions = models.JSONField(default=list, help_text="Region names; empty means every region TCR is in.")
    # CCR has no tokens: its one user name and password are the same in every region.
    personal_username = models.CharField("CCR username", max_length=255, blank=True)
    personal_password = EncryptedTextField(null=True)
    discovered_at = models.DateTimeField("instances last listed", null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "Tencent Cloud account"

    def __str__(self) -> str:
        return self.secret_id


class Registry(HealthFields):
    """One server we connect to, and how; the page calls it an image repository."""

    name = models.CharField("instance name", max_length=64)
    kind = models.CharField(
        "repository type", max_length=8, choices=RegistryKind.choices, default=RegistryKind.HARBOR
    )
    version = models.CharField(max_length=2, choices=RegistryVersion.choices, default=RegistryVersion.V2)
    network = models.CharField("network type", max_length=8, choices=Network.choices, default=Network.PUBLIC)
    region = models.CharField(max_length=64, default="default")
    address = models.CharField(
        max_length=255, help_text="Scheme, host and port, for example https://harbor.example.org"
    )
    username = models.CharField(max_length=255)
    password = EncryptedTextField()
    hourly_pull_limit = models.PositiveIntegerField("limit", null=True, blank=True)
    verify_tls = models.BooleanField("validate remote certificates", default=True)
    custom_ca = models.TextField(
        "custom CA", blank=True, help_text="PEM certificates trusted for this one registry."
    )
    # A built-in connection belongs to an account and is one TCR instance, or CCR in one region.
    account = models.ForeignKey(
        CloudAccount, models.CASCADE, null=True, blank=True, related_name="registries"
    )
    instance_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    gone_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Since then its cloud account does not list it any more.",
    )
    # Pushes are announced to /webhooks/<webhook_id>/ with a token of which only the hash is kept.
    webhook_id = models.CharField(max_length=43, unique=True, null=True, blank=True)
    webhook_token_hash = models.CharField(max_length=64, blank=True, default="", db_default="")
    webhook_heard_at = models.DateTimeField("last webhook", null=True, blank=True)
    last_synced_at = models.DateTimeField("last data update", null=True, blank=True)
    generation = models.PositiveIntegerField(
        default=0, help_text="Number of the last data update that began."
    )
    sync_cursor = models.CharField(
        max_length=REPOSITORY_LENGTH,
        blank=True,
        default="",
        db_default="",
        help_text="Where a data update that the end of the night cut short goes on.",
    )
    removal_held_since = models.DateTimeField(
        null=True, blank=True, help_text="Too many images are gone at once: somebody has to confirm it."
    )
    removal_held_count = models.PositiveIntegerField(default=0, db_default=0)
    refused_logins = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="Times in a row that the password was refused, since somebody last saw to it.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "registries"
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="registry_name_once",
                violation_error_message="This instance name is taken.",
            ),
            models.CheckConstraint(condition=~models.Q(name=""), name="registry_has_a_name"),
            models.UniqueConstraint(
                fields=["account", "kind", "region", "instance_id"],
                condition=models.Q(account__isnull=False),
                name="registry_built_in_once",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_left_alone(self) -> bool:
        """Whether the console no longer asks by itself, so that the account is not locked."""
        return self.refused_logins >= LOGIN_TRIES

    @property
    def is_built_in(self) -> bool:
        """Whether it came from a cloud account rather than from a person."""
        return self.account_id is not None

    @property
    def host(self) -> str:
        """Host and port, as image addresses begin."""
        return self.address.partition("://")[2]


class Repository(models.Model):
    """One named collection of tags in a registry, for example ``shop/backend/api``."""

    registry = models.ForeignKey(Registry, models.CASCADE, related_name="repositories")
    name = models.CharField(max_length=REPOSITORY_LENGTH, help_text="Whole, with its namespace.")
    namespace = models.CharField(max_length=REPOSITORY_LENGTH)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    seen_generation = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=32, blank=True)
    error_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        verbose_name_plural = "repositories"
        constraints = [models.UniqueConstraint("registry", "name", name="repository_once_in_registry")]

    def __str__(self) -> str:
        return self.name


class TagQuerySet(models.QuerySet["Tag"]):
    """Questions about image versions."""

    def visible(self) -> Self:
        """Those that people are shown: all but the removed ones."""
        return self.filter(removed_at=None)

    def missing(self) -> Self:
        """Those that are shown though the last data update did not see them."""
        return self.visible().filter(missing_since__isnull=False)


class Tag(models.Model):
    """One movable name for a manifest: one row of the Repository Images page.

    An artifact that nobody tagged has a row too, named by its digest; a real tag cannot hold a colon.
    """

    registry = models.ForeignKey(Registry, models.CASCADE, related_name="tags")
    repository = models.ForeignKey(Repository, models.CASCADE, related_name="tags")
    # A repository is never renamed, so its name may stand here, where search and sort can use it.
    repository_name = models.CharField(max_length=REPOSITORY_LENGTH)
    name = models.CharField("image version", max_length=TAG_LENGTH)
    manifest = models.ForeignKey(Manifest, models.PROTECT, related_name="tags")
    manifest_digest = models.CharField(max_length=DIGEST_LENGTH)
    # The content shown and scanned: of the manifest itself, or of the chosen platform of an index.
    image = models.ForeignKey(Image, models.PROTECT, null=True, blank=True, related_name="tags")
    pushed_at = models.DateTimeField()
    is_latest = models.BooleanField(default=False, help_text="The newest push of its repository.")
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    seen_generation = models.PositiveIntegerField(default=0)
    missing_since = models.DateTimeField(
        null=True, blank=True, help_text="Not in the data updates since then."
    )
    absent_at = models.DateTimeField(
        null=True, blank=True, help_text="When a complete data update of the whole registry first missed it."
    )
    removed_at = models.DateTimeField(
        null=True, blank=True, help_text="Hidden since then; kept for a while, in case it comes back."
    )
    search = models.GeneratedField(
        expression=Lower(
            Concat("repository_name", models.Value(":"), "name", models.Value(" "), "manifest_digest")
        ),
        output_field=models.TextField(),
        db_persist=True,
    )

    objects = TagQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint("repository", "name", name="tag_once_in_repository"),
            models.CheckConstraint(
                condition=models.Q(absent_at=None) | models.Q(missing_since__isnull=False),
                name="tag_absent_is_missing",
            ),
            models.CheckConstraint(
                condition=models.Q(removed_at=None) | models.Q(absent_at__isnull=False),
                name="tag_removed_was_absent",
            ),
        ]
        indexes = [
            GinIndex(OpClass("search", name="gin_trgm_ops"), name="tag_search_trigrams"),
            # The list walks these two; thousands of removed rows must not lie in its way.
            models.Index(
                fields=["-pushed_at", "-id"],
                condition=models.Q(removed_at__isnull=True),
                name="tag_by_pushed",
            ),
            models.Index(
                fields=["repository_name", "name", "id"],
                condition=models.Q(removed_at__isnull=True),
                name="tag_by_name",
            ),
            models.Index(
                fields=["removed_at"],
                condition=models.Q(removed_at__isnull=False),
                name="tag_removed",
            ),
            models.Index(fields=["registry", "seen_generation"], name="tag_by_generation"),
            models.Index(
                fields=["registry", "missing_since"],
                condition=models.Q(missing_since__isnull=False),
                name="tag_missing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.repository_name}:{self.name}"

    @property
    def is_untagged(self) -> bool:
        """Whether the row stands for an artifact without a tag."""
        return ":" in self.name


class SyncTrigger(models.TextChoices):
    """Who asked for a data update."""

    MANUAL = "manual", "By hand"
    NIGHTLY = "nightly", "Every night"
    WEBHOOK = "webhook", "By webhook"
    COMMAND = "command", "Command line"


class SyncQuerySet(LifecycleQuerySet["Sync"]):
    """Questions about data updates."""


class Sync(LifecycleModel):
    """One data update of one registry; at most one of a registry waits or runs."""

    registry = models.ForeignKey(Registry, models.CASCADE, related_name="syncs")
    trigger = models.CharField(max_length=8, choices=SyncTrigger.choices)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    generation = models.PositiveIntegerField(default=0)
    night = models.DateField(null=True, blank=True, help_text="The night whose update this is.")
    stop_at = models.DateTimeField(null=True, blank=True, help_text="It takes no new page after that.")
    is_partial = models.BooleanField(
        default=False, db_default=False, help_text="Only what webhooks named is listed."
    )
    stage = models.CharField(max_length=120, blank=True)
    projects_seen = models.PositiveIntegerField(default=0)
    repositories_total = models.PositiveIntegerField(default=0)
    repositories_seen = models.PositiveIntegerField(default=0)
    tags_seen = models.PositiveIntegerField(default=0)
    tags_new = models.PositiveIntegerField(default=0)
    tags_missing = models.PositiveIntegerField(default=0)
    tags_removed = models.PositiveIntegerField(default=0, db_default=0)
    manifests_read = models.PositiveIntegerField(default=0, db_default=0)
    is_complete = models.BooleanField(
        default=False,
        db_default=False,
        help_text="The whole registry was listed, without an error or a cut.",
    )

    objects = SyncQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint("registry", condition=models.Q(state__in=ACTIVE), name="sync_one_active"),
            models.UniqueConstraint("registry", "night", name="sync_once_a_night"),
        ]
        indexes = [
            models.Index(fields=["registry", "-id"], name="sync_by_registry"),
            models.Index(fields=["queued_at"], condition=models.Q(state__in=ACTIVE), name="sync_active"),
        ]

    def __str__(self) -> str:
        return f"data update {self.pk}"


class RepositoryHint(models.Model):
    """A webhook said that something happened in a repository: list it again, soon and once."""

    registry = models.ForeignKey(Registry, models.CASCADE, related_name="hints")
    repository_name = models.CharField(max_length=REPOSITORY_LENGTH)
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint("registry", "repository_name", name="hint_once")]

    def __str__(self) -> str:
        return self.repository_name


class Pull(models.Model):
    """Permission to pull an image's content from a registry, counted against its hourly limit."""

    registry = models.ForeignKey(Registry, models.CASCADE, related_name="pulls")
    image = models.ForeignKey(Image, models.CASCADE, related_name="+")
    granted_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["registry", "granted_at"], name="pull_by_registry")]

    def __str__(self) -> str:
        return f"pull {self.pk}"
