from django.apps import AppConfig


class FundapiConfig(AppConfig):
    name = "fundapi"
    verbose_name = "Funds"
