"""BEGIN goes with the claim and COMMIT with the answer, and only where the transaction is the protocol's own."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client

from fundapi.models import Fund
from idempotency import store
from idempotency.apps import make_missing_functions
from idempotency.models import IdempotencyKey
from tests.servers import database_url

pytestmark = pytest.mark.usefixtures("way")

FUND = {"name": "Harbor Growth I", "size": 250_000_000}
ANSWER = store.StoredResponse(uuid.uuid4(), 201, {"Content-Type": "text/plain"}, b"done")


def save(digest: uuid.UUID) -> None:
    store.save(digest, ANSWER, operation="test", principal="1", token="k")


def others_see(digest: uuid.UUID) -> bool:
    """Return whether another session sees the key: it is committed."""
    with psycopg.connect(database_url()) as session:
        return (
            session.execute("SELECT FROM idempotency_store WHERE digest = %s", (digest,)).fetchone()
            is not None
        )


def post(client: Client, key: str, **fields: object) -> tuple[int, str, bytes]:
    answer = client.post(
        "/api/funds",
        json.dumps(FUND | fields),
        content_type="application/json",
        headers={"Idempotency-Key": key},
    )
    return answer.status_code, answer.headers.get("Idempotency-Status", ""), answer.content


@contextmanager
def as_in_a_testcase() -> Iterator[None]:
    """A transaction that is rolled back, as Django's ``TestCase`` wraps each test in."""
    outermost = transaction.atomic()
    outermost._from_testcase = True  # type: ignore[attr-defined]
    with outermost:
        yield
        transaction.set_rollback(True)


def test_the_answer_is_committed_when_it_is_saved_and_hooks_run_after_that(database: None) -> None:
    digest, seen = uuid.uuid4(), []
    with transaction.atomic(durable=True):
        assert store.claim(digest) is None
        transaction.on_commit(lambda: seen.append(others_see(digest)))
        with transaction.atomic():
            IdempotencyKey.objects.count()
        assert not others_see(digest)
        save(digest)
        assert (others_see(digest), seen) == (True, [])
    assert seen == [True]
    assert connection.get_autocommit()
    assert store.find(digest) == ANSWER


def test_what_was_done_for_a_refused_answer_is_not_committed(database: None, user: User) -> None:
    digest = uuid.uuid4()
    with transaction.atomic(durable=True):
        store.claim(digest)
        save(digest)

    def again() -> None:
        with transaction.atomic(durable=True):
            store.claim(uuid.uuid4())
            Fund.objects.create(owner=user, **FUND, management_fee=0, carry_percentage=0, vintage_year=2025)
            save(digest)

    with pytest.raises(store.AlreadyStored):
        again()
    assert not Fund.objects.filter(owner=user).exists()
    assert connection.get_autocommit()


def test_the_transaction_reads_what_is_committed_whatever_the_default_is(database: None) -> None:
    connection.ensure_connection()
    connection.connection.execute("SET default_transaction_isolation = 'serializable'")
    try:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            store.claim(uuid.uuid4())
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("read committed",)
    finally:
        connection.close()


def test_a_testcase_of_a_project_leaves_nothing_behind(user: User) -> None:
    client, key = Client(), uuid.uuid4().hex
    with as_in_a_testcase():
        client.force_login(user)
        created = post(client, key)
        assert created[:2] == (201, "created")
        assert post(client, key) == (200, "replayed", created[2])
        assert post(client, key, size=1)[:2] == (409, "conflict")
        assert post(client, uuid.uuid4().hex, size="much")[0] == 400
        assert Fund.objects.filter(owner=user).count() == 1
    assert not Fund.objects.filter(owner=user).exists()
    assert not IdempotencyKey.objects.filter(token=key).exists()


TIMEOUTS = (
    "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
)


def timeouts() -> tuple[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(TIMEOUTS)
        statement, idle = cursor.fetchone()
    return statement, idle


def test_a_breakpoint_in_a_testcase_may_last_as_long_as_it_likes(user: User) -> None:
    """The time-outs are for a transaction of our own: in another one they would outlive the request."""
    before = timeouts()
    with as_in_a_testcase():
        with transaction.atomic():
            assert store.claim(uuid.uuid4()) is None
        assert timeouts() == before
    with transaction.atomic(durable=True):
        assert store.claim(uuid.uuid4()) is None
        assert timeouts() == ("5s", "10s")


# Those of this schema: another test has copies in one of its own.
FUNCTIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc
WHERE proname LIKE 'idempotency\\_%' AND pg_function_is_visible(oid) ORDER BY proname
"""


def test_a_table_without_migrations_gets_the_functions_of_the_migrations(database: None) -> None:
    """``pytest --nomigrations`` makes the table from the model."""

    def functions() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(FUNCTIONS)
            return [definition for (definition,) in cursor.fetchall()]

    migrated = functions()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION idempotency_claim, idempotency_save")
        make_missing_functions(using="default")
        assert functions() == migrated
        make_missing_functions(using="default")
        transaction.set_rollback(True)
    assert len(migrated) == 2
