"""Rollouts and their history, telemetry, checks, incidents and alerts of the judge, deployments."""

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from simple_history.models import HistoricalRecords

from rollout import people
from rollout.bucketing import FEATURE
from rollout.conf import conf
from rollout.evaluation import Config, is_live
from rollout.judge.scoring import Signal


class Stage(models.TextChoices):
    """Stage of a rollout, by its percentage."""

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
    """Rules by which the judge promotes a rollout (runbook, "Phase 4: Scale Rollout")."""

    ACCELERATED = "accelerated", "Accelerated: 30 min and 2 h without any error"
    CONSERVATIVE = "conservative", "Conservative: 60-90 min and 6 h under the threshold"
    MANUAL = "manual", "Manual: only advises"


class Rollout(models.Model):
    """A feature and the percentage of browsers that get it. Only :mod:`rollout.operations` changes it."""

    feature = models.CharField(
        max_length=100,
        unique=True,
        validators=[
            RegexValidator(
                rf"^{FEATURE.pattern}\Z", "Upper case letters, digits and _, such as NEW_CHECKOUT."
            )
        ],
    )
    description = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(
        default=True, help_text="Off: no browser gets the feature, not even after opting in."
    )
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
    on_hold = models.BooleanField(default=False, help_text="The judge does not promote; it still rolls back.")
    emergency_stop = models.BooleanField(default=False, help_text="No browser gets the feature, at once.")
    auto_rollback = models.BooleanField(default=True, help_text="Three red checks in a row roll back.")
    track_migrations = models.BooleanField(
        default=True, help_text="Keep migration events; on for the first 24 h."
    )
    hash_version = models.PositiveSmallIntegerField(
        default=2,
        choices=[(1, "1: 100 buckets, as the frontends have always done"), (2, "2: 10,000 buckets")],
    )
    # Texts, not relations: a change is one row with one version, and the history keeps it as every other field.
    always = models.TextField(
        default="",
        db_default="",
        blank=True,
        validators=[people.validate],
        help_text="People who get the feature at any percentage, unless they opt out.",
    )
    never = models.TextField(
        default="",
        db_default="",
        blank=True,
        validators=[people.validate],
        help_text="People who do not get the feature, at no percentage.",
    )
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows with every change.")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords(history_change_reason_field=models.TextField(null=True, blank=True))

    class Meta:
        required_db_vendor = "postgresql"
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
    def is_live(self) -> bool:
        """Return whether any browser can get the feature by the percentage."""
        return is_live(self.config)

    @property
    def live_word(self) -> str:
        """Return the word for that, which screens, commands and ``/health`` say."""
        return conf.live_words[0 if self.is_live else 1]

    @property
    def is_judged(self) -> bool:
        """Return whether the judge checks it: some browser can get the feature, and it is not complete."""
        return self.is_live and self.stage != Stage.COMPLETE


class Watch(models.Model):
    """The judge's memory of a rollout between two checks. Each stage begins with an empty one."""

    rollout = models.OneToOneField(Rollout, models.CASCADE, primary_key=True)
    stage = models.PositiveIntegerField(default=1, help_text="Grows with every stage.")
    watermark = models.BigIntegerField(help_text="Telemetry up to this sequence number has been judged.")
    checked_at = models.DateTimeField(null=True)
    began_at = models.DateTimeField(
        db_default=Now(), help_text="Begin of the stage by the database's clock: older events are not judged."
    )
    carry = models.JSONField(default=dict, help_text="rollout.judge.state.Carry")

    class Meta:
        required_db_vendor = "postgresql"
        db_table = "rollout_watch"

    def __str__(self) -> str:
        return f"{self.rollout_id}, stage {self.stage}"


