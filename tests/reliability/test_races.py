"""The two places where a second request could slip through, forced instead of hoped for.

* The snapshot: what a statement sees was fixed when it began, so a look-up must begin after the lock is held.
* The last fence: a live row that appears without the lock.
"""

import importlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User

from idempotency import keys
from idempotency.models import IdempotencyKey
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.conftest import LAB, PATIENT, fund, funds_of
from tests.reliability.gates import SPACE, Gate
from tests.servers import UNHURRIED, Server, database_url, running_server, superuser_url

SHIPPED = "idempotency_claim"
FINGERPRINT = uuid.UUID(int=7)

INSERT = """
INSERT INTO idempotency_store
    (digest, environment, operation, principal, token, fingerprint, status, content_type, body, created_at, expires_at)
VALUES (%s, 'test', 'race', 'nobody', 'race', %s, 201, 'application/json', '{}', now(), now() + interval '1 hour')
"""

# The wrong way: the lock and the look-up in one statement, so that the look-up's snapshot is as old as the
# request for the lock. The gate stands where the shipped function has it: before the lock, after the first look.
WRONG = """
CREATE OR REPLACE FUNCTION lab.idempotency_claim_in_one_statement(
    key_digest uuid, lock_id bigint, wait_ms integer, statement_timeout_ms integer, idle_timeout_ms integer,
    OUT state text, OUT fingerprint uuid, OUT status smallint, OUT content_type text, OUT location text,
    OUT etag text, OUT headers jsonb, OUT body bytea
)
LANGUAGE sql VOLATILE AS $$
    WITH gate AS MATERIALIZED (SELECT {gate}),
    locked AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(lock_id) AS granted FROM gate)
    SELECT CASE WHEN s.digest IS NOT NULL THEN 'stored' WHEN locked.granted THEN 'claimed' ELSE 'running' END,
           s.fingerprint, s.status, s.content_type, s.location, s.etag, s.headers, s.body
    FROM locked LEFT JOIN idempotency_store AS s ON s.digest = key_digest AND s.expires_at > now()
$$
"""


def gate_number(digest: uuid.UUID) -> int:
    """The gate of a key inside the gated functions."""
    return digest.int >> 98  # 30 bits


GATE_SQL = (
    f"pg_advisory_xact_lock_shared({SPACE},"
    " ((('x' || left(key_digest::text, 8))::bit(32)::bigint & 4294967295) >> 2)::integer)"
)


def shipped_with_a_gate() -> str:
    """The function of the migration, word for word, with a gate between its first look and its lock."""
    sql: str = importlib.import_module("idempotency.migrations.0003_headers").CLAIM
    name, step = f"FUNCTION {SHIPPED}(", "IF NOT pg_try_advisory_xact_lock(lock_id) THEN"
    assert sql.count(name) == sql.count(step) == 1
    return sql.replace(name, f"OR REPLACE FUNCTION lab.{SHIPPED}(").replace(
        step, f"PERFORM {GATE_SQL};\n    {step}"
    )


@pytest.fixture(scope="module")
def gated(triggers: None) -> None:
    """Schema ``lab``, whose ``idempotency_claim`` is the shipped one with a gate."""
    with psycopg.connect(database_url()) as session:
        session.execute("CREATE SCHEMA IF NOT EXISTS lab")
        session.execute(shipped_with_a_gate())
        session.execute(WRONG.format(gate=GATE_SQL))


def claim(function: str, session: psycopg.Connection[Any], digest: uuid.UUID, *, wait: int = 0) -> str:
    row = session.execute(
        f"SELECT state FROM {function}(%s, %s, %s, 0, 0)", (digest, keys.lock_id(digest), wait)
    ).fetchone()
    assert row is not None
    return str(row[0])


@pytest.fixture
def sessions(database: None) -> Iterator[list[psycopg.Connection[Any]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(database_url())) for _ in range(2)]


@pytest.mark.parametrize(
    ("function", "second_sees"),
    [("lab.idempotency_claim", "stored"), ("lab.idempotency_claim_in_one_statement", "claimed")],
    ids=["as shipped", "lock and look-up in one statement: wrong"],
)
def test_the_first_commits_between_the_seconds_first_look_and_its_lock(
    gated: None,
    sessions: list[psycopg.Connection[Any]],
    make_gate: Callable[..., Gate],
    function: str,
    second_sees: str,
) -> None:
    """The wrong variant shows that the race is really there: it hands the key out twice."""
    first, second = sessions
    digest = uuid.uuid4()
    gate = make_gate(gate_number(digest))
    assert claim(SHIPPED, first, digest) == "claimed"
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, function, second, digest)
        gate.wait_for()  # the second has looked and found nothing
        first.execute(INSERT, (digest, FINGERPRINT))
        first.commit()
        gate.open()
        assert claiming.result(30) == second_sees


