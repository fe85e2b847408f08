"""All configuration, from environment variables alone; ``.env.example`` documents each.

The sections, each under a line ``# --- Name``: Security, Browser policies, Sign-in, Applications, Overload, PostgreSQL,
Valkey, Celery, API, Frontends on other origins, Idempotency, Rollout, Alerts, Release commands, Admin, Logs and
Sentry, Metrics, OpenTelemetry, Misspelt variables.
"""

import math
import sys
from dataclasses import fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from psycopg import IsolationLevel
from redis.backoff import NoBackoff
from redis.retry import Retry

import fundapi.metric_files  # noqa: F401 - before an app makes a metric
from fundapi import addresses
from fundapi.variables import (
    ADDRESS,
    Variables,
    header_name,
    mail_address,
    regular_expression,
    wrong,
    wrong_secret,
)
from fundapi.web import serve
from fundapi.web.commit import commit_of
from fundapi.web.logs import default_format, logging_config
from rollout.judge.policy import UNSIGNED, Policy, faults, setting

env = Variables()
SECOND, DAY, MONTH = timedelta(seconds=1), timedelta(days=1), timedelta(days=30)


def _threshold(name: str, default: Any) -> Any:
    """Return a threshold of the judge, of the same type as its default. The policy's own rules come later."""
    match default:
        case timedelta():
            return env.seconds(name, default)
        case tuple():
            return env.wholes(name, default, most=100)
        case str():
            return env.choice(name, default, UNSIGNED)
        case int():
            return env.whole(name, default)
        case _:
            return env.decimal(name, default)


BASE_DIR = Path(__file__).resolve().parent.parent
# Namespace of keys and rollouts, and nothing else. A part of each key, and as long as the column of deployments.
ENVIRONMENT = env.text(
    "ENVIRONMENT", "dev", pattern="[A-Za-z0-9_.:~-]{1,100}", should="1 to 100 of A-Z a-z 0-9 _ . : ~ -"
)
# The commit that runs, for /health; None when it is unknown.
COMMIT = env.text(
    "COMMIT",
    pattern="([0-9a-fA-F]{40}|[0-9a-fA-F]{64})?",
    should="the full hash of the commit that runs: 40 or 64 hexadecimal digits",
).lower() or commit_of(BASE_DIR)

# --- Security: none of it depends on ENVIRONMENT ------------------------------------------------------------
DEBUG = env.switch("DEBUG", default=False)
SECRET_KEY = env.secret("SECRET_KEY", None, should="50 or more random characters")
HTTPS = env.switch("HTTPS", default=False)  # on behind a TLS-terminating proxy that sets X-Forwarded-Proto
if HTTPS and len(SECRET_KEY) < 50:
    raise wrong_secret("SECRET_KEY", f"50 or more random characters, and has {len(SECRET_KEY)}")
SECRET_KEY_FALLBACKS = env.secrets("SECRET_KEY_FALLBACKS")
# Probes come to the last three.
ALLOWED_HOSTS = [*env.hosts("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", patterns=True)
HSTS_SECONDS = env.whole("HSTS_SECONDS", 31_536_000)  # a year, which browsers' preload lists require
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = HSTS_SECONDS
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|health|metrics)$"]  # probes come from inside, without TLS
SESSION_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"  # with Strict, a link in an alert would open a page without a session
if HTTPS:
    SESSION_COOKIE_NAME = "__Host-sessionid"  # with this prefix, no other host of the domain can set it
# The CSRF cookie is readable and without the prefix: frontends send it back, and know it by its name.
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True

# --- Browser policies (fundapi.web.middleware.BrowserPolicyMiddleware) --------------------------------------
# Scripts, styles, images and requests from this origin alone; nothing inline.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
ADMIN_CONTENT_SECURITY_POLICY = {
    # Alpine.js, on which Unfold is built, compiles the expressions in its templates. It can evaluate only text that is
    # in a page already, and templates escape.
    "script-src": [UNSAFE_EVAL],
    # Alpine.js and coloured JSON write style attributes, which no nonce can allow. Style elements stay forbidden.
    "style-src-attr": [UNSAFE_INLINE],
}
PERMISSIONS_POLICY = ", ".join(
    f"{feature}=()"
    for feature in (
        *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer"),
        *("microphone", "midi", "payment", "publickey-credentials-get", "screen-wake-lock", "serial", "usb"),
    )
)

