"""Each numbered system check finds its own fault only; a setting that cannot be read is named at start."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from rollout.checks import (
    check_addresses,
    check_auto_revert,
    check_bounds,
    check_email,
    check_forms,
    check_names,
    check_networks,
    check_policy,
    check_seed_entries,
    check_tickets,
    check_types,
    check_webhook,
    check_words,
)
from tests.servers import PROJECT, manage

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"  # 24 bytes
HOOK = {"ROLLOUT_WEBHOOK_URL": "https://hooks.example.com/T0K3N", "ROLLOUT_WEBHOOK_SECRET": SECRET}
SEED = {"feature": "NEW_CHECKOUT", "percentage": 10}
VARIABLE = {"variable": "CHECKOUT", "feature": "NEW_CHECKOUT", "field": "percentage", "value": 10}
SMTP = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend"}


def ids() -> list[str | None]:
    checks = (
        check_types,
        check_names,
        check_policy,
        check_bounds,
        check_tickets,
        check_webhook,
        check_addresses,
        check_forms,
        check_seed_entries,
        check_email,
        check_auto_revert,
        check_words,
    )
    return [fault.id for check in checks for fault in check()]


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("rollout.E001", {"ROLLOUT_STEPS": ()}),
    ("rollout.E001", {"ROLLOUT_STEPS": (10, 50)}),
    ("rollout.E001", {"ROLLOUT_STEPS": (50, 10, 100)}),
    ("rollout.E001", {"ROLLOUT_STEPS": (10, 10, 100)}),
    ("rollout.E001", {"ROLLOUT_STEPS": (0, 100)}),
    ("rollout.E001", {"ROLLOUT_STEPS": (-5, 100)}),
    ("rollout.E001", {"ROLLOUT_WATCH": timedelta(0)}),
    ("rollout.E001", {"ROLLOUT_CHECK_INTERVAL": timedelta(seconds=-1)}),
    ("rollout.E001", {"ROLLOUT_BREAKER_CHECKS": 0}),
    ("rollout.E001", {"ROLLOUT_SAMPLE_MIN": -1}),
    ("rollout.E001", {"ROLLOUT_LOSS_MAX": 5.0}),
    ("rollout.E001", {"ROLLOUT_WATCH_ERROR_RATE": float("nan")}),
    ("rollout.E001", {"ROLLOUT_ALPHA": 0.0}),
    ("rollout.E001", {"ROLLOUT_FAILURE_RATE_GOOD": 0.5}),
    ("rollout.E001", {"ROLLOUT_SCORE_GREEN_MAX": 15}),
    ("rollout.E001", {"ROLLOUT_KILL_SWITCH_GREEN_MAX": 20}),
    ("rollout.E001", {"ROLLOUT_MIGRATION_SUCCESS_RED": 0.999}),
    ("rollout.E001", {"ROLLOUT_CONSERVATIVE_CANARY": timedelta(minutes=59)}),
    ("rollout.E001", {"ROLLOUT_UNSIGNED_TELEMETRY": "networks"}),
    ("rollout.E001", {"ROLLOUT_UNSIGNED_NETWORKS_MIN": 0}),
    ("rollout.E001", {"ROLLOUT_SCORE_CLIENTS": -1}),
    ("rollout.E001", {"ROLLOUT_ERROR_RATE_BAD": 0.01}),
    ("rollout.E001", {"ROLLOUT_WEATHER_EVIDENCE": 0.5}),
    ("rollout.E001", {"ROLLOUT_EVENT_AGE_MAX": timedelta(0)}),
    ("rollout.E001", {"ROLLOUT_WATCH": 3600}),
    ("rollout.E001", {"ROLLOUT_STEPS": [10, 100]}),
    ("rollout.E001", {"ROLLOUT_ALPHA": "0.05"}),
    ("rollout.E001", {"ROLLOUT_BREAKER_CHECKS": True}),
    ("rollout.E001", {"ROLLOUT_WEATHER_EVIDENCE": float("inf")}),
    ("rollout.E014", {"ROLLOUT_TICKET_TTL": 3600}),
    ("rollout.E014", {"ROLLOUT_WEBHOOK_URL": None}),
    ("rollout.E014", {"ROLLOUT_ALERT_EMAILS": "ops@example.com"}),
    ("rollout.E014", {"ROLLOUT_ALERT_EMAILS": [5]}),
    ("rollout.E014", {"ROLLOUT_VARIANTS_WITH": 5}),
    ("rollout.E014", {"ROLLOUT_RAISE_UNKNOWN": "no"}),
    ("rollout.E014", {"ROLLOUT_WITHOUT": None}),
    ("rollout.E014", {"ROLLOUT_LIVE_WORDS": "on"}),
    ("rollout.E014", {"ROLLOUT_LIVE_WORDS": ("on", 0)}),
    ("rollout.E020", {"ROLLOUT_LIVE_WORDS": ("on",)}),
    ("rollout.E020", {"ROLLOUT_LIVE_WORDS": ("on", "on")}),
    ("rollout.E020", {"ROLLOUT_LIVE_WORDS": ("on", "")}),
    ("rollout.E020", {"ROLLOUT_WITHOUT": " "}),
    ("rollout.E020", {"ROLLOUT_LIVE_LABEL": ""}),
    ("rollout.E020", {"ROLLOUT_ENVIRONMENT": ""}),
    ("rollout.E020", {"ROLLOUT_VARIANTS_WITH": ()}),
    ("rollout.E020", {"ROLLOUT_VARIANTS_WITH": ("on", "")}),
    ("rollout.E014", {"ROLLOUT_VARIANTS_WITH": "on"}),
    ("rollout.E014", {"ROLLOUT_ENVIRONMENT": None}),
    ("rollout.E014", {"ROLLOUT_ENVIRONMENT": 5}),
    ("rollout.W021", {"ROLLOUT_WITHOT": "the old page"}),
    ("rollout.E014", {"ROLLOUT_PROJECT_DIRECTORY": None}),
    ("rollout.E014", {"ROLLOUT_AUTO_REVERT": "yes"}),
    ("rollout.E014", {"ROLLOUT_POLL_INTERVAL": True}),
    ("rollout.E014", {"ROLLOUT_SEED": [("USE_FUND_STORE", 10)]}),
    ("rollout.W002", {"ROLLOUT_POINTS_CLIENT_MAX": 15}),
    ("rollout.E003", {"ROLLOUT_EVENT_RETENTION": timedelta(days=-1)}),
    ("rollout.E003", {"ROLLOUT_CHECK_RETENTION": timedelta(0)}),
    ("rollout.E003", {"ROLLOUT_PURGE_BATCH_SIZE": 0}),
    ("rollout.E003", {"ROLLOUT_POLL_INTERVAL": -1}),
    ("rollout.E003", {"ROLLOUT_GITHUB_RETRIES": -1}),
    ("rollout.E003", {"ROLLOUT_GITHUB_POLL": timedelta(0)}),
    ("rollout.E003", {"ROLLOUT_SITE_POLL": timedelta(seconds=-1)}),
    ("rollout.E003", {"ROLLOUT_PURGE_PAUSE": timedelta(seconds=-1)}),
    ("rollout.E011", {"ROLLOUT_TICKET_TTL": timedelta(seconds=59)}),
    ("rollout.E011", {"ROLLOUT_TICKET_TTL": timedelta(days=31)}),
    ("rollout.E004", HOOK | {"ROLLOUT_WEBHOOK_URL": "hooks.example.com/T0K3N"}),
    ("rollout.E004", HOOK | {"ROLLOUT_WEBHOOK_URL": "ftp://hooks.example.com/T0K3N"}),
    ("rollout.E004", HOOK | {"ROLLOUT_WEBHOOK_URL": "https:///T0K3N"}),
    ("rollout.E004", HOOK | {"ROLLOUT_WEBHOOK_URL": "https://hooks.example.com:T0K3N/"}),
    ("rollout.E004", HOOK | {"ROLLOUT_WEBHOOK_URL": "https://[T0K3N/"}),
    ("rollout.E005", HOOK | {"ROLLOUT_WEBHOOK_SECRET": ""}),
    ("rollout.E006", HOOK | {"ROLLOUT_WEBHOOK_SECRET": "whsec_T0K3N"}),
    ("rollout.E006", HOOK | {"ROLLOUT_WEBHOOK_SECRET": "whsec_not base64, T0K3N"}),
    ("rollout.E006", HOOK | {"ROLLOUT_WEBHOOK_SECRET": "whsec_T0K3N\N{SNOWMAN}"}),
    ("rollout.E006", HOOK | {"ROLLOUT_WEBHOOK_SECRET": "T0K3" * 30}),
    ("rollout.E007", {"ROLLOUT_ADMIN_URL": "funds.example.com"}),
    ("rollout.E007", {"ROLLOUT_ADMIN_URL": "https://funds example.com"}),
    ("rollout.E022", {"ROLLOUT_SITE_URL": "funds.example.com"}),
    ("rollout.E022", {"ROLLOUT_SITE_URL": "https://T0K3N@"}),
    ("rollout.E022", {"ROLLOUT_GITHUB_API_URL": ""}),
    ("rollout.E022", {"ROLLOUT_GITHUB_API_URL": "github.example.com"}),
    ("rollout.E022", {"ROLLOUT_GITHUB_API_URL": "https://[::1]/api/v3"}),
    ("rollout.E023", {"ROLLOUT_GITHUB_REPOSITORY": "shop"}),
    ("rollout.E023", {"ROLLOUT_GITHUB_REPOSITORY": "https://github.com/octo/shop"}),
    ("rollout.E023", {"ROLLOUT_GITHUB_REPOSITORY": "octo/shop\n"}),
    ("rollout.E023", {"ROLLOUT_GITHUB_TOKEN": "T0K3N\n"}),
    ("rollout.E023", {"ROLLOUT_GIT_REMOTE": ""}),
    ("rollout.E023", {"ROLLOUT_GIT_REMOTE": "--upload-pack=x"}),
    ("rollout.E023", {"ROLLOUT_E2E_WORKFLOW": ".github/workflows/ci.yml"}),
    ("rollout.E023", {"ROLLOUT_CELERY_APP": "shop"}),
    ("rollout.E023", {"ROLLOUT_CELERY_APP": "shop.celery:app"}),
    ("rollout.E024", {"ROLLOUT_SEED": [{}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [{"feature": "A"}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [{"feature": "a-b", "percentage": 0}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [{"feature": 5, "percentage": 0}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [{"feature": ["A"], "percentage": 0}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"percentage": "ten"}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"percentage": 101}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"percentage": float("nan")}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"percentage": True}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"percentage": None}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"enabled": "no"}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"timeline": "fast"}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"hash_version": 3}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"hash_version": True}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED | {"always": "staff"}]}),
    ("rollout.E014", {"ROLLOUT_SEED": [SEED | {5: "staff"}]}),
    ("rollout.E024", {"ROLLOUT_SEED": [SEED, SEED]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [{}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"default": 5}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"variable": None}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"feature": "a"}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"field": "stage"}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"field": ["stage"]}]}),
    ("rollout.E024", {"ROLLOUT_SEED_VARIABLES": [VARIABLE | {"value": "ten"}]}),
    ("rollout.E008", SMTP | {"ROLLOUT_ALERT_EMAILS": ["ops@example.com", "ops"]}),
    ("rollout.W010", {"ROLLOUT_AUTO_REVERT": True, "ROLLOUT_GITHUB_TOKEN": "T0K3N"}),
    ("rollout.W009", {"ROLLOUT_ALERT_EMAILS": ["ops@example.com"]}),
]


@pytest.mark.parametrize(("number", "fault"), FAULTS, ids=str)
def test_a_fault_is_told_by_its_number(number: str, fault: dict[str, Any]) -> None:
    with override_settings(**fault):
        assert ids() == [number]


def test_the_checks_are_silent_when_all_is_well() -> None:
    assert ids() == []
    with override_settings(
        **HOOK,
        **SMTP,
        ROLLOUT_ALERT_EMAILS=["ops@example.com"],
        ROLLOUT_ADMIN_URL="https://funds.example.com",
        ROLLOUT_SITE_URL="http://localhost:8000/",
        ROLLOUT_GITHUB_API_URL="https://github.example.com/api/v3/",
        ROLLOUT_GITHUB_REPOSITORY="octo/shop.js",
        ROLLOUT_GIT_REMOTE="/srv/my shop.git",
        ROLLOUT_CELERY_APP="shop.celery.app",
        ROLLOUT_SEED=[SEED, {"feature": "B", "percentage": "0.1", "enabled": False, "timeline": "manual"}],
        ROLLOUT_SEED_VARIABLES=[VARIABLE | {"value": 0.1}, VARIABLE | {"field": "enabled", "value": False}],
    ):
        assert ids() == []


def test_a_backend_of_one_word_is_left_to_django() -> None:
    with override_settings(EMAIL_BACKEND="smtp", ROLLOUT_ALERT_EMAILS=["ops@example.com"]):
        assert ids() == []


@pytest.mark.parametrize(
    ("mode", "proxies", "header", "found"),
    [
        ("network", 1, True, []),
        ("network", 0, False, []),
        ("network", 0, True, ["rollout.I013"]),
        ("network", None, False, ["rollout.W012"]),
        ("full", 0, True, []),
        ("none", None, True, []),
    ],
)
def test_a_proxy_that_hides_the_networks_of_clients_is_told(
    settings: Any, mode: str, proxies: int | None, header: bool, found: list[str]
) -> None:
    settings.ROLLOUT_UNSIGNED_TELEMETRY = mode
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if header else None
    assert [fault.id for fault in check_networks()] == found


def test_a_deployment_is_told_when_all_its_clients_are_one_network(database: None) -> None:
    behind = {
        "HTTPS": "on",
        "ALLOWED_HOSTS": "funds.example",
        "ROLLOUT_UNSIGNED_TELEMETRY": "network",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "",  # set by browser tests of the same process
    }
    told = manage("check", "--deploy", "--fail-level", "WARNING", **behind)
    assert (told.returncode, told.stderr.count("rollout.I013")) == (0, 1), told.stderr
    known = manage("check", "--deploy", "--fail-level", "WARNING", TRUSTED_PROXIES="1", **behind)
    assert "no issues" in known.stdout, known.stderr


def test_the_checks_are_registered_and_tell_no_secret(database: None) -> None:
    with override_settings(
        ROLLOUT_STEPS=(10,),
        ROLLOUT_EVENT_RETENTION=timedelta(0),
        ROLLOUT_WEBHOOK_URL="T0K3N",
        ROLLOUT_WEBHOOK_SECRET="T0K3N",
        ROLLOUT_ALERT_EMAILS=["ops"],
    ):
        found = [fault for fault in run_checks() if str(fault.id).startswith("rollout.")]
    assert {"rollout.E001", "rollout.E003", "rollout.E004", "rollout.E006", "rollout.E008"} <= {
        fault.id for fault in found
    }
    assert "T0K3N" not in "".join(map(str, found))


BAD = [
    (
        "ROLLOUT_STEPS",
        "abc",
        "ROLLOUT_STEPS is 'abc', and should be whole numbers from 0 to 100, with commas between",
    ),
    ("ROLLOUT_WATCH", "a day", "ROLLOUT_WATCH is 'a day', and should be seconds, 0 or more, such as 86400."),
    (
        "ROLLOUT_CHECK_INTERVAL",
        "1e99",
        "ROLLOUT_CHECK_INTERVAL is '1e99', and should be seconds from 0 to 315360000, such as 60.",
    ),
    ("ROLLOUT_BREAKER_CHECKS", "2.5", "ROLLOUT_BREAKER_CHECKS is '2.5', and should be a whole number"),
    ("ROLLOUT_WATCH", "90 min", "ROLLOUT_WATCH is '90 min', and should be seconds"),
    ("ROLLOUT_ALPHA", "1/20", "ROLLOUT_ALPHA is '1/20', and should be a number, 0 or more, such as 0.05."),
    ("ROLLOUT_ALPHA", "nan", "ROLLOUT_ALPHA is 'nan', and should be a number, 0 or more, such as 0.05."),
    ("ROLLOUT_WATCH", "-60", "ROLLOUT_WATCH is '-60', and should be seconds, 0 or more, such as 86400."),
    ("ROLLOUT_ALPHA", "5", "ROLLOUT_ALPHA is 5.0, and should be a share from 0 to 1, such as 0.05."),
    (
        "ROLLOUT_CHECK_INTERVAL",
        "0",
        "ROLLOUT_CHECK_INTERVAL is 0 seconds, and should be longer than 0, such as 60 seconds.",
    ),
    (
        "ROLLOUT_STEPS",
        "10,50,90",
        "ROLLOUT_STEPS is 10,50,90, and should be whole percents that climb to 100, such as 10,50,100.",
    ),
    (
        "ROLLOUT_SCORE_GREEN_MAX",
        "20",
        "ROLLOUT_SCORE_GREEN_MAX is 20, and should be less than ROLLOUT_ERROR_THRESHOLD, which is 15.",
    ),
    ("ROLLOUT_UNSIGNED_TELEMETRY", "nobody", "should be one of full, network, none, such as network."),
]
READ = """
import importlib, os, sys
import fundapi.settings
from django.core.exceptions import ImproperlyConfigured
for name, value in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    os.environ[name] = value
    try:
        importlib.reload(fundapi.settings)
    except ImproperlyConfigured as error:
        print(error)
    del os.environ[name]
