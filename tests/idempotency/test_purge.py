"""Purging deletes what has expired, in small batches, and never anything that lives."""

import io
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import override_settings
from prometheus_client import REGISTRY

from idempotency import purge, store
from idempotency.models import IdempotencyKey
from idempotency.tasks import purge_expired_keys
from tests.answers import funds_of
from tests.conftest import Api
from tests.obedience import query, undeletable
from tests.servers import database_url

INSERT = """
INSERT INTO idempotency_store (digest, environment, operation, principal, token, fingerprint, status, content_type,
                               body, created_at, expires_at)
SELECT gen_random_uuid(), 'test', 'fund-create', %s, 'k' || number, gen_random_uuid(), 201, 'application/json', '{}',
       now() - interval '25 hours', now() - interval '1 hour' + %s::interval + number * interval '1 microsecond'
FROM generate_series(1, %s) AS number
"""


@pytest.fixture
def owner(database: None) -> str:
    """A principal of this test alone; whatever other tests left expired is gone."""
    query("DELETE FROM idempotency_store WHERE expires_at <= now()")
    return f"purge-{uuid.uuid4().hex}"


def keep(owner: str, *, expired: int = 0, live: int = 0) -> None:
    query(INSERT, owner, "0", expired)
    query(INSERT, owner, "2 hours", live)


def left(owner: str) -> int:
    return IdempotencyKey.objects.filter(principal=owner).count()


def other_connection() -> psycopg.Connection:
    return psycopg.connect(database_url())


@pytest.mark.parametrize(("expired", "batch"), [(0, 5), (1, 1), (4, 5), (5, 5), (6, 5), (23, 5), (25, 5)])
def test_everything_expired_goes_in_batches_no_larger_than_the_setting(
    owner: str, expired: int, batch: int
) -> None:
    keep(owner, expired=expired, live=3)
    batches: list[int] = []
    with override_settings(IDEMPOTENCY_PURGE_BATCH_SIZE=batch):
        assert purge.purge_expired(batches.append) == expired
    assert sum(batches) == expired
    assert all(0 < deleted <= batch for deleted in batches)
    assert left(owner) == 3


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 100, 999])
def test_a_batch_is_bounded_whatever_the_planner_thinks_of_the_table(
    owner: str, analyzed: bool, limit: int
) -> None:
    """A sub-select with LIMIT and FOR UPDATE that is run again for each outer row would delete more."""
    keep(owner, expired=1000, live=10)
    if analyzed:
        query("ANALYZE idempotency_store")
    assert store.purge_batch(limit)[0] == limit
    assert left(owner) == 1010 - limit


@pytest.mark.parametrize(
    "switch", ["hashjoin", "hashagg", "mergejoin", "nestloop", "indexscan", "seqscan", "material"]
)
def test_a_batch_is_bounded_under_every_plan(owner: str, switch: str) -> None:
    keep(owner, expired=50)
    query(f"SET enable_{switch} = off")
    if switch == "mergejoin":
        query("SET enable_hashjoin = off")
        query("SET enable_hashagg = off")
        query("SET enable_sort = off")
    try:
        assert store.purge_batch(10)[0] == 10
    finally:
        query("RESET ALL")
        connection.close()  # whose options set time-outs again
    assert left(owner) == 40


def test_the_oldest_go_first(owner: str) -> None:
    keep(owner, expired=20)
    store.purge_batch(5)
    tokens = set(IdempotencyKey.objects.filter(principal=owner).values_list("token", flat=True))
    assert tokens == {f"k{number}" for number in range(6, 21)}


def test_a_batch_begins_where_the_last_one_ended(owner: str) -> None:
    """Until VACUUM comes, the index still has what was deleted: a batch that begins there reads it all again."""
    keep(owner, expired=10)
    deleted, since = store.purge_batch(4)
    assert deleted == 4
    assert store.purge_batch(3, since=since) == (3, since + timedelta(microseconds=3))

    def add_an_older_one(_deleted: int) -> None:
        query(
            "UPDATE idempotency_store SET expires_at = created_at + interval '1 second'"
            " WHERE principal = %s AND token = 'k10'",
            owner,
        )

    with override_settings(IDEMPOTENCY_PURGE_BATCH_SIZE=2):
        assert purge.purge_expired(add_an_older_one) == 2
        assert purge.purge_expired() == 1
    assert left(owner) == 0


def test_each_batch_is_a_transaction_of_its_own(owner: str) -> None:
    """A purge that is killed half-way keeps what it did, and a second run does the rest."""
    keep(owner, expired=10)

    def stop_after_the_first(_deleted: int) -> None:
        raise KeyboardInterrupt

    with override_settings(IDEMPOTENCY_PURGE_BATCH_SIZE=4):
        with pytest.raises(KeyboardInterrupt):
            purge.purge_expired(stop_after_the_first)
        with other_connection() as elsewhere:
            row = elsewhere.execute(
                "SELECT count(*) FROM idempotency_store WHERE principal = %s", (owner,)
            ).fetchone()
            assert row == (6,)
        assert purge.purge_expired() == 6
    assert left(owner) == 0


