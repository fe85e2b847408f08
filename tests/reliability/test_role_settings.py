"""An administrator's settings of a role or a database change nothing that the product promises."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from rollout.models import Check, Rollout
from tests.canary import Judged
from tests.conftest import FUND, Api
from tests.servers import Server, manage, running_server, superuser_url

ODD = {
    "bytea_output": "escape",
    "client_min_messages": "error",
    "datestyle": "German",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-15",
    "intervalstyle": "iso_8601",
    "lock_timeout": "1ms",
    "log_parameter_max_length_on_error": "-1",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "idle_in_transaction_session_timeout": "0",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",
    "transform_null_equals": "on",
}


@pytest.fixture(scope="module")
def odd_url(database: None) -> Iterator[str]:
    """The database, for a role with settings as odd as they come."""
    role, settings = f"odd_{uuid.uuid4().hex[:8]}", connection.settings_dict
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {role} LOGIN IN ROLE fundapi")
        for name, value in ODD.items():
            superuser.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
        yield f"postgres://{role}@/{settings['NAME']}?host={settings['HOST']}"
        superuser.execute(f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def odd(odd_url: str) -> Iterator[Server]:
    with running_server(workers=1, DATABASE_URL=odd_url) as running:
        yield running


def test_a_fund_is_created_once_and_read_by_everybody_alike(
    odd: Server, api: Api, user: User, key: str
) -> None:
    fund = FUND | {
        "name": "a \\ b 'c'",
        "managementFee": 0.012345,
        "engineResults": {"irr": 0.1234567890123456789},
    }
    with Api(odd, user) as there:
        first = there.create(key, fund)
        assert first.status_code == 201
        for client in (there, api):
            again = client.create(key, fund)
            assert (again.status_code, again.content) == (200, first.content)
            assert client.create(key).json()["code"] == "idempotency_key_reused"
            assert client.get(first.headers["Location"]).json() == first.json()
            assert client.get("/api/funds").json()["results"] == [first.json()]


def test_rollouts_and_telemetry_are_the_same(odd: Server, api: Api) -> None:
    batch = {
        "clientId": str(uuid.uuid4()),
        "sessionId": str(uuid.uuid4()),
        "events": [{"id": str(uuid.uuid4()), "event": "heartbeat", "ok": True}],
    }
    with Api(odd) as there:
        assert there.get("/api/rollouts").json() == api.get("/api/rollouts").json()
        assert there.post("/api/telemetry", json=batch).status_code == 202
        assert there.get("/readyz").status_code == 200


def test_the_judge_reads_its_own_checks(odd_url: str, traffic: Judged) -> None:
    Rollout.objects.update(percentage=0)  # those of other tests
    canary = traffic()
    for number in (1, 2):
        canary.send(clients=5)
        canary.rewind()
        run = manage("check_rollouts", DATABASE_URL=odd_url)
        assert run.returncode == 0, run.stderr
        assert Check.objects.filter(rollout=canary.pk).count() == number


def test_what_a_session_sets_for_itself_needs_no_warning(odd_url: str) -> None:
    run = manage("check", "--database", "default", DATABASE_URL=odd_url)
    assert (run.returncode, "no issues" in run.stdout + run.stderr) == (0, True)


def test_behind_a_pooler_the_role_has_to_have_them(odd_url: str) -> None:
    """A transaction pooler refuses start-up options. So the check itself has no more time than the role allows."""
    role = odd_url.partition("//")[2].partition("@")[0]
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} SET statement_timeout = '1s'")
    run = manage("check", "--database", "default", DATABASE_URL=odd_url, DATABASE_TRANSACTION_POOLING="true")
    for name in ("client_min_messages", "datestyle", "statement_timeout"):
        assert f"(fundapi.W003) PostgreSQL's {name} is" in run.stderr
    assert "ALTER ROLE odd_" in run.stderr
    assert "SET datestyle = 'ISO';" in run.stderr
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} SET statement_timeout = '{ODD['statement_timeout']}'")


def test_a_log_that_would_hold_what_people_send_is_named(odd_url: str) -> None:
    """The settings of the services here are right; on a role, its superuser may change them."""
    shown = manage("check", "--deploy", "--database", "default", DATABASE_URL=odd_url)
    assert "fundapi.W004" not in shown.stderr
    role = odd_url.partition("//")[2].partition("@")[0]
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} SET log_error_verbosity = 'verbose'")
    shown = manage("check", "--deploy", "--database", "default", DATABASE_URL=odd_url)
    assert "(fundapi.W004) PostgreSQL's log_error_verbosity is 'verbose'" in shown.stderr
