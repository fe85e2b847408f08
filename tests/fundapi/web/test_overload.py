"""Who is let in, who waits, and who is turned away."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fundapi.web.overload import Door, Place
from tests.reliability.gates import eventually

LONG = 60  # s


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as workers:
        yield workers


def door(places: int = 1, *, queue: int = 10, patience: float = LONG) -> Door:
    return Door([Place() for _ in range(places)], queue, patience)


def entered(here: Door) -> Place:
    place = here.enter()
    assert place is not None
    return place


def waiting(here: Door, pool: ThreadPoolExecutor) -> "Future[Place | None]":
    """Someone who waits in the queue by now."""
    due = len(here._queue) + 1
    found = pool.submit(here.enter)
    eventually(lambda: len(here._queue), lambda waiting: waiting == due)
    return found


def test_as_many_as_there_are_places_come_in_and_nobody_shares_one() -> None:
    here = door(2, patience=0.01)
    assert len({id(entered(here)), id(entered(here))}) == 2
    assert here.enter() is None


def test_a_place_that_is_left_goes_to_who_has_waited_longest(pool: ThreadPoolExecutor) -> None:
    here = door()
    place = entered(here)
    first, second = waiting(here, pool), waiting(here, pool)
    here.leave(place)
    assert first.result(LONG) is place
    assert not second.done()
    here.leave(place)
    assert second.result(LONG) is place


def test_who_finds_the_queue_full_is_turned_away_at_once(pool: ThreadPoolExecutor) -> None:
    here = door(queue=1)
    place = entered(here)
    first = waiting(here, pool)
    assert pool.submit(here.enter).result(LONG / 2) is None
    here.leave(place)
    assert first.result(LONG) is place


def test_whoever_gives_up_leaves_nothing_behind() -> None:
    here = door(queue=1, patience=0.01)
    place = entered(here)
    assert [here.enter(), here.enter()] == [None, None]
    here.leave(place)
    assert here.enter() is place


def test_no_place_is_lost_and_none_given_twice_when_many_come_and_give_up(pool: ThreadPoolExecutor) -> None:
    here = door(2, patience=0.0001)  # in time or not: both happen
    inside: set[int] = set()
    outcomes = {True: 0, False: 0}

    def visit(_: int) -> None:
        place = here.enter()
        outcomes[place is not None] += 1
        if place is not None:
            assert id(place) not in inside
            inside.add(id(place))
            time.sleep(0)  # others work
            inside.remove(id(place))
            here.leave(place)

    list(pool.map(visit, range(20_000)))
    assert outcomes[True]
    assert outcomes[False]
    assert len({id(entered(here)), id(entered(here))}) == 2
