"""System checks: refuse a wrong set-up at start, not at night. Ids are stable."""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import wraps
from importlib.util import find_spec
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004 - Django's own name for it
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection, router
from rest_framework.settings import api_settings

from rollout import seeds
from rollout.blank import is_blank
from rollout.conf import conf, unknown_names, wrong_types
from rollout.judge.policy import Policy, faults
from rollout.units import percent

KEY_BYTES = range(24, 65)  # length of a secret by Standard Webhooks
NOWHERE = {"console", "dummy", "locmem"}  # Django's e-mail backends that send nothing
TICKET_TTLS = timedelta(minutes=1), timedelta(days=30)
POSITIVE = (
    "event_retention",
    "check_retention",
    "purge_batch_size",
    "poll_interval",
    "github_poll",
    "site_poll",
)
NOT_NEGATIVE = ("purge_pause", "cache_seconds", "github_retries", "checks_start")
A_URL = "Write it with https:// (or http://) and a host."
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
TOKEN = re.compile(r"[!-~]+")  # printable ASCII: an error of the HTTP library would show another one
# Settings that are texts of a form; some may be "".
FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "github_repository": (re.compile(rf"({REPOSITORY.pattern})?", re.ASCII), "OWNER/NAME, such as octo/shop"),
    "github_token": (re.compile(rf"({TOKEN.pattern})?"), "a token of GitHub, without spaces and line feeds"),
    "git_remote": (re.compile(r"[^\s-].*"), "the name or address of a git remote, such as origin"),
    "e2e_workflow": (re.compile(r"[\w.-]+"), "the name of a file in .github/workflows, such as ci.yml"),
    "celery_app": (
        re.compile(r"(([^\W\d]\w*\.)+[^\W\d]\w*)?"),
        "the dotted path of a Celery app, such as shop.celery.app",
    ),
}


Check = Callable[..., Iterable[CheckMessage]]


def check_types(**_: Any) -> list[CheckMessage]:
    """Refuse values of wrong types. Until they are right, the other checks say nothing."""
    return [Error(sentence, id="rollout.E014") for sentence in wrong_types()]


def of_right_types(check: Check) -> Callable[..., list[CheckMessage]]:
    @wraps(check)
    def checked(**options: Any) -> list[CheckMessage]:
        return [] if check_types() else list(check(**options))

    return checked


def check_names(**_: Any) -> Iterator[CheckMessage]:
    """Warn of settings that nothing reads: a misspelt one leaves its default in force."""
    for name in unknown_names():
        yield Warning(
            f"{name} is no setting of rollout, and nothing reads it",
            hint="Correct its name. If it is your own, name it otherwise, or put rollout.W021 into "
            "SILENCED_SYSTEM_CHECKS.",
            id="rollout.W021",
        )


@of_right_types
def check_policy(**_: Any) -> Iterator[CheckMessage]:
    policy: Policy = conf.policy
    found = list(faults(policy))
    yield from (Error(fault, id="rollout.E001") for fault in found)
    if not found and policy.points_client_max >= policy.error_threshold:
        yield Warning(
            "ROLLOUT_POINTS_CLIENT_MAX is not below ROLLOUT_ERROR_THRESHOLD: one client alone makes a check red",
            hint="Lower it, or one broken or hostile browser can roll back everybody.",
            id="rollout.W002",
        )


@of_right_types
def check_bounds(**_: Any) -> Iterator[CheckMessage]:
    for name in (*POSITIVE, *NOT_NEGATIVE):
        value = getattr(conf, name)
        if value < type(value)() or (name in POSITIVE and not value):
            least = "greater than 0" if name in POSITIVE else "0 or more"
            yield Error(f"ROLLOUT_{name.upper()} is {value}, and should be {least}", id="rollout.E003")


@of_right_types
def check_tickets(**_: Any) -> Iterator[CheckMessage]:
    shortest, longest = TICKET_TTLS
    if not shortest <= conf.ticket_ttl <= longest:
        yield Error(
            f"ROLLOUT_TICKET_TTL is {conf.ticket_ttl}, and should be between a minute and 30 days",
            hint="Browsers renew a ticket before it expires; a stolen one works until then.",
            id="rollout.E011",
        )