# --- Sign-in (fundapi.access) -------------------------------------------------------------------------------
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",  # memory-hard, and needs no package
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: during a lock-out no password is checked
    "django.contrib.auth.backends.ModelBackend",
]
TRUSTED_PROXIES = env.whole("TRUSTED_PROXIES", 0, most=100)  # proxies whose X-Forwarded-For is believed
AXES_HANDLER = "fundapi.access.signins.SignInHandler"
AXES_CLIENT_IP_CALLABLE = "fundapi.access.signins.client_network"
SILENCED_SYSTEM_CHECKS = ["axes.W002"]  # its middleware: see fundapi.access.signins.lockout_response
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # by name alone, anybody could lock anybody out
AXES_FAILURE_LIMIT = env.whole("SIGNIN_FAILURES_MAX", 5) or sys.maxsize  # axes reads 0 as "always"
# Behind a proxy that TRUSTED_PROXIES does not count, all have one address: one attacker would lock everybody out.
SIGNIN_ADDRESS_FAILURES_MAX = env.whole(
    "SIGNIN_ADDRESS_FAILURES_MAX", 0 if HTTPS and not TRUSTED_PROXIES else 50
)
AXES_COOLOFF_TIME = env.seconds("SIGNIN_COOLOFF", timedelta(minutes=15), least=SECOND)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # the page says when the lock-out ends
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ACCESS_FAILURE_LOG = True
AXES_ENABLE_ADMIN = False  # fundapi.admin.signins has pages of its own, on Unfold
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "csrfmiddlewaretoken", "otp_token", "code"]
ADMIN_OTP_REQUIRED = env.switch("ADMIN_OTP_REQUIRED", default=False)
OTP_TOTP_THROTTLE_FACTOR = OTP_STATIC_THROTTLE_FACTOR = 0  # fundapi.access.second_factor limits wrong codes
OTP_TOTP_ISSUER = f"fundapi {ENVIRONMENT}"  # the name in an authenticator
SIGNIN_RETENTION = env.days("SIGNIN_RETENTION_DAYS", 90)

# --- Applications -------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "fundapi.apps.FundapiConfig",
    "idempotency.apps.IdempotencyConfig",
    "rollout.apps.RolloutConfig",
    "unfold.apps.BasicAppConfig",  # before the admin, whose templates it replaces
    "fundapi.apps.SiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "fundapi.apps.StaticFilesConfig",
    "axes",
    "corsheaders",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "rest_framework",
    "simple_history",
]
MIDDLEWARE = [
    "fundapi.web.middleware.RequestLogMiddleware",  # first: every answer has a request id and a log line
    "fundapi.web.middleware.BrowserPolicyMiddleware",
    # Above all that may answer by itself: a page of another origin cannot read an answer without its headers.
    # Nor does a browser follow the redirect of a preflight.
    "fundapi.web.middleware.CorsMiddleware",
    "fundapi.web.middleware.ProblemMiddleware",  # errors of all below are JSON under /api and /ofrep
    "fundapi.web.middleware.HttpsMiddleware",  # before the redirects of the next
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "fundapi.web.overload.OverloadMiddleware",
    "fundapi.web.middleware.BodyMiddleware",  # before whatever reads a body
    "fundapi.web.middleware.ApiMiddleware",  # clients without cookies go on at OutcomeMiddleware
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "fundapi.api.outcomes.OutcomeMiddleware",  # after the transaction of a creation
    "idempotency.middleware.IdempotencyMiddleware",  # last: it runs the view
]
ROOT_URLCONF = "fundapi.urls"
WSGI_APPLICATION = "fundapi.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
USE_I18N = False
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "fundapi.formats"
STATIC_URL = "/static/"
STATIC_ROOT = env.path("STATIC_ROOT")  # where collectstatic writes; an image sets it
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "fundapi.web.assets.HashedStorage"
        if STATIC_ROOT
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = STATIC_ROOT is None  # static files from the packages, without collectstatic

