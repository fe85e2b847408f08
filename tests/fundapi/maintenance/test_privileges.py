"""Database roles of a deployment: each can do its work on a real PostgreSQL, and nothing else."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import httpx
import psycopg
import pytest
from axes.models import AccessLog
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone
from knox.models import AuthToken
from psycopg import errors, sql

from fundapi.maintenance.privileges import WEB, WORKER
from idempotency.models import IdempotencyKey
from rollout import configuration, operations
from rollout.models import Check, Rollout, TelemetryEvent
from rollout.outcomes import HEADER
from tests.conftest import FUND, Api
from tests.servers import PROJECT, Server, database_url, running_server, superuser_url

PASSWORD = "correct horse battery staple"
WORK = """
import django
django.setup()
from fundapi.tasks import purge_signins
from idempotency.tasks import purge_expired_keys
from rollout.tasks import check_rollouts, purge_rollout_data
for task in (check_rollouts, purge_expired_keys, purge_rollout_data, purge_signins):
    task()
"""


def as_role(role: str) -> str:
    """The URL of this test worker's database, for ``role``."""
    return re.sub(r"//[^@/]*@", f"//{role}@", database_url())


def expire(**which: str) -> None:
    """Age the keys of a test by two days."""
    age = timedelta(days=2)
    IdempotencyKey.objects.filter(**which).update(
        created_at=F("created_at") - age, expires_at=F("expires_at") - age
    )


@pytest.fixture(scope="module")
def roles(database: None) -> Iterator[tuple[str, str]]:
    """A web role and a worker role with the privileges that the command grants."""
    suffix = uuid.uuid4().hex[:8]
    names = f"web_{suffix}", f"worker_{suffix}"
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        for name in names:
            superuser.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        for _ in range(2):  # after each migrate
            call_command("grant_database_roles", *names, stdout=StringIO())
        yield names
        for name in names:
            superuser.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def least(roles: tuple[str, str]) -> Iterator[Server]:
    """A web server with the web role's privileges only."""
    with running_server(workers=1, DATABASE_URL=as_role(roles[0])) as server:
        yield server


def test_every_request_works_as_the_web_role(least: Server, user: User, key: str) -> None:
    rollout = Rollout.objects.create(feature=f"FEATURE_{uuid.uuid4().hex[:12].upper()}", percentage=10)
    configuration.forget()  # made behind its back
    with Api(least, user) as api:
        created = api.create(key, **{HEADER: f"{rollout.feature}=fund-store"})
        assert created.status_code == 201
        assert TelemetryEvent.objects.filter(flag=rollout.feature, server=True).count() == 1
        Rollout.objects.filter(pk=rollout.pk).update(percentage=0)  # no judge of another test sees it
        assert api.create(key).headers["Idempotency-Status"] == "replayed"
        assert api.create(key, {**FUND, "size": 1}).status_code == 409
        expire(token=key)
        assert api.create(key).status_code == 201  # an expired key is used anew
        assert api.get(created.headers["Location"]).status_code == 200
        assert len(api.get("/api/funds").json()["results"]) == 2
        assert api.get("/api/rollouts").status_code == 200
        assert (
            api.post("/ofrep/v1/evaluate/flags", json={"context": {"targetingKey": "me"}}).status_code == 200
        )
        event = {
            "id": str(uuid.uuid4()),
            "event": "migration_failed",
            "ok": False,
            "at": timezone.now().isoformat(),
            "flag": rollout.feature,
        }
        batch = {
            "clientId": str(uuid.uuid4()),
            "sessionId": str(uuid.uuid4()),
            "dropped": 0,
            "sentAt": timezone.now().isoformat(),
            "events": [event],
        }
        answer = api.post("/api/telemetry", json=batch)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1), answer.text
        for path in ("/health", "/readyz", "/metrics"):
            assert api.get(path).status_code == 200
    assert "permission denied" not in least.log