@of_right_types
def check_networks(**_: Any) -> Iterator[CheckMessage]:
    """Check, for a deployment, that clients without a ticket can be told apart by their networks.

    Only a hint: whether there is a proxy cannot be known at start, and where everybody signs in it does not matter.
    """
    if conf.policy.unsigned_telemetry != "network":
        return
    proxies = api_settings.NUM_PROXIES
    if proxies is None:
        yield Warning(
            "NUM_PROXIES is not set: whoever sends X-Forwarded-For chooses the network that their telemetry counts for",
            hint="Set REST_FRAMEWORK['NUM_PROXIES'] to the number of proxies that add to the header, or to 0.",
            id="rollout.W012",
        )
    elif proxies == 0 and settings.SECURE_PROXY_SSL_HEADER:
        yield Info(
            "A proxy ends TLS, but none is trusted for X-Forwarded-For: to the judge, all clients without a ticket are "
            "one network, and cannot roll back anything",
            hint=(
                "Set TRUSTED_PROXIES (REST_FRAMEWORK['NUM_PROXIES']) to the number of proxies that add to the header; "
                "or ROLLOUT_UNSIGNED_TELEMETRY=none, if only signed-in users shall count."
            ),
            id="rollout.I013",
        )


@of_right_types
def check_webhook(**_: Any) -> Iterator[CheckMessage]:
    """Check the webhook. Messages never show the URL or the secret."""
    if conf.webhook_url and not is_url(conf.webhook_url):
        yield Error("ROLLOUT_WEBHOOK_URL is not a URL", hint=A_URL, id="rollout.E004")
    if conf.webhook_url and not conf.webhook_secret:
        yield Error(
            "ROLLOUT_WEBHOOK_URL is set, but ROLLOUT_WEBHOOK_SECRET is not",
            hint="Make one: echo whsec_$(openssl rand -base64 32). Without it, anybody could send alerts.",
            id="rollout.E005",
        )
    if conf.webhook_secret and not is_secret(conf.webhook_secret):
        yield Error(
            "ROLLOUT_WEBHOOK_SECRET must be 24 to 64 bytes in base64, with or without whsec_ before it",
            hint="Make one: echo whsec_$(openssl rand -base64 32)",
            id="rollout.E006",
        )
    if conf.admin_url and not is_url(conf.admin_url):
        yield Error("ROLLOUT_ADMIN_URL is not a URL", hint=A_URL, id="rollout.E007")


@of_right_types
def check_addresses(**_: Any) -> Iterator[CheckMessage]:
    """Check the addresses that the release commands ask. Messages never show them: they may have a password."""
    if conf.site_url and not is_url(conf.site_url):
        yield Error("ROLLOUT_SITE_URL is not a URL", hint=A_URL, id="rollout.E022")
    if not is_api_url(conf.github_api_url):
        yield Error(
            "ROLLOUT_GITHUB_API_URL is not the address of an API",
            hint=f"{A_URL} GitHub's own is https://api.github.com.",
            id="rollout.E022",
        )


@of_right_types
def check_forms(**_: Any) -> Iterator[CheckMessage]:
    """Check texts of the release commands and alerts. Messages never show them: one is a secret, or is pasted there."""
    for name, (form, should) in FORMS.items():
        if not form.fullmatch(getattr(conf, name)):
            yield Error(f"ROLLOUT_{name.upper()} should be {should}", id="rollout.E023")


@of_right_types
def check_email(**_: Any) -> Iterator[CheckMessage]:
    for address in conf.alert_emails:
        try:
            validate_email(address)
        except ValidationError:
            yield Error(f"ROLLOUT_ALERT_EMAILS: '{address}' is not an e-mail address", id="rollout.E008")
    if conf.alert_emails and not NOWHERE.isdisjoint(settings.EMAIL_BACKEND.split(".")):
        yield Warning(
            "ROLLOUT_ALERT_EMAILS is set, but EMAIL_BACKEND sends no e-mail",
            hint="Set EMAIL_URL to a mail server.",
            id="rollout.W009",
        )


@of_right_types
def check_auto_revert(**_: Any) -> Iterator[CheckMessage]:
    if conf.auto_revert and not conf.github_configured:
        yield Warning(
            "ROLLOUT_AUTO_REVERT is on, but GitHub is not configured: no revert will be opened",
            hint="Set GITHUB_TOKEN and GITHUB_REPOSITORY.",
            id="rollout.W010",
        )
    if conf.auto_revert and find_spec("github") is None:
        yield Warning(
            "ROLLOUT_AUTO_REVERT is on, but GitHub's client is not installed: no revert will be opened",
            hint="pip install 'fundapi-rollout[release]'",
            id="rollout.W019",
        )