def test_a_key_that_ends_in_a_moment_lives(owner: str) -> None:
    keep(owner, expired=1)
    query("UPDATE idempotency_store SET expires_at = now() + interval '1 minute' WHERE principal = %s", owner)
    assert purge.purge_expired() == 0
    assert left(owner) == 1


def test_two_purges_at_once_share_the_work(owner: str) -> None:
    keep(owner, expired=2000, live=5)
    start = threading.Barrier(2)

    def one() -> int:
        connection.ensure_connection()  # before the start, or one would be done when the other comes
        start.wait()
        try:
            return purge.purge_expired()
        finally:
            connection.close()

    with override_settings(IDEMPOTENCY_PURGE_BATCH_SIZE=50), ThreadPoolExecutor(2) as pool:
        shares = [future.result() for future in [pool.submit(one), pool.submit(one)]]
    assert sum(shares) == 2000
    assert all(share > 0 for share in shares)
    assert left(owner) == 5


def test_a_purge_does_not_wait_for_rows_that_are_locked(owner: str) -> None:
    keep(owner, expired=10)
    with other_connection() as holder:
        holder.execute(
            "SELECT FROM idempotency_store WHERE principal = %s ORDER BY expires_at LIMIT 4 FOR UPDATE",
            (owner,),
        )
        assert purge.purge_expired() == 6
    assert purge.purge_expired() == 4


def test_a_row_that_a_request_is_just_renewing_survives(owner: str) -> None:
    """The row looks expired to the purge until the renewal commits; then it must be looked at again."""
    keep(owner, expired=1)
    with other_connection() as request:
        request.execute(
            "UPDATE idempotency_store SET created_at = now(), expires_at = now() + interval '1 day'"
            " WHERE principal = %s",
            (owner,),
        )
        assert purge.purge_expired() == 0
    assert purge.purge_expired() == 0
    assert left(owner) == 1


def test_requests_renew_expired_keys_beside_a_purge(api: Api, user: Any) -> None:
    """Request or purge first: an answer of 201 is stored, and its retry replays."""
    tokens = [f"k{number}" for number in range(40)]
    for token in tokens:
        assert api.create(token).status_code == 201
    query(
        "UPDATE idempotency_store SET created_at = created_at - interval '2 days',"
        " expires_at = expires_at - interval '2 days' WHERE principal = %s",
        str(user.pk),
    )
    done = threading.Event()

    def purge_all_the_time() -> None:
        while not done.is_set():
            store.purge_batch(3)
        connection.close()

    with ThreadPoolExecutor(5) as pool:
        purging = pool.submit(purge_all_the_time)
        try:
            renewed = list(pool.map(api.create, tokens))
        finally:
            done.set()
        purging.result()
    assert {response.status_code for response in renewed} == {201}
    assert [api.create(token).content for token in tokens] == [response.content for response in renewed]
    assert IdempotencyKey.objects.filter(principal=str(user.pk)).count() == 40
    assert funds_of(user) == 80


def test_an_expired_key_works_as_new_before_and_after_a_purge(api: Api, user: Any, key: str) -> None:
    for round_, purged in enumerate((False, True, False), start=1):
        assert api.create(key).status_code == 201
        assert api.create(key).status_code == 200
        query(
            "UPDATE idempotency_store SET created_at = created_at - interval '2 days',"
            " expires_at = expires_at - interval '2 days' WHERE principal = %s",
            str(user.pk),
        )
        if purged:
            purge.purge_expired()
        assert funds_of(user) == round_


def test_the_task_purges_and_may_run_twice(owner: str) -> None:
    keep(owner, expired=3, live=1)
    assert purge_expired_keys.apply().get() == 3
    assert purge_expired_keys.apply().get() == 0
    assert left(owner) == 1


# --- The command --------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_the_command_deletes_and_says_how_many(owner: str, capfd: pytest.CaptureFixture[str]) -> None:
    keep(owner, expired=12, live=2)
    assert run_command() == "12 expired keys deleted.\n"
    assert run_command() == "0 expired keys deleted.\n"
    assert left(owner) == 2
    assert not re.search(r"\S", capfd.readouterr().out)  # the progress bar is no output


def test_a_dry_run_says_how_many_and_deletes_none(owner: str) -> None:
    keep(owner, expired=12, live=2)
    assert run_command("--dry-run") == "12 expired keys would be deleted.\n"
    assert left(owner) == 14


def test_metrics_say_that_a_purge_failed_and_when_the_latest_succeeded(owner: str) -> None:
    def sample(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"idempotency_purge_{name}", labels) or 0

    def succeeded() -> float:
        return sample("last_success_timestamp_seconds", table="idempotency_store")

    keep(owner, expired=1)
    failures, latest = sample("failures_total"), succeeded()
    with undeletable("idempotency_store"), pytest.raises(DatabaseError, match="refused"):
        purge_expired_keys()
    assert (sample("failures_total"), succeeded()) == (failures + 1, latest)
    assert purge_expired_keys() == 1
    assert sample("failures_total") == failures + 1
    assert succeeded() == pytest.approx(store.clock().timestamp(), abs=5)