class TelemetryEvent(models.Model):
    """An event of a browser. Only :mod:`rollout.store` writes it."""

    id = models.UUIDField(primary_key=True, help_text="Digest of the client and the id that it gave.")
    seq = models.BigIntegerField(
        db_default=models.Func(models.Value("rollout_telemetry_seq"), function="nextval"),
        help_text="Order of arrival, which the judge reads by.",
    )
    arrived_at = models.DateTimeField(db_default=Now(), help_text="Time of the database.")
    client = models.UUIDField()
    session = models.UUIDField()
    event = models.CharField(max_length=64)
    category = models.CharField(max_length=32, blank=True)
    ok = models.BooleanField()
    # Null is not "" here: an event without a flag counts for every rollout.
    flag = models.CharField(max_length=100, null=True, help_text="Feature. None: every rollout.")  # noqa: DJ001
    variant = models.CharField(max_length=32, null=True)  # noqa: DJ001
    at = models.DateTimeField(null=True, help_text="Time of the browser, only for people to read.")
    detail = models.TextField(null=True)  # noqa: DJ001
    lost = models.PositiveIntegerField(default=0, help_text="Events its session has dropped so far.")
    # Not "positive": the check constraint of a new column reads the whole table under a lock. The intake clamps it.
    age = models.IntegerField(
        db_default=0, help_text="Seconds between the event and its sending, by the browser's clock."
    )
    signer = models.UUIDField(null=True, help_text="Digest of the user whose ticket came with it.")
    network = models.CharField(
        max_length=43, db_default="", help_text="Sender's network: an IPv4 /24 or an IPv6 /48."
    )
    server = models.BooleanField(db_default=False, help_text="Reported by the server itself.")

    class Meta:
        required_db_vendor = "postgresql"
        db_table = "rollout_telemetry"
        verbose_name = "telemetry event"
        indexes = [
            models.Index(fields=["seq"], name="rollout_telemetry_arrival"),
            models.Index(fields=["client", "seq"], name="rollout_telemetry_client"),  # for support
        ]

    def __str__(self) -> str:
        return f"Event {self.seq}: {self.event}"


class StageMember(models.Model):
    """Behaviour flags of a client or a session in a stage. Only :mod:`rollout.store` writes them."""

    pk = models.CompositePrimaryKey("rollout", "stage", "who")
    rollout = models.ForeignKey(Rollout, models.CASCADE, db_index=False)
    stage = models.PositiveIntegerField()
    who = models.UUIDField()
    flags = models.PositiveSmallIntegerField(help_text="rollout.judge.evidence.Behaviour")

    class Meta:
        required_db_vendor = "postgresql"
        db_table = "rollout_stage_member"

    def __str__(self) -> str:
        return f"{self.who} in stage {self.stage}"


class Check(models.Model):
    """One evaluation by the judge, with all its inputs: decided again, it gives the same decision."""

    rollout = models.ForeignKey(Rollout, models.CASCADE, related_name="checks", db_index=False)
    stage = models.PositiveIntegerField()
    at = models.DateTimeField()
    after_seq = models.BigIntegerField(help_text="Telemetry of the check: after this sequence number,")
    upto_seq = models.BigIntegerField(help_text="up to and including this one.")
    signal = models.CharField(max_length=6, choices=[(signal.value, signal.value) for signal in Signal])
    action = models.CharField(max_length=10, help_text="none, promote, roll_back or complete.")
    percentage = models.DecimalField(max_digits=5, decimal_places=2, help_text="Before the action.")
    score = models.PositiveIntegerField()
    state = models.JSONField(help_text="rollout.judge.state.State")
    evidence = models.JSONField(help_text="rollout.judge.evidence.Evidence")
    policy = models.JSONField(help_text="rollout.judge.policy.Policy")
    decision = models.JSONField(help_text="rollout.judge.decision.Decision")
    settled = models.BooleanField(default=True, help_text="Incident and alerts are recorded.")

    class Meta:
        required_db_vendor = "postgresql"
        indexes = [
            models.Index(fields=["rollout", "-id"], name="rollout_check_latest"),
            models.Index(fields=["id"], condition=models.Q(settled=False), name="rollout_check_unsettled"),
            models.Index(  # a chart reads months of them, without the evidence
                fields=["rollout", "at"],
                include=["signal", "score", "percentage"],
                name="rollout_check_charted",
            ),
        ]

    def __str__(self) -> str:
        return f"Check, {self.at:%Y-%m-%d %H:%M} UTC"


