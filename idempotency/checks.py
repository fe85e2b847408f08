"""System checks: refuse a wrong set-up at start. Their ids are stable."""

import re
import sys
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.db import connections
from django.urls import get_resolver
from django.utils.connection import ConnectionDoesNotExist
from django.utils.module_loading import import_string

from idempotency.conf import PATHS, TIMEOUT_MAX, TIMEOUT_MIN, TTL_MAX, Settings, conf, wrong_types
from idempotency.keys import TOKEN
from idempotency.marks import HEADER, unreached

MIDDLEWARE = "idempotency.middleware.IdempotencyMiddleware"

NEVER_REPLAYED = {"set-cookie", "www-authenticate", "authorization", "cookie", "content-length", "date"}
# What the language and PostgreSQL can do with them.
RANGES: dict[str, tuple[Any, Any, str]] = {
    "ttl": (timedelta(microseconds=1), TTL_MAX, "greater than 0 and at most 100 years"),
    "statement_timeout": (TIMEOUT_MIN, TIMEOUT_MAX, "from 1 ms to 24 days"),
    "idle_timeout": (TIMEOUT_MIN, TIMEOUT_MAX, "from 1 ms to 24 days"),
    "purge_batch_size": (1, 1_000_000, "greater than 0 and at most 1,000,000"),
}
PYTHON_MIN = (3, 11)


def check_types(**_: Any) -> list[CheckMessage]:
    """Refuse values of wrong types. Until they are right, the other checks of settings say nothing."""
    return [Error(sentence, id="idempotency.E011") for sentence in wrong_types()]


def check_settings(**_: Any) -> list[CheckMessage]:
    if check_types():
        return []
    errors: list[CheckMessage] = []
    if not re.fullmatch(TOKEN, conf.environment):
        errors.append(
            Error(
                f"IDEMPOTENCY_ENVIRONMENT is {conf.environment!r}, and should be 1 to 255 of A-Z a-z 0-9 _ . : ~ -",
                hint="Name the environment, such as 'prod': it keeps keys of environments apart.",
                id="idempotency.E001",
            )
        )
    errors += _check_functions()
    errors += _check_replayed_headers()
    for name, (least, most, rule) in RANGES.items():
        value = getattr(conf, name)
        if not least <= value <= most:
            errors.append(
                Error(f"IDEMPOTENCY_{name.upper()} is {value}, and should be {rule}", id="idempotency.E003")
            )
    if not 0 < conf.purge_share <= 1:
        errors.append(
            Error(
                f"IDEMPOTENCY_PURGE_SHARE is {conf.purge_share}, and should be greater than 0 and at most 1",
                id="idempotency.E010",
            )
        )
    if conf.waiters_max < 0:
        errors.append(
            Error(
                f"IDEMPOTENCY_WAITERS_MAX is {conf.waiters_max}, and should be 0 or more",
                id="idempotency.E012",
            )
        )
    try:
        conf.problem_type.format(code="code")
    except (LookupError, ValueError, AttributeError):
        errors.append(
            Error(
                f"IDEMPOTENCY_PROBLEM_TYPE is {conf.problem_type!r}, and should have no braces but those of {{code}}",
                id="idempotency.E015",
            )
        )
    longest = conf.statement_timeout.total_seconds()
    if not 0 <= conf.wait_max < longest:
        errors.append(
            Error(
                f"IDEMPOTENCY_WAIT_MAX is {conf.wait_max}, and should be at least 0 and less than "
                f"IDEMPOTENCY_STATEMENT_TIMEOUT, which is {longest:g} s",
                hint="A wait is one statement: a shorter time-out would end it as a failure.",
                id="idempotency.E004",
            )
        )
    return errors


def _check_functions() -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for name in PATHS:
        try:
            function = getattr(conf, name)
            wrong = "" if function is None or callable(function) else "is not a function"
        except Exception as error:  # noqa: BLE001 - its module runs the project's own code
            wrong = f"cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
        if wrong:
            errors.append(Error(f"IDEMPOTENCY_{name.upper()} {wrong}", id="idempotency.E002"))
    return errors


def _check_replayed_headers() -> list[CheckMessage]:
    names = getattr(settings, "IDEMPOTENCY_REPLAYED_HEADERS", [])
    if isinstance(names, list | tuple) and all(
        isinstance(name, str) and HEADER.fullmatch(name) for name in names
    ):
        private = sorted(name for name in names if name.lower() in NEVER_REPLAYED)
        wrong = f"has {', '.join(private)}, which is one client's own" if private else ""
    else:
        wrong = f"is {names!r}, and should be a list of names of headers, such as ['Content-Disposition']"
    return [Error(f"IDEMPOTENCY_REPLAYED_HEADERS {wrong}", id="idempotency.E014")] if wrong else []