def test_the_first_commits_while_the_second_waits_for_the_lock(
    database: None, sessions: list[psycopg.Connection[Any]]
) -> None:
    first, second = sessions
    digest = uuid.uuid4()
    assert claim(SHIPPED, first, digest) == "claimed"
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, SHIPPED, second, digest, wait=30_000)
        waiting_for_a_lock(second.info.backend_pid)
        first.execute(INSERT, (digest, FINGERPRINT))
        first.commit()
        assert claiming.result(30) == "stored"


def test_the_first_rolls_back_while_the_second_waits_and_the_key_goes_over(
    database: None, sessions: list[psycopg.Connection[Any]]
) -> None:
    first, second = sessions
    digest = uuid.uuid4()
    assert claim(SHIPPED, first, digest) == "claimed"
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, SHIPPED, second, digest, wait=30_000)
        waiting_for_a_lock(second.info.backend_pid)
        first.rollback()
        assert claiming.result(30) == "claimed"
    assert claim(SHIPPED, first, digest) == "running"


def waiting_for_a_lock(backend: int) -> None:
    with psycopg.connect(database_url(), autocommit=True) as look:
        waiting = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
        eventually(lambda: look.execute(waiting, (backend,)).fetchone(), lambda row: row == (1,))


def test_a_claim_lost_to_a_rolled_back_savepoint_of_the_view_is_not_possible(
    database: None, sessions: list[psycopg.Connection[Any]]
) -> None:
    """Locks taken inside a savepoint end with it; the claim comes before any savepoint, also when it waited."""
    first, second = sessions
    digest = uuid.uuid4()
    assert claim(SHIPPED, first, digest) == "claimed"
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim, SHIPPED, second, digest, wait=30_000)
        waiting_for_a_lock(second.info.backend_pid)
        first.rollback()
        assert claiming.result(30) == "claimed"
    second.execute("SAVEPOINT view")
    second.execute("ROLLBACK TO SAVEPOINT view")
    assert claim(SHIPPED, first, digest) == "running"


def test_a_waiting_claim_leaves_the_lock_time_out_as_it_was(
    database: None, sessions: list[psycopg.Connection[Any]]
) -> None:
    first, second = sessions
    digest = uuid.uuid4()
    second.execute("SET lock_timeout = '12345ms'")
    assert claim(SHIPPED, first, digest) == "claimed"
    assert claim(SHIPPED, second, digest, wait=50) == "running"
    assert second.execute("SHOW lock_timeout").fetchone() == ("12345ms",)
    first.rollback()
    assert claim(SHIPPED, second, digest, wait=50) == "claimed"
    assert second.execute("SHOW lock_timeout").fetchone() == ("12345ms",)


# --- Through HTTP ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gated_lab(gated: None) -> Iterator[Server]:
    """A server that finds the gated function before the shipped one."""
    with running_server(workers=1, threads=2, LAB_SEARCH_PATH="lab,public", **LAB, **PATIENT) as running:
        yield running


def digest_of(user: User, key: str) -> uuid.UUID:
    return keys.digest(environment="test", operation="fund-create", principal=str(user.pk), token=key)


def answer_of_the_second(
    servers: tuple[Server, Server], user: User, gate: Gate, key: str, bodies: tuple[Any, Any]
) -> tuple[httpx.Response, httpx.Response]:
    """The first request runs from start to end while the second has looked and found nothing."""
    with Api(servers[0], user) as one, Api(servers[1], user) as two, ThreadPoolExecutor(1) as pool:
        second = pool.submit(two.create, key, bodies[1])
        gate.wait_for()
        first = one.create(key, bodies[0])
        gate.open()
        return first, second.result(30)


def test_a_request_overtaken_between_look_and_lock_replays(
    server: Server, gated_lab: Server, user: User, make_gate: Callable[..., Gate], key: str
) -> None:
    gate = make_gate(gate_number(digest_of(user, key)))
    first, second = answer_of_the_second((server, gated_lab), user, gate, key, (fund(), fund()))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["Idempotency-Status"] == "replayed"
    assert second.content == first.content
    assert funds_of(user) == 1


def test_a_request_overtaken_by_another_body_is_a_conflict(
    server: Server, gated_lab: Server, user: User, make_gate: Callable[..., Gate], key: str
) -> None:
    gate = make_gate(gate_number(digest_of(user, key)))
    first, second = answer_of_the_second((server, gated_lab), user, gate, key, (fund(), fund(size=1)))
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json()["code"] == "idempotency_key_reused"
    assert funds_of(user) == 1


