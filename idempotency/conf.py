"""The app's settings: one object, one lazy property a setting, read once; ``override_settings`` works.

Each is an ordinary Django setting named ``IDEMPOTENCY_<PROPERTY>``. A plain property would read the settings of a
request eight times, which is 2 % of a replay.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from typing import Any, get_type_hints

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.utils.module_loading import import_string

Origin = Callable[[HttpRequest], dict[str, str]]
Admit = Callable[[HttpRequest, Callable[..., Any]], "str | HttpResponseBase"]

TTL_MAX = timedelta(days=36_500)  # a hundred years; PostgreSQL's calendar ends some time after
TIMEOUT_MIN = timedelta(milliseconds=1)  # less is 0, by which PostgreSQL means no limit
TIMEOUT_MAX = timedelta(milliseconds=2**31 - 1)  # PostgreSQL's own


class Settings:
    @cached_property
    def environment(self) -> str:
        """Namespace of all keys, such as ``prod``. Required: environments may share a database."""
        return getattr(settings, "IDEMPOTENCY_ENVIRONMENT", "") or ""

    @cached_property
    def admit(self) -> Admit:
        """Dotted path of ``admit(request, view) -> principal | response``.

        The function authenticates, authorises and throttles before any stored answer is read. It returns a stable
        name of the caller (a user id, never a token), or the response that refuses the request.
        """
        admit: Admit = import_string(
            getattr(settings, "IDEMPOTENCY_ADMIT", "idempotency.admission.signed_in_user")
        )
        return admit

    @cached_property
    def origin(self) -> Origin | None:
        """Dotted path of ``origin(request) -> {"request_id": ...}``, or none.

        What it returns about a request, such as the id of its log line, is stored with the key and shown beside it.
        """
        path = getattr(settings, "IDEMPOTENCY_ORIGIN", "")
        return import_string(path) if path else None

    @cached_property
    def scope_by_host(self) -> bool:
        """Whether keys belong to the host of a request too: tenants that share the table may share user ids."""
        return getattr(settings, "IDEMPOTENCY_SCOPE_BY_HOST", False)

    @cached_property
    def ttl(self) -> timedelta:
        """Lifetime of a key. Runbook: 24 hours."""
        return getattr(settings, "IDEMPOTENCY_TTL", timedelta(hours=24))

    @cached_property
    def replayed_headers(self) -> list[str]:
        """Headers that a replay has from the first answer: these, and what the setting adds."""
        own = ["Content-Type", "Content-Encoding", "Location", "ETag"]
        return [*own, *getattr(settings, "IDEMPOTENCY_REPLAYED_HEADERS", [])]

    @cached_property
    def database(self) -> str:
        """Alias of the database that holds the keys: the one that the guarded views write to."""
        return getattr(settings, "IDEMPOTENCY_DATABASE", "default")

    @cached_property
    def wait_max(self) -> int:
        """Cap of ``Prefer: wait=N``, in seconds. Must stay under the connection's statement time-out."""
        return getattr(settings, "IDEMPOTENCY_WAIT_MAX", 2)

    @cached_property
    def waiters_max(self) -> int:
        """Requests of one process that may wait at once; keep it below its number of threads."""
        return getattr(settings, "IDEMPOTENCY_WAITERS_MAX", 1)

    @cached_property
    def statement_timeout(self) -> timedelta:
        """Longest statement of a guarded view. With ``idle_timeout`` it bounds how long a stuck view holds a key."""
        return getattr(settings, "IDEMPOTENCY_STATEMENT_TIMEOUT", timedelta(seconds=5))

    @cached_property
    def idle_timeout(self) -> timedelta:
        """Longest pause between two statements of a guarded view; then PostgreSQL ends its transaction."""
        return getattr(settings, "IDEMPOTENCY_IDLE_TIMEOUT", timedelta(seconds=10))

    @cached_property
    def purge_batch_size(self) -> int:
        """Rows that one purge transaction deletes; few, so that no lock and no snapshot is held for long."""
        return getattr(settings, "IDEMPOTENCY_PURGE_BATCH_SIZE", 1000)

    @cached_property
    def purge_share(self) -> float:
        """Share of the time that a purge works, greater than 0 and at most 1; it rests longer on a slower server."""
        return getattr(settings, "IDEMPOTENCY_PURGE_SHARE", 0.1)

    @cached_property
    def problem_type(self) -> str:
        """Template of the ``type`` of a problem (RFC 9457); ``{code}`` is replaced."""
        return getattr(settings, "IDEMPOTENCY_PROBLEM_TYPE", "about:blank")


conf = Settings()
# Settings that name a function.
PATHS = ("admit", "origin")


def require_app() -> None:
    """Refuse to guard anything in a project that has not installed the app: no system check would run there.

    Raises:
        ImproperlyConfigured: it is not in ``INSTALLED_APPS``. Before Django has read them, nothing is known.
    """
    if apps.apps_ready and not apps.is_installed("idempotency"):
        raise ImproperlyConfigured(
            "idempotency guards nothing before it is installed: add 'idempotency' to INSTALLED_APPS, and migrate."
        )


def wrong_types() -> Iterator[str]:
    """Yield a sentence for each setting whose value has another type than its property."""
    for name, setting in vars(Settings).items():
        # Headers have a check of their own.
        if isinstance(setting, cached_property) and name != "replayed_headers":
            # Its value is a function, its setting a path.
            path = name in PATHS
            kind = str if path else get_type_hints(setting.func)["return"]
            value = getattr(settings, f"IDEMPOTENCY_{name.upper()}", "") if path else getattr(conf, name)
            of_kind = isinstance(value, int | float if kind is float else kind)
            if not of_kind or isinstance(value, bool) != (kind is bool):
                yield f"IDEMPOTENCY_{name.upper()} is {value!r}, and should be of type {kind.__name__}."


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()
