"""The variables of the seed: they make the first rollout, and afterwards the database decides."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from celery.signals import beat_init
from django.core.checks import Tags, run_checks
from django.db import connection
from django.test import override_settings

from fundapi import celery
from rollout import operations
from rollout.checks import check_seeds
from rollout.models import Rollout
from tests.servers import PROJECT, database_url, manage

assert celery.app  # its signals are connected
# The runbook's spelling, and the one without its prefix.
SPELLINGS = ["VITE_", ""]


@pytest.fixture(scope="module")
def empty(database: None) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"seeds_{uuid.uuid4().hex[:12]}"
    connection.cursor().execute(f"CREATE DATABASE {name}")
    yield database_url(name)
    connection.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


def seeded(**environment: str) -> dict[str, Any]:
    """Return the seed as the settings read it."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json; from fundapi import settings as s; print(json.dumps(s.ROLLOUT_SEED))",
        ],
        cwd=PROJECT,
        env={"SECRET_KEY": "x" * 50, "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    (seed,) = json.loads(done.stdout)
    return {name: seed[name] for name in ("enabled", "percentage", "track_migrations")}


def test_without_variables_nobody_gets_the_feature() -> None:
    assert seeded() == {"enabled": True, "percentage": 0, "track_migrations": True}


@pytest.mark.parametrize("prefix", SPELLINGS)
def test_both_spellings_seed(prefix: str) -> None:
    variables = {"USE_FUND_STORE": "false", "USE_FUND_STORE_ROLLOUT": "25", "TRACK_MIGRATIONS": "0"}
    given = {f"{prefix}{name}": value for name, value in variables.items()}
    assert seeded(**given) == {"enabled": False, "percentage": 25, "track_migrations": False}


def test_the_spelling_without_the_prefix_comes_first() -> None:
    assert seeded(VITE_USE_FUND_STORE_ROLLOUT="10", USE_FUND_STORE_ROLLOUT="25")["percentage"] == 25


def test_the_runbook_s_variables_seed_a_new_database_and_a_changed_one_is_a_warning(empty: str) -> None:
    """The runbook's "Environment Configuration", and then its "Manual environment rollback"."""
    runbook = {
        "VITE_USE_FUND_STORE_ROLLOUT": "10",
        "VITE_TRACK_MIGRATIONS": "1",
        "VITE_USE_FUND_STORE": "true",
        "DATABASE_URL": empty,
    }
    first = manage("migrate", "--no-input", "--verbosity=0", **runbook)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    status = json.loads(manage("rollout", "status", "--json", **runbook).stdout)
    assert [(each["feature"], each["percentage"], each["enabled"]) for each in status] == [
        ("USE_FUND_STORE", 10, True)
    ]
    changed = runbook | {"VITE_USE_FUND_STORE_ROLLOUT": "0", "VITE_USE_FUND_STORE": "false"}
    again = manage("migrate", "--no-input", "--verbosity=0", **changed)
    assert again.returncode == 0
    assert (
        "VITE_USE_FUND_STORE_ROLLOUT is 0 %, and is ignored: the database has 10 % for USE_FUND_STORE"
        in again.stderr
    )
    assert 'manage.py rollout rollback USE_FUND_STORE --reason "..."' in again.stderr
    assert "VITE_USE_FUND_STORE is off, and is ignored: the database has on" in again.stderr
    assert 'manage.py rollout configure USE_FUND_STORE --enabled off --reason "..."' in again.stderr
    assert "TRACK_MIGRATIONS" not in again.stderr


# --- The check ----------------------------------------------------------------------------------------------------


def warnings(field: str, value: object, feature: str, **options: Any) -> list[str]:
    variables = [{"variable": "THE_VARIABLE", "feature": feature, "field": field, "value": value}]
    with override_settings(ROLLOUT_SEED_VARIABLES=variables):
        return [f"{each.msg}. {each.hint}" for each in check_seeds(**({"databases": ["default"]} | options))]


@pytest.fixture
def feature(database: None) -> str:
    return Rollout.objects.create(feature=f"SEEDED_{uuid.uuid4().hex[:12].upper()}").feature


@pytest.mark.parametrize(
    ("field", "value", "same", "change"),
    [
        ("percentage", 50, 0, "rollout set {} 50"),
        ("percentage", "50.50", "0.00", "rollout set {} 50.5"),
        ("percentage", 0.1, 0.0, "rollout set {} 0.1"),
        ("timeline", "manual", "conservative", "rollout configure {} --timeline manual"),
        ("description", "it's new", "", "rollout configure {} --description 'it'\"'\"'s new'"),
        ("enabled", False, True, "rollout configure {} --enabled off"),
        ("track_migrations", False, True, "rollout configure {} --track-migrations off"),
    ],
)
def test_a_variable_that_differs_is_named_with_the_command_that_changes_it(
    feature: str, field: str, value: object, same: object, change: str
) -> None:
    (warning,) = warnings(field, value, feature)
    assert warning.startswith("THE_VARIABLE is ")
    assert change.format(feature) in warning
    assert warnings(field, same, feature) == []


def test_a_variable_that_is_not_set_says_nothing_however_the_rollout_has_moved(feature: str) -> None:
    operations.set_percentage(feature, Decimal(50), reason="x")
    with override_settings(ROLLOUT_SEED_VARIABLES=[]):
        assert list(check_seeds(databases=["default"])) == []


def test_web_workers_do_not_ask_the_database(feature: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert warnings("percentage", 50, feature, databases=None) == []


def test_a_database_without_the_table_or_away_says_nothing(feature: str) -> None:
    connection.cursor().execute("SET search_path = pg_catalog")
    try:
        assert warnings("percentage", 50, feature) == []
    finally:
        connection.cursor().execute("RESET search_path")


def test_it_is_a_check_of_the_database(feature: str) -> None:
    variables = [{"variable": "THE_VARIABLE", "feature": feature, "field": "percentage", "value": 50}]
    with override_settings(ROLLOUT_SEED_VARIABLES=variables):
        assert "rollout.W015" in {each.id for each in run_checks(tags=[Tags.database], databases=["default"])}
        assert "rollout.W015" not in {each.id for each in run_checks()}


def test_beat_logs_it_at_its_start(feature: str, caplog: pytest.LogCaptureFixture) -> None:
    variables = [{"variable": "THE_VARIABLE", "feature": feature, "field": "percentage", "value": 50}]
    with override_settings(ROLLOUT_SEED_VARIABLES=variables):
        beat_init.send(sender=None)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.msg) == (
        "fundapi.celery",
        "WARNING",
        "rollout_seed_ignored",
    )
    assert vars(record)["reason"].startswith("THE_VARIABLE is 50 %, and is ignored")
