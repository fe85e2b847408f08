"""Acknowledged funds are on the synchronous standby, also when the wait for it is cancelled."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from chaos.postgres import Postgres
from fundapi.embedded.processes import service_account
from fundapi.embedded.reach import temporary_directory
from tests.eventually import eventually
from tests.servers import Server, manage, running_server

FUND = {"name": "Harbor Growth I", "size": 250_000_000}
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    """A PostgreSQL of our own: how it replicates is a setting of the whole server."""
    with temporary_directory("fundapi-standby-") as directory:
        postgres = Postgres(directory / "primary", service_account())
        postgres.start()
        yield postgres
        postgres.stop()


def printed(primary: Postgres, *arguments: str) -> str:
    """Run ``manage.py`` on the primary, and return what it printed."""
    run = manage(*arguments, DATABASE_URL=primary.url("fundapi", "fundapi"))
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def server(primary: Postgres, database: None) -> Iterator[Server]:
    printed(primary, "migrate", "--verbosity", "0")
    with running_server(workers=1, DATABASE_URL=primary.url("fundapi", "fundapi")) as running:
        yield running


@pytest.fixture
def api(primary: Postgres, server: Server) -> Iterator[httpx.Client]:
    token = printed(primary, "create_token", "somebody", "--create")
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as client:
        yield client


def wait_for_standbys(primary: Postgres, names: str) -> None:
    with primary.superuser() as connection:
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        connection.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: connection.execute("SHOW synchronous_standby_names").fetchone(),
            lambda row: row == (names,),
        )


def set_role(primary: Postgres, change: str) -> None:
    """Change the settings of the web's role, and end its sessions, which have the old ones."""
    with primary.superuser() as administrator:
        administrator.execute(f"ALTER ROLE fundapi {change}")
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'fundapi'"
        )


# What an administrator may have set on the role: warnings are hidden, or PostgreSQL does not wait at all.
@pytest.mark.parametrize(
    "of_the_role", ["client_min_messages = error", "synchronous_commit = off", "synchronous_commit = local"]
)
def test_a_fund_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged(
    primary: Postgres, api: httpx.Client, of_the_role: str
) -> None:
    """An operator cancels what hangs. PostgreSQL then says COMMIT, and that the standby may not have it."""
    key = uuid.uuid4().hex
    set_role(primary, f"SET {of_the_role}")
    wait_for_standbys(primary, "away")
    with ThreadPoolExecutor(1) as pool, primary.superuser() as operator:
        asked = pool.submit(api.post, "/api/funds", json=FUND, headers={"Idempotency-Key": key})
        ((pid,),) = eventually(lambda: operator.execute(WAITING).fetchall(), lambda rows: len(rows) == 1)
        operator.execute("SELECT pg_cancel_backend(%s)", (pid,))
        refused = asked.result(60)
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert "Retry-After" in refused.headers
    wait_for_standbys(primary, "")
    set_role(primary, "RESET ALL")
    retried = api.post("/api/funds", json=FUND, headers={"Idempotency-Key": key})
    assert (retried.status_code, retried.headers["Idempotency-Status"]) == (200, "replayed")
    with primary.superuser() as connection:
        stored = "SELECT count(*) FROM idempotency_store WHERE token = %s"
        assert connection.execute(stored, (key,)).fetchone() == (1,)
