"""Each numbered system check fires on its fault alone, and this project has none of them."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

from idempotency.checks import (
    MIDDLEWARE,
    check_database,
    check_middleware,
    check_names,
    check_python,
    check_settings,
    check_types,
)
from idempotency.conf import Settings
from tests.new_project import run_python

CHECKS = (check_names, check_types, check_settings, check_middleware, check_database)


def ids() -> list[str | None]:
    return [error.id for check in CHECKS for error in check()]


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
    ("idempotency.E002", {"IDEMPOTENCY_ADMIT": "idempotency.keys.TOKEN_LENGTH_MAX"}),
    ("idempotency.E003", {"IDEMPOTENCY_TTL": timedelta(0)}),
    ("idempotency.E003", {"IDEMPOTENCY_TTL": timedelta.max}),
    ("idempotency.E003", {"IDEMPOTENCY_IDLE_TIMEOUT": timedelta(microseconds=400)}),
    ("idempotency.E003", {"IDEMPOTENCY_IDLE_TIMEOUT": timedelta(days=25)}),
    ("idempotency.E003", {"IDEMPOTENCY_STATEMENT_TIMEOUT": timedelta(days=25)}),
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
    ("idempotency.W002", {"IDEMPOTENCY_SCOPE_BY_HOSTS": True}),
    ("idempotency.W002", {"IDEMPOTENCY_COLOUR": "red"}),
    ("idempotency.E005", {"MIDDLEWARE": ["django.middleware.common.CommonMiddleware"]}),
    ("idempotency.E006", {"MIDDLEWARE": [MIDDLEWARE, "django.middleware.common.CommonMiddleware"]}),
    *(("idempotency.E010", {"IDEMPOTENCY_PURGE_SHARE": share}) for share in (0, -0.1, 1.1, float("nan"))),
    ("idempotency.E007", {"IDEMPOTENCY_DATABASE": "nowhere"}),
    *(
        ("idempotency.E014", {"IDEMPOTENCY_REPLAYED_HEADERS": names})
        for names in ("ETag", [5], None, ["a b"], ["Set-Cookie"], [""])
    ),
    *(
        ("idempotency.E015", {"IDEMPOTENCY_PROBLEM_TYPE": template})
        for template in ("https://{kode}", "{", "{}", "{code.x}")
    ),
]


@pytest.mark.parametrize(("number", "fault"), FAULTS, ids=str)
def test_a_fault_is_refused_by_its_number(database: None, number: str, fault: dict[str, Any]) -> None:
    with override_settings(**fault):
        assert ids() == [number]


# A value of each type that a settings file may hold by mistake.
VALUES: list[Any] = [
    None, True, 5, 1.5, "five", b"five", [], ("a",), {"a": 1}, timedelta(hours=1), timedelta, object(),
]  # fmt: skip
SETTINGS = [name for name, value in vars(Settings).items() if isinstance(value, cached_property)]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_of_a_wrong_type_is_a_sentence_and_never_a_traceback(
    database: None, name: str, value: Any
) -> None:
    kind = get_type_hints(vars(Settings)[name].func)["return"]
    is_right = type(value) is kind or (kind is float and type(value) is int)
    with override_settings(**{f"IDEMPOTENCY_{name.upper()}": value}):
        errors = [error for check in CHECKS for error in check()]
    if not is_right and name != "replayed_headers":
        assert [error.id for error in errors] in [
            [f"idempotency.E{number}"] for number in ("001", "002", "011")
        ]
        assert f"IDEMPOTENCY_{name.upper()}" in errors[0].msg


def test_a_module_that_raises_is_a_sentence(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_when_imported.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with override_settings(IDEMPOTENCY_ADMIT="breaks_when_imported.admit"):
        assert [str(fault.msg) for fault in check_settings()] == [
            "IDEMPOTENCY_ADMIT cannot be imported: ZeroDivisionError: division by zero"
        ]
    with override_settings(MIDDLEWARE=["breaks_when_imported.Middleware", MIDDLEWARE]):
        assert check_middleware() == []


@pytest.mark.parametrize(
    "use",
    [
        "idempotent(operation='pay')(lambda request: None)",
        "once('pay', 'key')",
        "IdempotencyMiddleware(None)",
    ],
)
def test_a_project_without_the_app_is_refused_where_it_uses_it(tmp_path: Path, use: str) -> None:
    program = f"""
import django
from idempotency import idempotent, once
from idempotency.middleware import IdempotencyMiddleware
idempotent(operation="early")(lambda request: None)  # before anything is known
django.setup()
{use}
"""
    ended = run_python(tmp_path, program, "")
    assert ended.stderr.splitlines()[-1] == (
        "django.core.exceptions.ImproperlyConfigured: idempotency guards nothing before it is installed: "
        "add 'idempotency' to INSTALLED_APPS, and migrate."
    )


def test_an_older_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_python() == []
    monkeypatch.setattr("idempotency.checks.sys", SimpleNamespace(version_info=(3, 10, 14)))
    assert [error.id for error in check_python()] == ["idempotency.E016"]


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
