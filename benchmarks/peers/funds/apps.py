from django.apps import AppConfig


class FundsConfig(AppConfig):
    name = "benchmarks.peers.funds"
    label = "fundapi"  # as the permission to create funds names it