def test_a_role_that_defaults_to_long_snapshots_changes_nothing(
    triggers: None, user: User, gate: Gate, key: str
) -> None:
    """Under REPEATABLE READ the look-up after the lock would see what was there before the wait."""
    role = f"strict_{uuid.uuid4().hex[:8]}"
    superuser = superuser_url()
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(f"CREATE ROLE {role} LOGIN IN ROLE fundapi")
        session.execute(f"ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'")
    url = database_url().replace("fundapi@", f"{role}@", 1)
    body = fund(name=gate.marker("inserted"))
    with (
        running_server(workers=1, DATABASE_URL=url, **UNHURRIED) as strict,
        Api(strict, user) as api,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(api.create, key, body)
        (holder,) = gate.wait_for()
        second = pool.submit(api.create, key, body, Prefer="wait=20")
        blocked_by(holder.backend)
        gate.open()
        assert first.result(30).status_code == 201
        assert (second.result(30).status_code, second.result().headers["Idempotency-Status"]) == (
            200,
            "replayed",
        )
    assert funds_of(user) == 1


def blocked_by(backend: int) -> None:
    """Wait until another session waits for a lock that ``backend`` holds."""
    with psycopg.connect(database_url(), autocommit=True) as look:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        eventually(lambda: look.execute(waiting, (backend,)).fetchone(), lambda row: row == (1,))


# --- The last fence -------------------------------------------------------------------------------------------

COPY = """
INSERT INTO idempotency_store (digest, environment, operation, principal, token, fingerprint, status, content_type,
                               location, etag, body, created_at, expires_at)
SELECT %s, environment, operation, principal, %s, fingerprint, status, content_type,
       location, etag, body, created_at, expires_at + %s * interval '1 hour'
FROM idempotency_store WHERE digest = %s
"""


def answer_at_the_fence(
    api: Api,
    user: User,
    gate: Gate,
    key: str,
    body: dict[str, Any],
    stored: dict[str, Any],
    *,
    hours: int = 0,
) -> tuple[httpx.Response, httpx.Response]:
    """Stop a view after its INSERT, put a row with the answer to ``stored`` under its key, and let it go on."""
    other_key = uuid.uuid4().hex
    other = api.create(other_key, stored)
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(api.create, key, body)
        gate.wait_for()
        with psycopg.connect(database_url()) as session:
            session.execute(COPY, (digest_of(user, key), key, hours, digest_of(user, other_key)))
        gate.open()
        return other, request.result(30)


def test_a_live_row_under_the_running_view_is_replayed_and_the_views_fund_is_gone(
    lab_api: Api, user: User, make_gate: Callable[..., Gate], key: str
) -> None:
    gate = make_gate()
    body = fund(name=gate.marker("inserted"))
    # The same body, created once before: its gate is opened for it, and then closed again.
    other_key = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        other_request = pool.submit(lab_api.create, other_key, body)
        gate.wait_for()
        gate.open()
        other = other_request.result(30)
        gate_again = make_gate(gate.number)
        request = pool.submit(lab_api.create, key, body)
        gate_again.wait_for()
        with psycopg.connect(database_url()) as session:
            session.execute(COPY, (digest_of(user, key), key, 0, digest_of(user, other_key)))
        gate_again.open()
        answer = request.result(30)
    assert (answer.status_code, answer.headers["Idempotency-Status"]) == (200, "replayed")
    assert answer.content == other.content
    assert funds_of(user) == 1


def test_a_live_row_for_another_body_is_a_conflict_and_the_views_fund_is_gone(
    lab_api: Api, user: User, gate: Gate, key: str
) -> None:
    _, answer = answer_at_the_fence(lab_api, user, gate, key, fund(name=gate.marker("inserted")), fund())
    assert (answer.status_code, answer.headers["Idempotency-Status"]) == (409, "conflict")
    assert answer.json()["code"] == "idempotency_key_reused"
    assert funds_of(user) == 1
    assert IdempotencyKey.objects.get(token=key).conflicts == 1


def test_an_uncommitted_row_under_the_running_view_is_waited_for(
    lab_api: Api, user: User, gate: Gate, key: str
) -> None:
    """The primary key blocks until the stranger's COMMIT decides; then it is a conflict, not a 500."""
    other_key = uuid.uuid4().hex
    lab_api.create(other_key, fund())
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url()) as stranger:
        request = pool.submit(lab_api.create, key, fund(name=gate.marker("inserted")))
        gate.wait_for()
        stranger.execute(COPY, (digest_of(user, key), key, 0, digest_of(user, other_key)))
        gate.open()
        blocked_by(stranger.info.backend_pid)
        stranger.commit()
        answer = request.result(30)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert funds_of(user) == 1


def test_an_expired_row_under_the_running_view_is_replaced(
    lab_api: Api, user: User, gate: Gate, key: str
) -> None:
    other_key = uuid.uuid4().hex
    lab_api.create(other_key, fund())
    IdempotencyKey.objects.filter(token=other_key).update(
        created_at="2020-01-01T00:00Z", expires_at="2020-01-02T00:00Z"
    )
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(lab_api.create, key, fund(name=gate.marker("inserted")))
        gate.wait_for()
        with psycopg.connect(database_url()) as session:
            session.execute(COPY, (digest_of(user, key), key, 0, digest_of(user, other_key)))
        gate.open()
        answer = request.result(30)
    assert (answer.status_code, answer.headers["Idempotency-Status"]) == (201, "created")
    assert lab_api.create(key, fund(name=gate.marker("inserted"))).content == answer.content
    assert funds_of(user) == 2