# --- Overload (fundapi.web.overload) ------------------------------------------------------------------------
for _read in (serve.host, serve.port, serve.processes):
    _read(env)  # for the server alone; every process refuses wrong ones
WEB_THREADS, WEB_QUEUE = serve.limits(env)  # as many as the server has threads for
WEB_CONNECTIONS = serve.connection_limit(env)  # open connections of a web process
WEB_CPU_AFFINITY = env.switch("WEB_CPU_AFFINITY", default=True) and sys.platform == "linux"
WEB_QUEUE_SECONDS = env.decimal("WEB_QUEUE_SECONDS", 1.0, most=300)  # s that a request waits; then 503

# --- PostgreSQL ---------------------------------------------------------------------------------------------
DATABASE = addresses.database(env, "DATABASE_URL", "postgres:///fundapi")
DATABASE_TRANSACTION_POOLING = env.switch("DATABASE_TRANSACTION_POOLING", default=False)  # behind PgBouncer
# s; browsers give up soon after. 0: no limit. PostgreSQL counts milliseconds in 31 bits
DATABASE_STATEMENT_TIMEOUT = env.whole("DATABASE_STATEMENT_TIMEOUT", 10, most=86_400)
# s that all slots of a web process may be held by the same requests; then it is replaced (fundapi.web.vitals)
WEB_HUNG_SECONDS = 60 + DATABASE_STATEMENT_TIMEOUT if DATABASE_STATEMENT_TIMEOUT else math.inf
DATABASE_LOCK_TIMEOUT = env.whole("DATABASE_LOCK_TIMEOUT", 5, most=86_400)  # s; well before the statement's
# s; with a new connection for each, a request costs five times as much
DATABASE["CONN_MAX_AGE"] = env.whole("DATABASE_CONN_MAX_AGE", 600)
# One ping a request, so that no request fails after a restart of PostgreSQL.
DATABASE["CONN_HEALTH_CHECKS"] = True
DATABASE["OPTIONS"] = {
    "connect_timeout": 2,  # s
    # Without these, a host that vanishes holds a thread for a quarter of an hour. No effect on a unix socket.
    "keepalives_idle": 5,  # s of silence before the first probe
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms until sent data must be acknowledged
    "application_name": "fundapi",
    # Under a stricter default of the server (ALTER ROLE ... SET), a waiter would not see the first request's answer.
    "isolation_level": IsolationLevel.READ_COMMITTED,
    # Values go beside the statements: PostgreSQL logs the text of a statement that fails or is slow.
    "server_side_binding": True,
    **DATABASE.get("OPTIONS", {}),
}
# Of every session, whatever the role or the database has set (ALTER ROLE ... SET). Times in ms.
DATABASE_SESSION = {
    "statement_timeout": f"{DATABASE_STATEMENT_TIMEOUT * 1000}",
    "lock_timeout": f"{DATABASE_LOCK_TIMEOUT * 1000}",
    # A process that froze, or that the network has lost, must not keep its locks: the judge waits for them.
    "idle_in_transaction_session_timeout": "60000",
    "client_min_messages": "warning",  # psycopg shows no other; a lost standby is a warning
    "log_parameter_max_length_on_error": "0",  # values stay out of PostgreSQL's log
    # The driver reads dates, intervals, texts and numbers as these have them written.
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
}
if DATABASE_TRANSACTION_POOLING:
    # A transaction pooler may mix up prepared statements, and refuses start-up options: set them on the role there
    # (docs/reference/idempotency.md). fundapi.checks looks.
    DATABASE["DISABLE_SERVER_SIDE_CURSORS"] = True
else:
    # Uses of a statement; from then on PostgreSQL keeps its plan.
    DATABASE["OPTIONS"]["prepare_threshold"] = 5
    _session = [f"-c {name}={value}" for name, value in DATABASE_SESSION.items()]
    DATABASE["OPTIONS"]["options"] = " ".join([DATABASE["OPTIONS"].get("options", ""), *_session]).strip()
DATABASES = {"default": DATABASE}

