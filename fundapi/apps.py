"""The project's app, and Django's admin with the project's site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.contrib.staticfiles.apps import StaticFilesConfig as DjangoStaticFilesConfig
from django.core.checks import Tags, register

from fundapi.checks import check_log, check_migrations, check_session, check_variables


class FundapiConfig(AppConfig):
    name = "fundapi"
    verbose_name = "Funds"

    def ready(self) -> None:
        register(check_variables)
        register(check_migrations, Tags.models, deploy=True)
        register(check_session, Tags.database)
        register(check_log, Tags.database, deploy=True)


class SiteConfig(AdminConfig):
    """django.contrib.admin with the project's site instead of its own."""

    default_site = "fundapi.site.AdminSite"


class StaticFilesConfig(DjangoStaticFilesConfig):
    """django.contrib.staticfiles without the files of pages that are not served here."""

    ignore_patterns = [*DjangoStaticFilesConfig.ignore_patterns, "redoc", "rest_framework"]