def test_the_admin_works_as_the_web_role(least: Server, user: User) -> None:
    administrator = User.objects.create_superuser(f"admin-{uuid.uuid4().hex[:8]}", password=PASSWORD)
    rollout = Rollout.objects.create(feature=f"FEATURE_{uuid.uuid4().hex[:12].upper()}")
    configuration.forget()  # made behind its back
    with httpx.Client(base_url=least.url, timeout=30, follow_redirects=True) as client:

        def post(path: str, **form: str) -> httpx.Response:
            token = {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
            return client.post(path, data=token | form)

        sign_in = "/admin/login/?next=/admin/"
        client.get(sign_in)
        post(sign_in, username=administrator.username, password="wrong")
        assert "Log out" in post(sign_in, username=administrator.username, password=PASSWORD).text
        page = f"/admin/rollout/rollout/{rollout.pk}"
        post(f"{page}/set/", version=str(rollout.version), percentage="10", reason="a canary")
        post(f"{page}/stop/", reason="enough")
        rollout.refresh_from_db()
        assert (int(rollout.percentage), rollout.emergency_stop) == (10, True)
        assert rollout.history.count() == 3
        post("/admin/knox/authtoken/add/", user=str(user.pk), days="7")
        assert AuthToken.objects.filter(user=user).count() == 1
        post("/admin/logout/")
    assert "permission denied" not in least.log
    assert AccessLog.objects.get(username=administrator.username).logout_time is not None


def test_the_tasks_work_as_the_worker_role(roles: tuple[str, str], database: None) -> None:
    feature = f"FEATURE_{uuid.uuid4().hex[:12].upper()}"
    rollout = Rollout.objects.create(feature=feature)
    operations.promote(feature, reason="a canary")
    long_ago = timezone.now() - timedelta(days=1000)
    old = AccessLog.objects.create(username="old")
    AccessLog.objects.filter(pk=old.pk).update(attempt_time=long_ago)
    expire()
    env = os.environ | {"DATABASE_URL": as_role(roles[1]), "DJANGO_SETTINGS_MODULE": "fundapi.settings"}
    done = subprocess.run(
        [sys.executable, "-c", WORK], cwd=PROJECT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "permission denied" not in done.stderr
    assert Check.objects.filter(rollout=rollout).exists()
    assert not AccessLog.objects.filter(pk=old.pk).exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("number", [0, 1], ids=["web", "worker"])
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE fundapi_fund",
        "ALTER TABLE fundapi_fund ADD COLUMN stolen text",
        "TRUNCATE idempotency_store",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE FUNCTION idempotency_save() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON fundapi_fund (name)",
        "CREATE TRIGGER mine BEFORE INSERT ON fundapi_fund EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE ROLE friend",
        "UPDATE fundapi_fund SET size = 0",
        "DELETE FROM fundapi_fund",
        "UPDATE rollout_historicalrollout SET history_user_id = NULL",
        "DELETE FROM rollout_historicalrollout",
        "DELETE FROM django_admin_log",
        "UPDATE axes_accesslog SET username = 'somebody else'",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('fundapi', '9999', now())",
        "COPY fundapi_fund TO PROGRAM 'cat'",
    ],
)
def test_a_role_that_serves_cannot(roles: tuple[str, str], number: int, statement: str) -> None:
    """Change neither the schema nor rows that are written once."""
    with psycopg.connect(as_role(roles[number])) as session, pytest.raises(errors.InsufficientPrivilege):
        session.execute(statement)


@pytest.mark.parametrize(
    ("number", "statement"),
    [
        (0, "DELETE FROM idempotency_store"),
        (0, "DELETE FROM axes_accessfailurelog"),
        (0, "INSERT INTO rollout_incident DEFAULT VALUES"),
        (1, "SELECT password FROM auth_user"),
        (1, "SELECT digest FROM knox_authtoken"),
        (1, "SELECT * FROM django_session"),
        (1, "SELECT * FROM fundapi_fund"),
    ],
)
def test_web_and_worker_keep_to_their_own(roles: tuple[str, str], number: int, statement: str) -> None:
    with psycopg.connect(as_role(roles[number])) as session, pytest.raises(errors.InsufficientPrivilege):
        session.execute(statement)


def test_every_table_that_is_named_exists(database: None) -> None:
    assert {*WEB, *WORKER} <= {*connection.introspection.table_names()}


def test_what_only_the_owner_of_the_database_can_take_away_is_named(roles: tuple[str, str]) -> None:
    database = sql.Identifier(connection.settings_dict["NAME"])
    owner = sql.Identifier(connection.settings_dict["USER"])
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
        try:
            superuser.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO PUBLIC").format(database))
            with pytest.raises(CommandError, match="could still create temporary tables") as refused:
                call_command("grant_database_roles", *roles)
            (advice,) = re.findall(r"REVOKE .*; ", str(refused.value))
            superuser.execute(advice)
            call_command("grant_database_roles", *roles, stdout=StringIO())
        finally:
            superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))


def test_one_role_for_both_is_refused_and_so_is_one_that_does_not_exist(database: None) -> None:
    with pytest.raises(CommandError, match="Name two different roles"):
        call_command("grant_database_roles", "same", "same")
    for names in (("", "worker"), ("web", " ")):
        with pytest.raises(CommandError, match="A role has no name"):
            call_command("grant_database_roles", *names)
    with pytest.raises(CommandError, match=r"Nothing was granted: .*does not exist$"):
        call_command("grant_database_roles", "nobody-here", "nobody-there")