# --- Valkey: Celery's broker and throttle counters, neither of which a fund needs ---------------------------
REDIS_TIMEOUT = 0.25  # s; no request should wait longer for a throttle
REDIS_OPTIONS = {  # of every client but Celery's; by default, redis-py would try again, with pauses
    "socket_timeout": REDIS_TIMEOUT,
    "socket_connect_timeout": REDIS_TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
}
REDIS_URL = addresses.valkey(env, "REDIS_URL", "redis://127.0.0.1:6379/0", REDIS_OPTIONS)
CACHES = {
    "default": {
        "BACKEND": "fundapi.web.cache.FailOpenCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": ENVIRONMENT,
        "VERSION": 2,  # of the stored values; those of version 1 were pickled
        "OPTIONS": {"serializer": "fundapi.web.cache.BytesSerializer"},  # the client is of fundapi.web.valkey
    }
}

# --- Celery -------------------------------------------------------------------------------------------------
CELERY_BROKER_URL, CELERY_BROKER_USE_SSL = addresses.broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever: an outage ends by itself
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # a worker does not end either when the broker refuses a command
# Without them a connection that goes silent hangs worker and beat for good. A worker waits for tasks in steps of 1 s.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 2,  # s for an answer; each command is tried four times
    "socket_connect_timeout": 2,  # s
    "socket_keepalive": True,
    "health_check_interval": 5,  # s; a worker's connection that is silent for twice as long is replaced
    # A silent sentinel costs each connection this time, because each asks all of them anew: 0.5 s, not 2.
    **addresses.broker_sentinels(
        REDIS_URL, REDIS_OPTIONS | {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    ),
}
CELERY_TASK_ACKS_LATE = True  # a task may run twice, which is better than not at all
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 300  # s; of tasks that have no limit of their own
# s; a purge rests for nine tenths of its time, and a table of hundreds of millions of rows takes hours
PURGE_LIMIT = 6 * 3600
# `alone`: fundapi.celery.Task. The worker has a process more than there are such tasks: alerts find one free.
_purge = {"alone": True, "time_limit": PURGE_LIMIT}
CELERY_TASK_ANNOTATIONS = {
    "idempotency.purge_expired": _purge,
    "rollout.purge": _purge,
    "fundapi.purge_signins": _purge,
    "rollout.revert": {"alone": True},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
WATCHDOG_SECONDS = env.whole("WATCHDOG_SECONDS", 30, most=3600)  # s; fundapi.watchdog; 0: none
CELERY_BEAT_SCHEDULER = "fundapi.celery:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = max(1, min(5, WATCHDOG_SECONDS // 3))  # s between signs of life
# Checks have a queue, and a worker, of their own: a purge, a revert or a slow delivery must not delay them.
CELERY_TASK_ROUTES = {"rollout.check": {"queue": "checks"}}  # fundapi.celery puts ENVIRONMENT before the name
# 0: the web's /metrics shows the worker's too
WORKER_METRICS_PORT = env.whole("WORKER_METRICS_PORT", 0, most=65535)
ROLLOUT_CHECK_INTERVAL = _threshold("ROLLOUT_CHECK_INTERVAL", Policy().check_interval)
# Purges run when beat starts without memory of earlier runs, and at a time of the day (UTC); at the later hours once
# more, in case that database or broker were away, or the purge was cut off. Their schedules are arguments of crontab(),
# which fundapi.celery makes: web workers do not import Celery.
_purge_interval = env.whole("IDEMPOTENCY_PURGE_INTERVAL", 0, most=30 * 86_400)  # s; 0: daily (runbook)
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "purge-expired-idempotency-keys": {
        "task": "idempotency.purge_expired",
        "schedule": timedelta(seconds=_purge_interval) if _purge_interval else {"hour": "3-5", "minute": 10},
    },
    # Without `expires`: that is a time by beat's clock, and a worker whose clock is ahead would drop every check in
    # silence. A late check does nothing if another has been made.
    "judge-rollouts": {"task": "rollout.check", "schedule": ROLLOUT_CHECK_INTERVAL},
    "purge-rollout-data": {"task": "rollout.purge", "schedule": {"minute": 40}},
    "purge-signins": {"task": "fundapi.purge_signins", "schedule": {"hour": "3-5", "minute": 50}},
}