"""


def test_a_bad_variable_is_named_at_start() -> None:
    arguments = [part for name, value, _ in BAD for part in (name, value)]
    said = subprocess.check_output(
        [sys.executable, "-c", READ, *arguments], cwd=PROJECT, text=True
    ).splitlines()
    assert len(said) == len(BAD)
    for line, (_, _, says) in zip(said, BAD, strict=True):
        assert says in line


def test_every_threshold_can_be_set_from_the_environment() -> None:
    code = (
        "from rollout.conf import conf; p = conf.policy; print(p.steps, p.watch, p.alpha, p.breaker_checks)"
    )
    env = {
        "ROLLOUT_STEPS": "5,25,100",
        "ROLLOUT_WATCH": "3600",
        "ROLLOUT_ALPHA": "0.01",
        "ROLLOUT_BREAKER_CHECKS": "2",
        "DJANGO_SETTINGS_MODULE": "fundapi.settings",
    }
    said = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, env=os.environ | env, text=True)
    assert said == "(5, 25, 100) 1:00:00 0.01 2\n"


def test_a_number_names_one_kind_of_fault() -> None:
    """A project silences a check by its number, and looks it up."""
    checks = (PROJECT / "rollout/checks.py").read_text()
    numbers: dict[str, set[str]] = {}
    for part in checks.split("\ndef ")[1:]:
        for number in re.findall(r'id="(rollout\.[EWI]\d+)"', part):
            numbers.setdefault(number, set()).add(part.partition("(")[0])
    assert {number for number, functions in numbers.items() if len(functions) > 1} == set()
    documented = (PROJECT / "docs/reference/rollout.md").read_text()
    assert numbers.keys() - {"rollout.E005", "rollout.E006"} <= set(
        re.findall(r"rollout\.[EWI]\d+", documented)
    )
