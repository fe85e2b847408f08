"""The two tables of a measurement keep the contract: otherwise their figures would be of something else."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from benchmarks.filling import INDEXES, USERS, without_indexes
from benchmarks.layouts import ONE, TWO, Layout
from idempotency import store

ANSWER = store.StoredResponse(uuid.uuid4(), 201, {"Content-Type": "text/plain"}, b"done")
OTHER = store.StoredResponse(uuid.uuid4(), 200, {"Content-Type": "text/plain"}, b"again")
FILLED = {"keys": 10, "first": 1, "last": 10, "users": USERS, "packed": 250}


@pytest.fixture(params=[ONE, TWO], ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest, database: None) -> Iterator[Layout]:
    """A layout of the tables for as long as a transaction, which is rolled back."""
    chosen: Layout = request.param
    with transaction.atomic():
        execute("DELETE FROM idempotency_store")
        if chosen.made_by:
            execute(chosen.made_by)
        yield chosen
        transaction.set_rollback(True)


def execute(sql: str, parameters: Any = None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def save(digest: uuid.UUID, answer: store.StoredResponse = ANSWER, *, hours: int = 25) -> None:
    with transaction.atomic():
        store.save(digest, answer, operation="test", principal="1", token="k", ttl=timedelta(hours=hours))


def test_a_key_has_one_answer_which_is_found_claimed_and_counted(layout: Layout) -> None:
    digest = uuid.uuid4()
    assert store.claim(digest) is None
    save(digest)
    assert store.find(digest) == store.claim(digest) == ANSWER
    store.record_replays({digest: 2})
    assert execute("SELECT FROM idempotency_store WHERE replays = 2") == 1
    with pytest.raises(store.AlreadyStored):
        save(digest, OTHER)


def test_a_key_whose_fence_has_expired_takes_another_answer(layout: Layout) -> None:
    digest = uuid.uuid4()
    save(digest)
    created = ", created_at = now() - interval '1 day'" if layout is ONE else ""
    execute(f"UPDATE {layout.tables[0]} SET expires_at = now() {created}")
    assert store.claim(digest) is None
    save(digest, OTHER, hours=26)
    assert store.find(digest) == OTHER


def test_a_purge_takes_what_has_expired_and_leaves_the_rest(layout: Layout) -> None:
    execute(layout.insert, {**FILLED, "earliest": -3600.0, "latest": -1.0})
    execute(layout.insert, {**FILLED, "earliest": 3600.0, "latest": 7200.0})
    assert rows("idempotency_store") == 20
    if layout.drop:
        execute(layout.drop)
    assert execute(layout.batch, [store.BEGINNING, 100]) == 1  # a row that says how many
    assert rows("idempotency_store") == 10
    assert {name: rows(name) for name in layout.tables if name not in layout.drop} in (
        {"idempotency_store": 10},
        {"idempotency_fence": 10, "idempotency_live": 10, "idempotency_next": 0},
    )


def test_keys_come_in_without_indexes_which_are_built_afterwards(layout: Layout) -> None:
    def indexes() -> list[str]:
        made = [psycopg_connection.execute(INDEXES, [table]).fetchall() for table in layout.indexed]
        return sorted(index.replace(" WITH (fillfactor='70')", "") for found in made for _, index, _ in found)

    psycopg_connection = connection.connection
    before = indexes()
    assert len(before) > 4
    with without_indexes(psycopg_connection, layout.indexed, lambda _: None):
        assert indexes() == []
        execute(layout.insert, {**FILLED, "earliest": 3600.0, "latest": 7200.0})
    assert indexes() == before
    digest = uuid.uuid4()
    save(digest)
    assert store.find(digest) == ANSWER
