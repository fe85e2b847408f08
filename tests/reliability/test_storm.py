"""Many requests with one key at once, against several worker processes: one effect, whatever the order."""

import subprocess
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from fundapi.embedded.processes import service_account
from tests.conftest import Api
from tests.engines import engine
from tests.eventually import eventually
from tests.reliability.conftest import fund, funds_of
from tests.reliability.gates import Gate
from tests.servers import UNHURRIED, Server, database_url, running_server

THREADS = 64
WIDE = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
IN_PROGRESS = (409, "conflict", "idempotency_request_in_progress")


def at_once(count: int, send: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """Send ``count`` requests from as many threads, all let go in the same moment."""
    barrier = threading.Barrier(count)

    def one(index: int) -> httpx.Response:
        barrier.wait(60)
        return send(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def kind(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, Idempotency-Status and problem code of an answer."""
    return response.status_code, response.headers.get("Idempotency-Status"), response.json().get("code")


def storm(api: Api, user: User, **headers: str) -> Counter[tuple[int, str | None, str | None]]:
    """64 requests with one key; check what must hold of every answer, and count the kinds of answers."""
    key, before = uuid.uuid4().hex, funds_of(user)
    answers = at_once(THREADS, lambda _: api.create(key, **headers))
    kinds = Counter(map(kind, answers))
    assert funds_of(user) == before + 1
    assert kinds[201, "created", None] == 1
    assert set(kinds) <= {(201, "created", None), (200, "replayed", None), IN_PROGRESS}
    assert len({answer.content for answer in answers if answer.is_success}) == 1
    assert len({answer.headers["Location"] for answer in answers if answer.is_success}) == 1
    assert kind(api.create(key)) == (200, "replayed", None)
    return kinds


@pytest.fixture
def wide(server: Server, user: User) -> Iterator[Api]:
    with Api(server, user, limits=WIDE) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=2"}], ids=["at once", "waiting"])
def test_64_threads_with_one_key_create_one_fund(
    server: Server, wide: Api, user: User, headers: dict[str, str]
) -> None:
    assert len(server.workers()) > 1
    for _ in range(3):
        storm(wide, user, **headers)


def test_while_the_first_runs_all_others_get_in_progress(lab: Server, user: User, gate: Gate) -> None:
    """The first is stopped after its INSERT, so the others are certain to come while it runs."""
    key, body = uuid.uuid4().hex, fund(name=gate.marker("inserted"))
    with Api(lab, user, limits=WIDE) as api, ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.create, key, body)
        gate.wait_for()
        others = at_once(THREADS - 1, lambda _: api.create(key, body))
        assert Counter(map(kind, others)) == {IN_PROGRESS: THREADS - 1}
        assert {answer.headers["Retry-After"] for answer in others} == {"1"}
        gate.open()
        assert kind(first.result()) == (201, "created", None)
        assert api.create(key, body).content == first.result().content
    assert funds_of(user) == 1


def test_waiters_replay_the_first_and_leave_threads_for_others(
    triggers: None, user: User, make_user: Callable[..., User], gate: Gate
) -> None:
    """One process with four threads: the first runs, two wait, the rest is refused at once, and one thread works."""
    body = fund(name=gate.marker("inserted"))
    with (
        running_server(workers=1, threads=4, **UNHURRIED) as alone,
        Api(alone, user, limits=WIDE) as api,
        Api(alone, make_user()) as somebody_else,
        ThreadPoolExecutor(10) as pool,
    ):
        key = uuid.uuid4().hex
        first = pool.submit(api.create, key, body)
        gate.wait_for()
        others = [pool.submit(api.create, key, body, Prefer="wait=60") for _ in range(9)]
        refused = eventually(
            lambda: [future for future in others if future.done()], lambda done: len(done) == 7
        )
        assert {kind(future.result()) for future in refused} == {IN_PROGRESS}
        assert not any("Preference-Applied" in future.result().headers for future in refused)
        assert somebody_else.create().status_code == 201
        gate.open()
        assert kind(first.result()) == (201, "created", None)
        waited = [future.result() for future in others if future not in refused]
    assert [kind(answer) for answer in waited] == [(200, "replayed", None)] * 2
    assert {answer.headers["Preference-Applied"] for answer in waited} == {"wait=20"}
    assert funds_of(user) == 1


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=2"}], ids=["at once", "waiting"])
def test_many_keys_at_once_each_sent_four_times_create_one_fund_each(
    wide: Api, user: User, headers: dict[str, str]
) -> None:
    keys = [uuid.uuid4().hex for _ in range(THREADS)]
    answers = at_once(
        THREADS, lambda i: [wide.create(keys[(i + j) % THREADS], **headers) for j in range(4)][-1]
    )
    assert {kind(answer) for answer in answers} <= {
        (201, "created", None),
        (200, "replayed", None),
        IN_PROGRESS,
    }
    assert funds_of(user) == THREADS
    again = [wide.create(key) for key in keys]
    assert {kind(answer) for answer in again} == {(200, "replayed", None)}
    assert len({answer.json()["id"] for answer in again}) == THREADS


def test_one_key_with_two_bodies_at_once_creates_one_fund_and_refuses_the_other_body(
    wide: Api, user: User
) -> None:
    key = uuid.uuid4().hex
    answers = at_once(32, lambda i: wide.create(key, fund(size=i % 2)))
    kinds = Counter(map(kind, answers))
    assert kinds[201, "created", None] == 1
    assert set(kinds) <= {
        (201, "created", None),
        (200, "replayed", None),
        (409, "conflict", "idempotency_key_reused"),
        IN_PROGRESS,
    }
    assert len({answer.content for answer in answers if answer.is_success}) == 1
    assert funds_of(user) == 1


PGBOUNCER_PORT = 6432  # of a unix socket in a directory of its own: only part of a file's name
PGBOUNCER_INI = """
[databases]
* = host={postgres}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
query_wait_timeout = 20
"""


@pytest.fixture(scope="module")
def pgbouncer(database: None) -> Iterator[Path]:
    """The socket directory of a PgBouncer that shares four sessions out, a transaction at a time."""
    program = engine("pgbouncer")
    account = service_account()  # PgBouncer refuses root, as PostgreSQL does
    postgres = connection.settings_dict["HOST"]
    with tempfile.TemporaryDirectory(prefix="fundapi-pgb-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o777)
        ini = directory / "pgbouncer.ini"
        ini.write_text(PGBOUNCER_INI.format(postgres=postgres, port=PGBOUNCER_PORT, directory=directory))
        (directory / "users").write_text('"fundapi" ""\n')
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(  # type: ignore[call-overload]
                account.command(program, "-q", str(ini)),
                stdout=log,
                stderr=log,
                cwd="/",
                **account.popen_options(),
            )
        try:
            eventually(
                lambda: (directory / f".s.PGSQL.{PGBOUNCER_PORT}").exists() or process.poll() is not None
            )
            assert process.poll() is None, (directory / "log").read_text()
            yield directory
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def pooled_url(pgbouncer: Path) -> str:
    return f"postgres://fundapi@/{connection.settings_dict['NAME']}?host={pgbouncer}&port={PGBOUNCER_PORT}"


@pytest.fixture(scope="module")
def pooled(pooled_url: str, triggers: None) -> Iterator[Server]:
    with running_server(
        DATABASE_URL=pooled_url, DATABASE_TRANSACTION_POOLING="true", FUND_CREATE_RATE="100000/minute"
    ) as running:
        yield running


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=2"}], ids=["at once", "waiting"])
def test_behind_a_transaction_pooler_64_threads_with_one_key_create_one_fund(
    pooled: Server, user: User, headers: dict[str, str]
) -> None:
    with Api(pooled, user, limits=WIDE) as api:
        for _ in range(3):
            storm(api, user, **headers)


def test_behind_a_transaction_pooler_no_setting_of_a_claim_stays_on_a_session(
    pooled: Server, pooled_url: str, user: User
) -> None:
    """Each claim sets time-outs, and a waiting one a lock time-out; all of it ends with its transaction."""
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout")
    shown = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with psycopg.connect(database_url()) as fresh:
        expected = fresh.execute(shown).fetchone()
    with Api(pooled, user, limits=WIDE) as api:
        storm(api, user, Prefer="wait=2")
    with psycopg.connect(pooled_url, autocommit=True) as session:
        assert {session.execute(shown).fetchone() for _ in range(20)} == {expected}
        held = (  # in this database: other test workers hold their own
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert session.execute(held).fetchone() == (0,)


def test_behind_a_transaction_pooler_a_killed_worker_does_not_hold_the_key(
    pooled: Server, user: User, gate: Gate
) -> None:
    key, body = uuid.uuid4().hex, fund(name=gate.marker("inserted"))
    with Api(pooled, user) as api, ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.create, key, body)
        gate.wait_for()
        for worker in pooled.workers():
            worker.kill()
        with pytest.raises(httpx.TransportError):
            first.result()
        eventually(lambda: not gate.stopped())
        assert funds_of(user) == 0
        gate.open()
        pooled.wait_until_ready()
    with Api(pooled, user) as api:
        assert kind(api.create(key, body)) == (201, "created", None)
    assert funds_of(user) == 1
