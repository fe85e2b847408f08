"""The model of a fund, with the columns of the product's table."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Fund(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    name = models.CharField(max_length=200)
    size = models.DecimalField(max_digits=20, decimal_places=2)
    management_fee = models.DecimalField(max_digits=7, decimal_places=6)
    carry_percentage = models.DecimalField(max_digits=7, decimal_places=6)
    vintage_year = models.PositiveSmallIntegerField()
    model_version = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001 - the column's
    engine_results = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        managed = False
        db_table = "fundapi_fund"

    def __str__(self) -> str:
        return self.name