# --- API ----------------------------------------------------------------------------------------------------
BODY_LIMIT = 256 * 1024  # bytes of a request's body, at any address
DATA_UPLOAD_MAX_MEMORY_SIZE = BODY_LIMIT
FUND_CREATE_RATE = env.rate("FUND_CREATE_RATE", "600/minute")  # per user, in DRF's notation
# Per client address: an office with 200 open pages.
TELEMETRY_RATE = env.rate("TELEMETRY_RATE", "1200/minute")
REST_FRAMEWORK = {
    "NUM_PROXIES": TRUSTED_PROXIES,
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "fundapi.access.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["fundapi.exactjson.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["fundapi.exactjson.ExactJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "fundapi.schema.document.AutoSchema",
    "EXCEPTION_HANDLER": "fundapi.web.problems.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "NON_FIELD_ERRORS_KEY": "",  # no field of a body can have this name
}
REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_TTL": env.days("TOKEN_TTL_DAYS", 90),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "fundapi",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,  # a request may have fewer fields than an answer
    "POSTPROCESSING_HOOKS": ["fundapi.schema.document.complete"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {
        "deepLinking": True,
        "syntaxHighlight": {"theme": "obsidian"},  # numbers of the default have 3.4:1
        "validatorUrl": None,  # no badge from another host
    },
}

# --- Frontends on other origins -----------------------------------------------------------------------------
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/+(api|ofrep)(/|$)"
CORS_ALLOW_HEADERS = (
    *default_headers,
    "idempotency-key",
    "if-none-match",
    "prefer",
    "rollout-variant",
    "x-api-key",  # OpenFeature providers may send one, which OFREP here ignores
    # Of tracing (W3C), which OpenTelemetry and the like add to every request.
    *("x-request-id", "traceparent", "tracestate", "baggage"),
    *env.words("CORS_EXTRA_HEADERS", header_name, "names of headers", example="x-app-version"),
)
CORS_EXPOSE_HEADERS = [
    "Date",  # the clock by which a client reads a Retry-After that is a date
    "ETag",
    "Idempotency-Key",
    "Idempotency-Status",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "X-Request-ID",
]

# --- Idempotency --------------------------------------------------------------------------------------------
IDEMPOTENCY_ENVIRONMENT = ENVIRONMENT
IDEMPOTENCY_ADMIT = "idempotency.contrib.drf.admit"
IDEMPOTENCY_ORIGIN = "fundapi.access.origin.origin"
IDEMPOTENCY_PROBLEM_TYPE = "/api/problems/{code}"
IDEMPOTENCY_TTL = env.seconds("IDEMPOTENCY_TTL", DAY, least=SECOND)  # 24 h (runbook)
# s; below IDEMPOTENCY_STATEMENT_TIMEOUT, which is 5
IDEMPOTENCY_WAIT_MAX = env.whole("IDEMPOTENCY_WAIT_MAX", 2, most=4)
if 0 < DATABASE_STATEMENT_TIMEOUT <= IDEMPOTENCY_WAIT_MAX:  # a wait is one statement
    raise wrong(
        "IDEMPOTENCY_WAIT_MAX",
        f"{IDEMPOTENCY_WAIT_MAX}",
        f"less than DATABASE_STATEMENT_TIMEOUT, which is {DATABASE_STATEMENT_TIMEOUT}",
    )
# Half the slots stay free, or one at least.
IDEMPOTENCY_WAITERS_MAX = env.whole("IDEMPOTENCY_WAITERS_MAX", WEB_THREADS // 2, most=max(0, WEB_THREADS - 1))

# --- Rollout ------------------------------------------------------------------------------------------------
ROLLOUT_ENVIRONMENT = ENVIRONMENT
# The runbook's words. Browsers report the first of the variants that they have.
ROLLOUT_WITHOUT = "legacy"
ROLLOUT_LIVE_LABEL = "Store type"
ROLLOUT_LIVE_WORDS = ("fund-store", "legacy")
ROLLOUT_VARIANTS_WITH = ("fund-store", "on", "true", "treatment")
# For the first migration; afterwards the database decides, and a check warns of a variable that differs from it. The
# runbook spells them with VITE_.
ROLLOUT_SEED_VARIABLES = [
    {"variable": name, "feature": "USE_FUND_STORE", "field": field, "value": read(name)}
    for prefix in ("VITE_", "")
    for name, field, read in (
        (f"{prefix}USE_FUND_STORE", "enabled", partial(env.switch, default=True)),
        (f"{prefix}USE_FUND_STORE_ROLLOUT", "percentage", partial(env.whole, default=0, most=100)),
        (f"{prefix}TRACK_MIGRATIONS", "track_migrations", partial(env.switch, default=True)),
    )
    if env.given(name)
]
ROLLOUT_SEED = [
    {
        "feature": "USE_FUND_STORE",
        "description": "The fund set-up keeps its draft in the fund store.",
        "enabled": True,
        "percentage": 0,
        "track_migrations": True,
        "hash_version": 1,  # the frontends' own
        # The spelling without VITE_ comes last, and wins.
        **{each["field"]: each["value"] for each in ROLLOUT_SEED_VARIABLES},
    }
]

# Thresholds of the judge: ROLLOUT_<FIELD> for each field of rollout.judge.policy.Policy; durations in seconds.
_policy = Policy(**{field.name: _threshold(setting(field.name), field.default) for field in fields(Policy)})
for _fault in faults(_policy):
    raise ImproperlyConfigured(_fault)
globals().update({setting(field.name): getattr(_policy, field.name) for field in fields(Policy)})
ROLLOUT_TICKET_TTL = env.seconds(
    "ROLLOUT_TICKET_TTL", timedelta(hours=1), least=timedelta(minutes=1), most=MONTH
)
ROLLOUT_EVENT_RETENTION = env.days("ROLLOUT_EVENT_RETENTION_DAYS", 7)
ROLLOUT_CHECK_RETENTION = env.days("ROLLOUT_CHECK_RETENTION_DAYS", 30)

# --- Alerts -------------------------------------------------------------------------------------------------
A_KEY = "24 to 64 random bytes, such as whsec_$(openssl rand -base64 32) makes"
BASE64 = r"((whsec_)?(?=.{32,88}$)([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?"
ROLLOUT_WEBHOOK_URL = env.url(
    "ROLLOUT_WEBHOOK_URL", secret=True, example="https://hooks.example.com/services/..."
)
ROLLOUT_WEBHOOK_SECRET = env.secret("ROLLOUT_WEBHOOK_SECRET", pattern=BASE64, should=f"{A_KEY} in base64")
if ROLLOUT_WEBHOOK_URL and not ROLLOUT_WEBHOOK_SECRET:
    raise ImproperlyConfigured(
        f"ROLLOUT_WEBHOOK_SECRET is not set, and with ROLLOUT_WEBHOOK_URL should be {A_KEY}."
    )
ROLLOUT_CELERY_APP = "fundapi.celery.app"  # by name: web workers do not import Celery
ROLLOUT_ALERT_EMAILS = env.words(
    "ROLLOUT_ALERT_EMAILS", mail_address, "e-mail addresses", (), "oncall@example.com"
)
ROLLOUT_ADMIN_URL = env.url("ROLLOUT_ADMIN_URL", example="https://funds.example.com")
DEFAULT_FROM_EMAIL = env.text(
    "DEFAULT_FROM_EMAIL",
    "fundapi@localhost",
    pattern=rf"{ADDRESS}|[^<>@]*<{ADDRESS}>",
    should="an e-mail address",
)
EMAIL_TIMEOUT = 5  # s for each answer of the mail server
# EMAIL_BACKEND, EMAIL_HOST, ...; Django's defaults stay where the URL says nothing.
globals().update(addresses.mail(env, "EMAIL_URL", "consolemail://"))

# --- Release commands ---------------------------------------------------------------------------------------
ROLLOUT_PROJECT_DIRECTORY = BASE_DIR
ROLLOUT_GIT_REMOTE = env.text("GIT_REMOTE", "origin", pattern=r"[^-\s]\S*", should="a remote or its URL")
ROLLOUT_AUTO_REVERT = env.switch("ROLLOUT_AUTO_REVERT", default=False)
if ROLLOUT_AUTO_REVERT:
    CELERY_BEAT_SCHEDULE["open-reverts"] = {"task": "rollout.revert", "schedule": ROLLOUT_CHECK_INTERVAL}
ROLLOUT_GITHUB_TOKEN = env.secret("GITHUB_TOKEN", pattern="[!-~]*", should="a token of GitHub")
ROLLOUT_GITHUB_REPOSITORY = env.text("GITHUB_REPOSITORY", pattern=r"([\w.-]+/[\w.-]+)?", should="owner/name")
ROLLOUT_GITHUB_API_URL = env.url("GITHUB_API_URL", "https://api.github.com")
ROLLOUT_SITE_URL = env.url("ROLLOUT_SITE_URL", example="https://funds.example.com")
ROLLOUT_E2E_WORKFLOW = env.text("GITHUB_TEST_WORKFLOW", "ci.yml", pattern=r"[\w.-]+", should="a file name")

# --- Admin --------------------------------------------------------------------------------------------------
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "home"  # after a sign-in whose `next` is empty or leads to another site

UNFOLD = {  # fundapi.site has the rest
    "SITE_TITLE": "fundapi",
    "SITE_HEADER": "fundapi",
    "SITE_SYMBOL": "account_balance",
    "ENVIRONMENT": "fundapi.site.environment_badge",
    "ENVIRONMENT_TITLE_PREFIX": f"[{ENVIRONMENT}]",
    "SHOW_HISTORY": True,
    "ACCOUNT": {"navigation": "fundapi.site.account_links"},
    "DASHBOARD_CALLBACK": "fundapi.admin.start.context",
    "SIDEBAR": {"navigation": "fundapi.site.navigation"},
}

# --- Logs and Sentry ----------------------------------------------------------------------------------------
SENTRY_DSN = env.secret("SENTRY_DSN")
SENTRY_ENVIRONMENT = env.text("SENTRY_ENVIRONMENT", ENVIRONMENT)
SENTRY_RELEASE = env.text("SENTRY_RELEASE", COMMIT or "")
if SENTRY_DSN:
    from fundapi.web import sentry

    sentry.start(SENTRY_DSN, environment=SENTRY_ENVIRONMENT, release=SENTRY_RELEASE or None)
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(
    level=env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    json=env.choice("LOG_FORMAT", default_format(), ("json", "console")) == "json",
    report=sentry.report if SENTRY_DSN else None,
)
LOG_SEARCH_URL = env.text(
    "LOG_SEARCH_URL",
    pattern=r"(https?://[^\s{}]+\{request_id\}[^\s{}]*)?",
    should="a URL with {request_id}, such as https://logs.example.com/search?q={request_id}",
)

# --- Metrics ------------------------------------------------------------------------------------------------
PROMETHEUS_MULTIPROC_DIR = env.path("PROMETHEUS_MULTIPROC_DIR", writable=True)  # for fundapi.metric_files

# --- OpenTelemetry (fundapi.web.tracing): off without an endpoint; the SDK reads all other variables ---------
_collector = env.url("OTEL_EXPORTER_OTLP_ENDPOINT", example="http://127.0.0.1:4318")
# gRPC would bring a library in C++ whose threads survive no fork.
env.choice("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", ("http/protobuf",))
_exporters = {
    signal: env.choice(f"OTEL_{signal.upper()}_EXPORTER", "otlp", ("otlp", "none"))
    for signal in ("traces", "metrics")
}
_off = env.switch("OTEL_SDK_DISABLED", default=False) or not _collector
# For the SDK, which knows nothing of secrets in files, and logs headers that it cannot read.
_header = r"""[^\s"(),/:;<=>?@\[\\\]{}]+ *=[^",;\\]*"""
OTEL_VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT": _collector} | {
    name: env.secret(
        name,
        pattern=rf"(?=[ -~]*$)({_header}(, *{_header})*)?",
        should="headers as name=value, with commas between and percent-encoded, such as api-key=...",
    )
    for name in (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    )
}
# A wrong one would be an error of each request.
for _name in (
    "OTEL_PYTHON_DJANGO_EXCLUDED_URLS",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
):
    env.words(_name, regular_expression, "regular expressions")
# What is sent: traces, metrics.
OTEL_SIGNALS = [] if _off else [signal for signal, exporter in _exporters.items() if exporter == "otlp"]

# --- Misspelt variables -------------------------------------------------------------------------------------
MISSPELT_VARIABLES = env.misspelt()
