"""Replays are counted on their keys, in batches behind the answers."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from idempotency import once, store
from idempotency import replays as module
from idempotency.models import IdempotencyKey
from idempotency.replays import Replays
from tests.eventually import eventually


@pytest.fixture
def key(database: None) -> IdempotencyKey:
    token = uuid.uuid4().hex
    with once("test", token) as work:
        assert work
    return IdempotencyKey.objects.get(token=token)


@pytest.fixture
def replays() -> Iterator[Replays]:
    """Counts of a process that write themselves only when a test says so."""
    counts = Replays()
    yield counts
    if counts._writer:
        counts._writer.cancel()


def counted(key: IdempotencyKey) -> int:
    return IdempotencyKey.objects.get(pk=key.pk).replays


def in_a_thread(function: object) -> None:
    """Write as the timer's thread does, on a connection of its own."""
    thread = threading.Thread(target=function)  # type: ignore[arg-type]  # a bound method
    thread.start()
    thread.join()


def test_counting_a_replay_asks_the_database_nothing(key: IdempotencyKey, replays: Replays) -> None:
    with CaptureQueriesContext(connection) as captured:
        replays.count(key.pk)
        replays.count(key.pk)
    assert len(captured) == 0
    assert counted(key) == 0
    in_a_thread(replays.write)
    assert counted(key) == 2
    replays.count(key.pk)
    in_a_thread(replays.write)
    row = IdempotencyKey.objects.get(pk=key.pk)
    assert (row.replays, row.last_replay_at is not None) == (3, True)


def test_the_counts_are_written_a_moment_later(
    key: IdempotencyKey, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    for expected in (1, 2):
        replays.count(key.pk)
        eventually(lambda expected=expected: counted(key) == expected)  # type: ignore[misc]  # a bound default


def test_processes_that_count_the_same_keys_lose_nothing(database: None) -> None:
    tokens = [uuid.uuid4().hex for _ in range(50)]
    for token in tokens:
        with once("test", token) as work:
            assert work
    digests = list(IdempotencyKey.objects.filter(token__in=tokens).values_list("pk", flat=True))
    processes = [Replays() for _ in range(8)]
    for number, process in enumerate(processes):
        for digest in digests[:: -1 if number % 2 else 1]:
            process.count(digest)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda process: process.write(), processes))
    assert set(IdempotencyKey.objects.filter(token__in=tokens).values_list("replays", flat=True)) == {8}


def test_a_replay_is_never_blocked_by_its_count(key: IdempotencyKey, replays: Replays) -> None:
    with transaction.atomic():
        IdempotencyKey.objects.select_for_update().get(pk=key.pk)
        replays._counts[key.pk] = 1
        writing = threading.Thread(target=replays.write)
        writing.start()
        began = time.monotonic()
        in_a_thread(lambda: replays.count(key.pk))
        assert time.monotonic() - began < 1
        assert writing.is_alive()
    writing.join()
    assert counted(key) == 1


def test_a_count_that_fails_is_lost_and_nothing_else(
    key: IdempotencyKey, replays: Replays, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        patch.setattr(store, "RECORD_REPLAYS", "SELECT 1 / 0, %s, %s")
        replays.count(key.pk)
        in_a_thread(replays.write)
    assert "Replays of 1 keys were not counted: DataError" in caplog.text
    replays.count(key.pk)
    in_a_thread(replays.write)
    assert counted(key) == 1


def test_the_memory_of_counts_is_bounded(
    key: IdempotencyKey, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 2)
    for digest in (uuid.uuid4(), key.pk, uuid.uuid4(), key.pk):
        replays.count(digest)
    assert (len(replays._counts), replays._counts[key.pk]) == (2, 2)


def test_nothing_is_counted_inside_a_transaction_of_somebody_else(
    key: IdempotencyKey, replays: Replays
) -> None:
    with transaction.atomic():
        replays.count(key.pk)
    assert not replays._counts


def test_a_key_that_is_used_again_counts_from_zero(key: IdempotencyKey, replays: Replays) -> None:
    replays.count(key.pk)
    in_a_thread(replays.write)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_store SET created_at = now() - interval '2 days', "
            "expires_at = now() - interval '1 day' WHERE digest = %s",
            (key.pk,),
        )
    with once("test", key.token) as work:
        assert work
    assert counted(key) == 0