def check_names(**_: Any) -> list[CheckMessage]:
    """Warn of a setting that the app does not have: a misspelt one would change nothing, in silence."""
    known = {f"IDEMPOTENCY_{name.upper()}" for name in vars(Settings) if not name.startswith("_")}
    unknown = {name for name in dir(settings) if name.startswith("IDEMPOTENCY_")} - known
    return [
        CheckWarning(
            f"{name} is no setting of the app, and changes nothing",
            hint=f"Did you mean {near[0]}?"
            if (near := get_close_matches(name, known, n=1))
            else "Remove it.",
            id="idempotency.W002",
        )
        for name in sorted(unknown)
    ]


def check_python(**_: Any) -> list[CheckMessage]:
    """Refuse a Python on which every guarded request would fail."""
    if sys.version_info >= PYTHON_MIN:
        return []
    version = ".".join(map(str, PYTHON_MIN))
    return [Error(f"Python is older than {version}", hint=f"Use {version} or newer.", id="idempotency.E016")]


def check_middleware(**_: Any) -> list[CheckMessage]:
    """Refuse a middleware that is not last: what a view leaves open has to end before any other sees the answer."""
    places = [number for number, path in enumerate(settings.MIDDLEWARE) if _is_ours(path)]
    if not places:
        return [Error(f"{MIDDLEWARE} is not in MIDDLEWARE", hint="Add it last.", id="idempotency.E005")]
    if places != [len(settings.MIDDLEWARE) - 1]:
        return [Error(f"{MIDDLEWARE} is not the last of MIDDLEWARE", hint="Move it.", id="idempotency.E006")]
    return []


def _is_ours(path: str) -> bool:
    """Return whether a path of ``MIDDLEWARE`` names the app's middleware, or a subclass of it."""
    if path == MIDDLEWARE:
        return True
    try:
        middleware = import_string(path)
    except Exception:  # noqa: BLE001 - Django says so when it loads the middleware
        return False
    return isinstance(middleware, type) and issubclass(middleware, import_string(MIDDLEWARE))


def check_database(**_: Any) -> list[CheckMessage]:
    if check_types():
        return []
    try:
        connection = connections[conf.database]
    except ConnectionDoesNotExist:
        return [Error(f"IDEMPOTENCY_DATABASE names no database: '{conf.database}'", id="idempotency.E007")]
    if connection.vendor != "postgresql":
        return [
            Error(
                f"The database '{conf.database}' is {connection.display_name}, not PostgreSQL",
                hint="Advisory locks and transactions of PostgreSQL carry the whole guarantee.",
                id="idempotency.E008",
            )
        ]
    isolation = connection.settings_dict.get("OPTIONS", {}).get("isolation_level")
    if isolation not in (None, 2):  # psycopg.IsolationLevel.READ_COMMITTED
        return [
            Error(
                f"The database '{conf.database}' is set to another isolation level than READ COMMITTED",
                hint="Under a longer snapshot, the look-up after the lock would not see an answer stored meanwhile.",
                id="idempotency.E009",
            )
        ]
    return []


def check_tenants(**_: Any) -> list[CheckMessage]:
    """Warn where the tenants of django-tenants share the table, while each has users of its own."""
    shared, of_tenants = (
        any(app.partition(".")[0] == "idempotency" for app in getattr(settings, name, ()))
        for name in ("SHARED_APPS", "TENANT_APPS")
    )
    if not shared or of_tenants or conf.scope_by_host:
        return []
    return [
        CheckWarning(
            "All tenants share one table of keys: a user of one tenant may get what is stored for another's",
            hint="Set IDEMPOTENCY_SCOPE_BY_HOST = True, or have TENANT_APPS install idempotency. If your admission "
            "names the tenant in the principal, silence this check.",
            id="idempotency.W001",
        )
    ]


def check_marks(**_: Any) -> list[CheckMessage]:
    """Refuse marks that would guard nothing, because no URL leads to what they stand on."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return [
        Error(
            f"@idempotent(operation='{mark.operation}') on {mark.place} guards nothing: no URL calls it",
            hint="Mark what the URL calls: a method that a subclass overrides loses its mark. If something that this "
            "check cannot see calls it, silence this check.",
            id="idempotency.E013",
        )
        for mark in sorted(unreached(get_resolver().url_patterns), key=lambda mark: mark.place)
    ]