@of_right_types
def check_words(**_: Any) -> Iterator[CheckMessage]:
    """Check the words of the product for a rollout that is live and for one that is not."""
    if len(conf.live_words) != 2 or len(set(conf.live_words)) != 2 or not all(conf.live_words):
        yield Error(
            f"ROLLOUT_LIVE_WORDS is {tuple(conf.live_words)!r}, and should be two different words",
            hint='The first is for a rollout that any browser can get, such as ("on", "off").',
            id="rollout.E020",
        )
    if not conf.variants_with or any(map(is_blank, conf.variants_with)):
        yield Error(
            "ROLLOUT_VARIANTS_WITH has no name, or an empty one",
            hint='Name the variants that have the feature, such as ("on",).',
            id="rollout.E020",
        )
    for name in ("environment", "without", "live_label"):
        if is_blank(getattr(conf, name)):
            yield Error(f"ROLLOUT_{name.upper()} is empty, and should be a name", id="rollout.E020")


MIDDLEWARE = "rollout.middleware.RolloutMiddleware"
CACHE_MIDDLEWARE = "django.middleware.cache.UpdateCacheMiddleware"


def check_middleware(**_: Any) -> Iterator[CheckMessage]:
    """Check that no cache keeps one browser's answer, with its key, for all others."""
    listed = list(settings.MIDDLEWARE)
    if MIDDLEWARE in listed and CACHE_MIDDLEWARE in listed[listed.index(MIDDLEWARE) :]:
        yield Error(
            f"{MIDDLEWARE} comes before {CACHE_MIDDLEWARE}: the cache would keep one browser's answer for all",
            hint="Move it below UpdateCacheMiddleware in MIDDLEWARE.",
            id="rollout.E016",
        )


def check_database(**_: Any) -> Iterator[CheckMessage]:
    """Refuse another database than PostgreSQL, before ``migrate`` makes anything."""
    if connection.vendor != "postgresql":
        yield Error(
            f"The database '{DEFAULT_DB_ALIAS}' is {connection.display_name}, not PostgreSQL",
            hint="Set DATABASES['default'] to PostgreSQL: rollouts use its locks, sequences and SQL.",
            id="rollout.E017",
        )
    # Not imported: the app registers its checks before it has models.
    routed = router.db_for_write(apps.get_model("rollout", "Rollout"))
    if routed != DEFAULT_DB_ALIAS:
        yield Error(
            f"DATABASE_ROUTERS sends rollouts to '{routed}', while the app's own SQL uses '{DEFAULT_DB_ALIAS}'",
            hint="Leave the app 'rollout' in the default database.",
            id="rollout.E018",
        )


@of_right_types
def check_seed_entries(**_: Any) -> Iterator[CheckMessage]:
    """Refuse seeds that the first migration, or the check of their variables, would fail on."""
    yield from (Error(fault, id="rollout.E024") for fault in seeds.faults())


@of_right_types
def check_seeds(*, databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """Warn of variables that differ from the database, which decides since the first migration.

    Only where the database is checked, as by ``migrate``. Before the first migration, and while the database is away,
    there is nothing to compare.
    """
    for seed in conf.seed_variables if databases and not check_seed_entries() else ():
        feature, field, value = seed["feature"], seed["field"], seeds.cleaned(seed["field"], seed["value"])
        try:
            # Not imported: the app registers its checks before it has models.
            rollouts = apps.get_model("rollout", "Rollout").objects
            stored = rollouts.filter(feature=feature).values_list(field, flat=True).first()
        except (DatabaseError, InterfaceError):
            return
        if stored is not None and stored != value:
            yield Warning(
                f"{seed['variable']} is {_written(value)}, and is ignored: the database has {_written(stored)} for "
                f"{feature}, and decides since the first start",
                hint=f'Change it with: manage.py rollout {_operation(feature, field, value)} --reason "...". Or unset '
                f"the variable.",
                id="rollout.W015",
            )


def _written(value: object) -> str:
    """Return a value as people write it."""
    if isinstance(value, Decimal):
        return percent(value)
    return ("off", "on")[value] if isinstance(value, bool) else quote(str(value))


def _operation(feature: str, field: str, value: Any) -> str:
    if field == "percentage":
        return f"set {feature} {value.normalize():f}" if value else f"rollback {feature}"
    return f"configure {feature} --{field.replace('_', '-')} {_written(value)}"


def is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        has_space = any(map(str.isspace, text))
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0 and not has_space
    except ValueError:  # a port that is no number, or a missing bracket
        return False


def is_api_url(text: str) -> bool:
    """Return whether GitHub's client can ask an address: it leaves out the brackets of an IPv6 address."""
    return is_url(text.strip()) and not {"?", "["} & set(text)


def is_secret(text: str) -> bool:
    """Return whether a secret is valid base64 of a valid length: the signing library ignores other characters."""
    try:
        return len(b64decode(text.removeprefix("whsec_"), validate=True)) in KEY_BYTES
    except ValueError:  # not base64, or not ASCII
        return False
