from django.apps import AppConfig

from fundapi.celery import app as celery_app  # tasks that a web process sends find their broker

__all__ = ["FundapiConfig", "celery_app"]


class FundapiConfig(AppConfig):
    name = "fundapi"
    verbose_name = "Funds"
