"""Requests get a slot, wait for one, or are rejected."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, connections

from fundapi.web.overload import Slot, SlotQueue
from tests.eventually import eventually

LONG = 60  # s


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as workers:
        yield workers


def slot_queue(slots: int = 1, *, length: int = 10, timeout: float = LONG) -> SlotQueue:
    return SlotQueue([Slot() for _ in range(slots)], length, timeout)


def acquired(queue: SlotQueue) -> Slot:
    slot = queue.acquire()
    assert slot is not None
    return slot


def waiting(queue: SlotQueue, pool: ThreadPoolExecutor) -> "Future[Slot | None]":
    """Return the slot to come of a thread that waits by now."""
    due = len(queue._waiting) + 1
    slot = pool.submit(queue.acquire)
    eventually(lambda: len(queue._waiting), lambda waiting: waiting == due)
    return slot


def test_as_many_get_in_as_there_are_slots_and_nobody_shares_one() -> None:
    queue = slot_queue(2, timeout=0.01)
    assert len({id(acquired(queue)), id(acquired(queue))}) == 2
    assert queue.acquire() is None


def test_a_released_slot_goes_to_the_thread_that_has_waited_longest(pool: ThreadPoolExecutor) -> None:
    queue = slot_queue()
    slot = acquired(queue)
    first, second = waiting(queue, pool), waiting(queue, pool)
    queue.release(slot)
    assert first.result(LONG) is slot
    assert not second.done()
    queue.release(slot)
    assert second.result(LONG) is slot


def test_a_newcomer_overtakes_nobody(pool: ThreadPoolExecutor) -> None:
    queue = slot_queue(length=1)
    slot = acquired(queue)
    first = waiting(queue, pool)
    queue.release(slot)
    queue._timeout = 0.01
    assert queue.acquire() is None
    assert first.result(LONG) is slot


def test_when_the_queue_is_full_a_request_is_rejected_at_once(pool: ThreadPoolExecutor) -> None:
    queue = slot_queue(length=1)
    slot = acquired(queue)
    first = waiting(queue, pool)
    assert pool.submit(queue.acquire).result(LONG / 2) is None
    queue.release(slot)
    assert first.result(LONG) is slot


def test_a_thread_that_gives_up_leaves_nothing_behind() -> None:
    queue = slot_queue(length=1, timeout=0.01)
    slot = acquired(queue)
    assert [queue.acquire(), queue.acquire()] == [None, None]
    queue.release(slot)
    assert queue.acquire() is slot


def test_no_slot_is_lost_and_none_given_twice_when_many_come_and_give_up(pool: ThreadPoolExecutor) -> None:
    queue = slot_queue(2, timeout=0.0001)  # in time or not: both happen
    held: set[int] = set()
    outcomes = {True: 0, False: 0}

    def visit(_: int) -> None:
        slot = queue.acquire()
        outcomes[slot is not None] += 1
        if slot is not None:
            assert id(slot) not in held
            held.add(id(slot))
            time.sleep(0)  # others work
            held.remove(id(slot))
            queue.release(slot)

    list(pool.map(visit, range(20_000)))
    assert outcomes[True]
    assert outcomes[False]
    assert len({id(acquired(queue)), id(acquired(queue))}) == 2


# Slots do for their connections what Django's receivers, which are disconnected, would do at each end of a request.


@pytest.fixture
def slot(database: None) -> Iterator[Slot]:
    of_this_thread = connections["default"]
    yield (slot := Slot())
    slot.databases[0].close()
    connections["default"] = of_this_thread


def test_a_slot_ends_a_transaction_that_a_request_left_open(slot: Slot) -> None:
    with slot:
        connection.set_autocommit(False)
        connection.cursor().execute("SELECT 1")
    assert slot.databases[0].connection is None


def test_a_slot_ends_a_connection_that_has_become_too_old_while_nobody_had_it(slot: Slot) -> None:
    with slot:
        connection.cursor().execute("SELECT 1")
    first = slot.databases[0].connection
    assert first is not None
    slot.databases[0].close_at = time.monotonic()
    with slot:
        assert slot.databases[0].connection is None
    assert first.closed


def test_a_slot_replaces_a_connection_that_was_lost(slot: Slot) -> None:
    with slot:
        connection.cursor().execute("SELECT 1")
        slot.databases[0].connection.close()
        with pytest.raises(OperationalError):
            connection.cursor().execute("SELECT 1")
    with slot:
        connection.cursor().execute("SELECT 1")
