"""The project's app, and Django's admin with the project's site."""

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_dependencies
from django.contrib.staticfiles.apps import StaticFilesConfig as DjangoStaticFilesConfig
from django.core.checks import Tags, register

from fundapi.checks import (
    check_log,
    check_migrations,
    check_pages,
    check_session,
    check_standbys,
    check_variables,
)


class FundapiConfig(AppConfig):
    name = "fundapi"
    verbose_name = "Funds"

    def ready(self) -> None:
        register(check_variables)
        register(check_migrations, Tags.models, deploy=True)
        register(check_session, Tags.database)
        register(check_standbys, Tags.database)
        register(check_log, Tags.database, deploy=True)


class SiteConfig(SimpleAdminConfig):
    """django.contrib.admin with the project's site, whose pages are imported with their addresses.

    They take 3 MiB of a web worker and 0.1 s of its start, and one that serves the API alone shows none of them.
    """

    default_site = "fundapi.site.AdminSite"

    def ready(self) -> None:
        """Name other apps' models and rows by what they are here; migrations keep the names they were written with."""
        register(check_dependencies, Tags.admin)
        register(check_pages, Tags.admin)
        for model, (one, many) in NAMES.items():
            meta = apps.get_model(model)._meta
            meta.verbose_name, meta.verbose_name_plural = one, many
            meta.app_config.verbose_name = "Access"
        for model in ("accesslog", "accessfailurelog", "accessattempt"):
            attempt = apps.get_model("axes", model)
            attempt.__str__ = _attempt  # type: ignore[assignment]  # becomes a method
            for field in attempt._meta.fields:
                field.verbose_name = FIELDS.get(field.name, field.verbose_name)


class StaticFilesConfig(DjangoStaticFilesConfig):
    """django.contrib.staticfiles without the files of pages that are not served here."""

    ignore_patterns = [*DjangoStaticFilesConfig.ignore_patterns, "redoc", "rest_framework"]


def _attempt(record: Any) -> str:
    return f"{record.username or 'nobody'}, {record.attempt_time:%Y-%m-%d %H:%M} UTC"


# As the sidebar has them: nobody who operates funds knows the names of libraries.
NAMES = {
    "auth.user": ("user", "users"),
    "axes.accesslog": ("sign-in", "sign-ins"),
    "axes.accessfailurelog": ("failed sign-in", "failed sign-ins"),
    "axes.accessattempt": ("lock-out", "lock-outs"),
    "axes.accessattemptexpiration": ("end of a lock-out", "ends of lock-outs"),
    "knox.authtoken": ("bearer token", "bearer tokens"),
    "otp_static.staticdevice": ("set of backup codes", "sets of backup codes"),
    "otp_static.statictoken": ("backup code", "backup codes"),
    "otp_totp.totpdevice": ("authenticator", "authenticators"),
}
FIELDS = {
    "attempt_time": "time",
    "failures_since_start": "failures",
    "ip_address": "address",
    "locked_out": "locked out",
    "logout_time": "signed out at",
    "user_agent": "browser",
}
