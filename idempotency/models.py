"""The table ``idempotency_store``: one row per used key, written in the transaction of its effect."""

from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models.functions import Now

from idempotency.conf import conf
from idempotency.keys import TOKEN_LENGTH_MAX, format_key


class KeyManager(models.Manager["IdempotencyKey"]):
    """The keys of ``IDEMPOTENCY_DATABASE``, unless another database is named."""

    def get_queryset(self) -> models.QuerySet["IdempotencyKey"]:
        keys = super().get_queryset()
        return keys if self._db else keys.using(conf.database)


class IdempotencyKey(models.Model):
    """A key that has been used, and the response that every retry gets.

    Rows are written and read by :mod:`idempotency.store`; this model is for migrations and the admin.
    """

    digest = models.UUIDField(
        primary_key=True, editable=False, help_text="Of environment, operation, principal and token."
    )
    environment = models.CharField(max_length=TOKEN_LENGTH_MAX)
    operation = models.CharField(max_length=TOKEN_LENGTH_MAX)
    principal = models.CharField(
        max_length=TOKEN_LENGTH_MAX, help_text="Id of the user who sent the request."
    )
    token = models.CharField("key", max_length=TOKEN_LENGTH_MAX, help_text="As the client sent it.")
    fingerprint = models.UUIDField(help_text="Of the request's method, path, query and body.")
    status = models.PositiveSmallIntegerField(help_text="HTTP status of the first answer.")
    content_type = models.TextField()
    location = models.TextField(null=True)  # noqa: DJ001 - null is "no such header", and costs no byte
    etag = models.TextField(null=True)  # noqa: DJ001 - the same
    headers = models.JSONField(null=True, help_text="Further headers that a replay carries.")
    body = models.BinaryField(help_text="The response, byte for byte.")  # as idempotency.bodies packs it
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    conflicts = models.PositiveIntegerField(
        db_default=0, help_text="How often the key came back with another request, and was answered 409."
    )
    last_conflict_at = models.DateTimeField(null=True)
    last_conflict = models.JSONField(
        null=True, help_text="Names of the fields in which that request differed, and its origin; no values."
    )
    # Not "positive": the check constraint of a new column reads the whole table under a lock.
    replays = models.IntegerField(db_default=0, help_text="Retries that got the stored answer; seconds late.")
    last_replay_at = models.DateTimeField(null=True)
    origin = models.JSONField(null=True, help_text="Of the first request, as IDEMPOTENCY_ORIGIN tells it.")
    parts = models.BinaryField(null=True, help_text="Digests of the first request's fields.")

    objects = KeyManager()

    class Meta:
        db_table = "idempotency_store"
        verbose_name = "idempotency key"
        ordering = ["-expires_at"]
        required_db_vendor = "postgresql"  # elsewhere Django makes no table of it
        indexes = [
            models.Index(fields=["expires_at"], name="idempotency_store_expires"),  # purge, newest first
            HashIndex(fields=["token"], name="idempotency_store_token"),  # support: a key somebody reads out
            models.Index(fields=["principal"], name="idempotency_store_principal"),  # support: a user's keys
            models.Index(  # support: the few keys with conflicts; other rows cost it nothing
                fields=["expires_at"],
                condition=models.Q(conflicts__gt=0),
                name="idempotency_store_conflicts",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")), name="idempotency_store_lives"
            ),
        ]

    def __str__(self) -> str:
        return format_key(environment=self.environment, operation=self.operation, token=self.token)
