"""Each numbered system check fires on its fault alone, and this project has none of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

from idempotency.checks import MIDDLEWARE, check_database, check_middleware, check_settings, check_types


def ids() -> list[str | None]:
    return [
        error.id
        for check in (check_types, check_settings, check_middleware, check_database)
        for error in check()
    ]


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": ""}),
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": "two words"}),
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": "a|b"}),
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": "a" * 256}),
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": "prod\n"}),
    ("idempotency.E001", {"IDEMPOTENCY_ENVIRONMENT": None}),
    ("idempotency.E002", {"IDEMPOTENCY_ADMIT": "fundapi.nowhere.admit"}),
    ("idempotency.E002", {"IDEMPOTENCY_ADMIT": "idempotency.admission.nobody"}),
    ("idempotency.E002", {"IDEMPOTENCY_ADMIT": "admit"}),
    ("idempotency.E003", {"IDEMPOTENCY_TTL": timedelta(0)}),
    ("idempotency.E003", {"IDEMPOTENCY_TTL": timedelta(days=-1)}),
    ("idempotency.E003", {"IDEMPOTENCY_PURGE_BATCH_SIZE": 0}),
    ("idempotency.E003", {"IDEMPOTENCY_IDLE_TIMEOUT": timedelta(0)}),
    ("idempotency.E012", {"IDEMPOTENCY_WAITERS_MAX": -1}),
    ("idempotency.E004", {"IDEMPOTENCY_WAIT_MAX": -1}),
    ("idempotency.E004", {"IDEMPOTENCY_WAIT_MAX": 5}),
    ("idempotency.E004", {"IDEMPOTENCY_STATEMENT_TIMEOUT": timedelta(seconds=1)}),
    ("idempotency.E011", {"IDEMPOTENCY_TTL": 86_400}),
    ("idempotency.E011", {"IDEMPOTENCY_WAIT_MAX": "2"}),
    ("idempotency.E011", {"IDEMPOTENCY_WAITERS_MAX": True}),
    ("idempotency.E011", {"IDEMPOTENCY_PURGE_SHARE": None}),
    ("idempotency.E011", {"IDEMPOTENCY_DATABASE": 5}),
    ("idempotency.E011", {"IDEMPOTENCY_ENVIRONMENT": 5}),
    ("idempotency.E005", {"MIDDLEWARE": ["django.middleware.common.CommonMiddleware"]}),
    ("idempotency.E006", {"MIDDLEWARE": [MIDDLEWARE, "django.middleware.common.CommonMiddleware"]}),
    *(("idempotency.E010", {"IDEMPOTENCY_PURGE_SHARE": share}) for share in (0, -0.1, 1.1, float("nan"))),
    ("idempotency.E007", {"IDEMPOTENCY_DATABASE": "nowhere"}),
]


@pytest.mark.parametrize(("number", "fault"), FAULTS, ids=str)
def test_a_fault_is_refused_by_its_number(database: None, number: str, fault: dict[str, Any]) -> None:
    with override_settings(**fault):
        assert ids() == [number]


def test_another_database_than_postgresql_is_refused(database: None) -> None:
    connections.settings["light"] = connections.configure_settings(
        {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )["default"]
    try:
        with override_settings(IDEMPOTENCY_DATABASE="light"):
            assert ids() == ["idempotency.E008"]
    finally:
        del connections.settings["light"]


@pytest.mark.parametrize(
    ("level", "expected"), [(2, []), (3, ["idempotency.E009"]), (4, ["idempotency.E009"])]
)
def test_another_isolation_level_is_refused(
    database: None, monkeypatch: pytest.MonkeyPatch, level: int, expected: list[str]
) -> None:
    options = connections["default"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "isolation_level", level)
    assert ids() == expected


def test_the_checks_are_silent_when_all_is_well(database: None) -> None:
    assert ids() == []


def test_the_checks_are_registered(database: None) -> None:
    with override_settings(IDEMPOTENCY_ENVIRONMENT="", MIDDLEWARE=[], IDEMPOTENCY_DATABASE="nowhere"):
        found = {error.id for error in run_checks()}
    assert {"idempotency.E001", "idempotency.E005", "idempotency.E007"} <= found


def test_every_error_says_what_to_do_about_it(database: None) -> None:
    with override_settings(IDEMPOTENCY_ENVIRONMENT=""):
        (error,) = check_settings()
    assert "IDEMPOTENCY_ENVIRONMENT" in error.msg
    assert error.hint
