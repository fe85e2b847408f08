"""The model of a fund."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from fundapi.exactjson import ExactDecoder, ExactEncoder

# Bounds of a fund, for the constraints below and the API. A changed one takes a migration.
NAME_LENGTH_MAX = 200
SIZE_MAX = "999999999999999999.99"  # dollars; 20 digits
MANAGEMENT_FEE_MAX = "0.10"
CARRY_PERCENTAGE_MAX = "0.50"
VINTAGE_YEAR_MIN, VINTAGE_YEAR_MAX = 2000, 2100
MODEL_VERSION_LENGTH_MAX = 50


class Fund(models.Model):
    """An investment fund of one owner. ``idempotency`` keeps one request from creating it twice."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="funds", db_index=False
    )
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    size = models.DecimalField(max_digits=20, decimal_places=2, help_text="Dollars.")
    management_fee = models.DecimalField(max_digits=7, decimal_places=6, help_text="Ratio, 0.02 is 2 %.")
    carry_percentage = models.DecimalField(max_digits=7, decimal_places=6, help_text="Ratio, 0.20 is 20 %.")
    vintage_year = models.PositiveSmallIntegerField()
    # NULL is "not given", which differs from "".
    model_version = models.CharField(max_length=MODEL_VERSION_LENGTH_MAX, null=True, blank=True)  # noqa: DJ001
    engine_results = models.JSONField(null=True, blank=True, encoder=ExactEncoder, decoder=ExactDecoder)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["owner", "-id"], name="fundapi_fund_owner_newest")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(name=""), name="fundapi_fund_name_given"),
            models.CheckConstraint(condition=models.Q(size__gte=0), name="fundapi_fund_size_not_negative"),
            models.CheckConstraint(
                condition=models.Q(management_fee__gte=0, management_fee__lte=MANAGEMENT_FEE_MAX),
                name="fundapi_fund_management_fee_range",
            ),
            models.CheckConstraint(
                condition=models.Q(carry_percentage__gte=0, carry_percentage__lte=CARRY_PERCENTAGE_MAX),
                name="fundapi_fund_carry_percentage_range",
            ),
            models.CheckConstraint(
                condition=models.Q(vintage_year__gte=VINTAGE_YEAR_MIN, vintage_year__lte=VINTAGE_YEAR_MAX),
                name="fundapi_fund_vintage_year_range",
            ),
        ]

    def __str__(self) -> str:
        return self.name
