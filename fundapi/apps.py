"""The project's app, and Django's admin with the project's site."""

from django.apps import AppConfig, apps
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

    def ready(self) -> None:
        """Name other apps' models by what they are here; migrations keep the names they were written with."""
        super().ready()
        for model, (one, many) in NAMES.items():
            meta = apps.get_model(model)._meta
            meta.verbose_name, meta.verbose_name_plural = one, many
            meta.app_config.verbose_name = "Access"


class StaticFilesConfig(DjangoStaticFilesConfig):
    """django.contrib.staticfiles without the files of pages that are not served here."""

    ignore_patterns = [*DjangoStaticFilesConfig.ignore_patterns, "redoc", "rest_framework"]


# As the sidebar has them: nobody who operates funds knows the names of libraries.
NAMES = {
    "auth.user": ("user", "users"),
    "axes.accesslog": ("sign-in", "sign-ins"),
    "axes.accessfailurelog": ("failed sign-in", "failed sign-ins"),
    "axes.accessattempt": ("lock-out", "lock-outs"),
    "knox.authtoken": ("bearer token", "bearer tokens"),
    "otp_static.staticdevice": ("set of backup codes", "sets of backup codes"),
    "otp_totp.totpdevice": ("authenticator", "authenticators"),
}
