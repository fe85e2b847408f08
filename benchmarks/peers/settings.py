"""One Django project for P0 and for every Django peer: as a team has it without us, with BENCH_PEER added.

What ``django-admin startproject`` writes, Django REST Framework and django-rest-knox as their documentation installs
them, PostgreSQL by connections that are kept, and Django's own cache in Redis. Nothing of the product runs here.
"""

import os

import environ

from benchmarks.peers.catalog import CACHE, PEERS

PEER = PEERS[os.environ["BENCH_PEER"]]
REDIS_URL = os.environ["REDIS_URL"]

# --- What startproject writes, with its middlewares, and with the values that are a project's own
SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "benchmarks.peers.funds",
    *PEER.apps,
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    *PEER.middleware,
]
ROOT_URLCONF = "benchmarks.peers.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
WSGI_APPLICATION = "benchmarks.peers.wsgi.application"
DATABASE = environ.Env.db_url_config(os.environ["DATABASE_URL"])
# Kept for ever; and without CONN_HEALTH_CHECKS, which would be a query more of each request.
DATABASE["CONN_MAX_AGE"] = None
# Prepared statements, which are psycopg's default and not Django's: a create takes 0.93 to 0.98 of the CPU.
DATABASE.setdefault("OPTIONS", {}).update(server_side_binding=True, prepare_threshold=5)
DATABASES = {"default": DATABASE}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- What its documentation adds
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["knox.auth.TokenAuthentication"]}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer"}
CACHES = {"default": {"BACKEND": CACHE, "LOCATION": REDIS_URL}}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

# --- What the peer's documentation adds
globals().update(PEER.settings(REDIS_URL))
