"""One row per feature, and its whole history."""

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from rollout.bucketing import FEATURE
from rollout.evaluation import Config, is_live


class Stage(models.TextChoices):
    """Where a rollout stands, by its percentage."""

    OFF = "off", "Off"
    CANARY = "canary", "Canary"
    PARTIAL = "partial", "Partial"
    FULL = "full", "Full"
    COMPLETE = "complete", "Complete"

    @classmethod
    def of(cls, percentage: Decimal) -> "Stage":
        if percentage == 0:
            return cls.OFF
        if percentage < 50:
            return cls.CANARY
        return cls.PARTIAL if percentage < 100 else cls.FULL


class Timeline(models.TextChoices):
    """How a rollout climbs by itself (runbook, "Phase 4: Scale Rollout")."""

    ACCELERATED = "accelerated", "Accelerated: 30 min and 2 h without any error"
    CONSERVATIVE = "conservative", "Conservative: 60-90 min and 6 h under the threshold"
    MANUAL = "manual", "Manual: only advises"


class Rollout(models.Model):
    """A feature on its way to everybody. Changed through :mod:`rollout.operations` alone."""

    feature = models.CharField(
        max_length=100,
        unique=True,
        validators=[
            RegexValidator(
                rf"^{FEATURE.pattern}\Z", "Upper case letters, digits and _, such as USE_FUND_STORE."
            )
        ],
    )
    description = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(default=True, help_text="Off: nobody gets the feature, opted in or not.")
    percentage = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Share of browsers that get the feature, 0-100; steps of 1 with hash version 1, of 0.01 with 2.",
    )
    stage = models.CharField(max_length=10, choices=Stage, default=Stage.OFF)
    stage_started_at = models.DateTimeField(default=timezone.now)
    timeline = models.CharField(max_length=12, choices=Timeline, default=Timeline.CONSERVATIVE)
    on_hold = models.BooleanField(
        default=False, help_text="Nothing climbs by itself; rolling back still works."
    )
    emergency_stop = models.BooleanField(default=False, help_text="Everybody gets legacy, at once.")
    auto_rollback = models.BooleanField(default=True, help_text="Three red checks in a row roll back.")
    track_migrations = models.BooleanField(
        default=True, help_text="Keep migration events; on for the first 24 h."
    )
    hash_version = models.PositiveSmallIntegerField(
        default=2,
        choices=[(1, "1: 100 buckets, as the frontends have always done"), (2, "2: 10,000 buckets")],
    )
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows with every change.")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords(history_change_reason_field=models.TextField(null=True, blank=True))

    class Meta:
        ordering = ["feature"]
        permissions = [
            ("operate_rollout", "Can move a rollout: percentage, promote, hold, resume, roll back"),
            ("stop_rollout", "Can stop a rollout in an emergency, and release it"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(percentage__gte=0, percentage__lte=100), name="rollout_percentage_range"
            ),
            models.CheckConstraint(
                condition=models.Q(feature__regex=rf"^{FEATURE.pattern}$"), name="rollout_feature_pattern"
            ),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="rollout_version_positive"),
            models.CheckConstraint(
                condition=models.Q(hash_version__in=[1, 2]), name="rollout_hash_version_known"
            ),
        ]

    def __str__(self) -> str:
        return self.feature

    @property
    def config(self) -> Config:
        return Config(
            feature=self.feature,
            enabled=self.enabled,
            percentage=self.percentage,
            emergency_stop=self.emergency_stop,
            hash_version=self.hash_version,
        )

    @property
    def store_type(self) -> str:
        """What ``/health`` reports: ``fund-store`` while anybody can get the feature, else ``legacy``."""
        return "fund-store" if is_live(self.config) else "legacy"
