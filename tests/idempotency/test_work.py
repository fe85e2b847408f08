"""``once``: the promise of the marks for code that is no view."""

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, transaction

from idempotency import metrics, once
from idempotency.models import IdempotencyKey
from idempotency.problems import RequestInProgress
from idempotency.testing import in_progress
from tests.threads import in_a_thread

pytestmark = pytest.mark.usefixtures("database")


def make(key: str, operation: str = "webhook", **options: Any) -> tuple[bool, Any]:
    with once(operation, key, **options) as work:
        if work:
            work.result = {"group": Group.objects.create(name=uuid.uuid4().hex).pk}
    return bool(work), work.result


def test_work_is_done_once_and_its_result_is_kept() -> None:
    key = f"evt/{uuid.uuid4()} with spaces"
    before = Group.objects.count()
    first, again = make(key), make(key)
    assert (first[0], again[0]) == (True, False)
    assert first[1] == again[1]
    assert Group.objects.count() == before + 1


def test_each_use_is_counted_by_how_it_ended() -> None:
    operation, key = f"counted-{uuid.uuid4().hex}", uuid.uuid4().hex

    def use(*, fails: bool = False) -> None:
        with once(operation, key) as work:
            if work and fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use(fails=True)
    for _ in range(3):
        use()
    with in_progress(operation, "another key", principal=""), pytest.raises(RequestInProgress):
        make("another key", operation=operation)
    counted = {
        outcome: metrics.requests.labels(operation, outcome)._value.get() for outcome in metrics.OUTCOMES
    }
    assert {outcome: count for outcome, count in counted.items() if count} == {
        "failed": 1,
        "created": 1,
        "replayed": 2,
        "in_progress": 1,
    }


def test_a_block_that_never_asks_is_refused_and_leaves_nothing() -> None:
    """It would do its work each time, in silence."""
    key, name = uuid.uuid4().hex, uuid.uuid4().hex
    with pytest.raises(TypeError, match="if work"), once("webhook", key):
        Group.objects.create(name=name)
    assert not Group.objects.filter(name=name).exists()
    assert make(key)[0]
    with pytest.raises(TypeError, match="if work"), once("webhook", key):
        pass


def test_principals_and_operations_keep_keys_apart() -> None:
    key = uuid.uuid4().hex
    assert make(key)[0]
    assert make(key, principal="other")[0]
    with once("task", key) as work:
        assert work


def test_a_failure_leaves_nothing_and_the_key_unused() -> None:
    key, name = uuid.uuid4().hex, uuid.uuid4().hex

    def fail() -> None:
        with once("webhook", key):
            Group.objects.create(name=name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not Group.objects.filter(name=name).exists()
    assert not IdempotencyKey.objects.filter(token=key).exists()
    assert make(key)[0]


def test_the_same_work_elsewhere_is_in_progress_or_waited_for() -> None:
    key = uuid.uuid4().hex
    inside, finish = threading.Event(), threading.Event()

    def work_slowly() -> None:
        with once("webhook", key) as work:
            assert work
            work.result = 1
            inside.set()
            finish.wait(30)
        connection.close()

    thread = threading.Thread(target=work_slowly)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(RequestInProgress):
        make(key)
    threading.Timer(0.2, finish.set).start()
    assert make(key, wait=4) == (False, 1)
    thread.join()


def test_it_is_a_part_of_a_transaction_that_is_open_already() -> None:
    key = uuid.uuid4().hex
    with transaction.atomic():
        assert make(key)[0]
        assert not make(key)[0]
        transaction.set_rollback(True)
    assert make(key)[0]


def test_a_block_inside_of_one_for_the_same_work_is_refused_and_leaves_nothing() -> None:
    key, name = uuid.uuid4().hex, uuid.uuid4().hex

    def nest(inner: str) -> None:
        with once("webhook", key) as work:
            if work:
                Group.objects.create(name=name)
                make(inner)

    with pytest.raises(RuntimeError, match="another operation"):
        nest(key)
    assert not Group.objects.filter(name=name).exists()
    nest(uuid.uuid4().hex)  # neither is open any longer
    assert not make(key)[0]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "\ud800", 5, None, b"k"], ids=repr)
def test_a_key_that_cannot_be_stored_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="1 to 255 characters"):
        make(key)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("operation", "a|b"),
        ("operation", ""),
        ("principal", None),
        ("principal", 5),
        ("principal", "x" * 256),
        ("ttl", 60),
        ("ttl", timedelta(0)),
        ("wait", -1),
        ("wait", 0.5),
        ("wait", 60),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_in_one_sentence(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {"operation": "webhook", "key": uuid.uuid4().hex, argument: value}
    with pytest.raises(ValueError, match=rf"(?i)\b{argument}\b.* (should|must) "), once(**arguments):
        pass


@pytest.mark.parametrize("misuse", [lambda it: it(make), bool], ids=["a decorator", "a condition"])
def test_what_would_guard_nothing_is_refused(misuse: Any) -> None:
    with pytest.raises(TypeError, match="with once"):
        misuse(once("webhook", uuid.uuid4().hex))


def test_async_code_calls_it_in_a_thread_of_the_database() -> None:
    key = uuid.uuid4().hex

    async def handle() -> list[bool]:
        return [(await sync_to_async(make)(key))[0] for _ in range(2)]

    assert in_a_thread(async_to_sync(handle)) == [True, False]
