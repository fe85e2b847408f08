"""What the product is about: funds."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from fundapi.exactjson import ExactDecoder, ExactEncoder


class Fund(models.Model):
    """An investment fund, as its owner set it up. Never created twice for one request: see ``idempotency``."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="funds", db_index=False
    )
    name = models.CharField(max_length=200)
    size = models.DecimalField(max_digits=20, decimal_places=2, help_text="Dollars.")
    management_fee = models.DecimalField(max_digits=7, decimal_places=6, help_text="Ratio, 0.02 is 2 %.")
    carry_percentage = models.DecimalField(max_digits=7, decimal_places=6, help_text="Ratio, 0.20 is 20 %.")
    vintage_year = models.PositiveSmallIntegerField()
    model_version = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001 - absent is not ""
    engine_results = models.JSONField(null=True, blank=True, encoder=ExactEncoder, decoder=ExactDecoder)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["owner", "-id"], name="fundapi_fund_owner_newest")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(name=""), name="fundapi_fund_name_given"),
            models.CheckConstraint(condition=models.Q(size__gte=0), name="fundapi_fund_size_not_negative"),
            models.CheckConstraint(
                condition=models.Q(management_fee__gte=0, management_fee__lte="0.10"),
                name="fundapi_fund_management_fee_range",
            ),
            models.CheckConstraint(
                condition=models.Q(carry_percentage__gte=0, carry_percentage__lte="0.50"),
                name="fundapi_fund_carry_percentage_range",
            ),
            models.CheckConstraint(
                condition=models.Q(vintage_year__gte=2000, vintage_year__lte=2100),
                name="fundapi_fund_vintage_year_range",
            ),
        ]

    def __str__(self) -> str:
        return self.name