class Incident(models.Model):
    """A tripped breaker: the judge rolled back, or advised it because auto-rollback was off."""

    rollout = models.ForeignKey(Rollout, models.CASCADE, related_name="incidents")
    check_made = models.OneToOneField(Check, models.SET_NULL, null=True, related_name="incident")
    stage = models.PositiveIntegerField()
    began_at = models.DateTimeField(help_text="The first of the red checks.")
    tripped_at = models.DateTimeField()
    percentage = models.DecimalField(max_digits=5, decimal_places=2, help_text="When it tripped.")
    rolled_back = models.BooleanField(help_text="No: auto-rollback was off.")
    reason = models.TextField()
    notes = models.JSONField(null=True, help_text="What people wrote about it: at, by, text.")

    class Meta:
        required_db_vendor = "postgresql"
        ordering = ["-tripped_at"]

    def __str__(self) -> str:
        return f"Incident, {self.tripped_at:%Y-%m-%d %H:%M} UTC"


class Alert(models.Model):
    """A message to one channel, set up or not. An outbox: each alert is sent once, whatever crashes."""

    key = models.CharField(
        max_length=200, unique=True, help_text="Event and channel: unique, so that no alert is sent twice."
    )
    rollout = models.ForeignKey(Rollout, models.CASCADE, related_name="alerts")
    kind = models.CharField(max_length=12, help_text="rollout.judge.decision.AlertKind")
    channel = models.CharField(max_length=8, choices=[("webhook", "webhook"), ("email", "e-mail")])
    payload = models.JSONField()
    created_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(
        db_default=Now(), help_text="Time of the next attempt; during an attempt, end of its lease."
    )
    sent_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True, help_text="Of the latest attempt.")
    skipped = models.BooleanField(
        db_default=False, help_text="Not sent, because its channel was not set up when it was due."
    )

    class Meta:
        required_db_vendor = "postgresql"
        indexes = [models.Index(fields=["id"], condition=models.Q(sent_at=None), name="rollout_alert_unsent")]

    def __str__(self) -> str:
        return f"Alert by {self.get_channel_display()}, {self.created_at:%Y-%m-%d %H:%M} UTC"


class DeploymentState(models.TextChoices):
    """Outcome of a deployment."""

    DEPLOYED = "deployed", "Deployed: no data yet"
    HEALTHY = "healthy", "Healthy"
    UNHEALTHY = "unhealthy", "Unhealthy"
    ROLLED_BACK = "rolled_back", "Rolled back"


class Deployment(models.Model):
    """A merged pull request. A revert takes back these commits, not the latest of the branch."""

    pull_request = models.PositiveIntegerField()
    title = models.TextField()
    branch = models.CharField(max_length=255, help_text="Branch that it was merged into.")
    commit = models.CharField(max_length=40, help_text="Commit of the merge on that branch.")
    commits = models.PositiveIntegerField(
        default=1, help_text="Number of its commits there, this one last; more than one after a rebase."
    )
    environment = models.CharField(max_length=100)
    deployed_by = models.CharField(max_length=150)
    deployed_at = models.DateTimeField(help_text="Time of the merge.")
    state = models.CharField(max_length=11, choices=DeploymentState, default=DeploymentState.DEPLOYED)
    says = models.TextField(blank=True, help_text="Reason for the state.")
    monitored_since = models.DateTimeField(
        null=True, help_text="Begin of a monitoring that has not ended; the next run continues it."
    )
    revert_branch = models.CharField(max_length=255, blank=True)
    revert_pull_request = models.PositiveIntegerField(null=True)
    revert_says = models.TextField(blank=True, help_text="Outcome of the revert.")
    revert_settled = models.BooleanField(
        default=False, help_text="No further attempt: it is open, was not needed, or conflicts."
    )

    class Meta:
        required_db_vendor = "postgresql"
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "pull_request"], name="rollout_deployment_recorded_once"
            ),
            models.CheckConstraint(
                condition=models.Q(commit__regex=r"^[0-9a-f]{40}$"),
                name="rollout_deployment_commit_is_a_hash",
            ),
            models.CheckConstraint(condition=models.Q(commits__gte=1), name="rollout_deployment_has_commits"),
        ]
        indexes = [models.Index(fields=["environment", "-deployed_at"], name="rollout_deployment_latest")]

    def __str__(self) -> str:
        return f"#{self.pull_request} in {self.environment}"
