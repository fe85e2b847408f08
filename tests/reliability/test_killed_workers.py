"""``kill -9`` of a web worker at each boundary of a request: everything or nothing, and the retry is right."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import psutil
import pytest
from django.contrib.auth.models import User

from idempotency.models import IdempotencyKey
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.conftest import LAB, PATIENT, fund, funds_of
from tests.reliability.gates import Gate
from tests.servers import Server, running_server


@pytest.fixture
def lab(triggers: None) -> Iterator[Server]:
    """A server for each test: Granian gives up when a worker that it has just put in place dies too.

    With many threads, because the kernel distributes connections freely: four in a row to one worker are not rare.
    """
    with running_server(threads=16, **LAB, **PATIENT) as running:
        yield running
        # The server has put another in the dead one's place.
        eventually(running.started, lambda count: count == 3)


@pytest.fixture
def retry(lab: Server, user: User) -> Iterator[Api]:
    """A client with connections of its own: the other's die with the worker."""
    with Api(lab, user) as client:
        yield client


def kill_at(lab: Server, api: Api, gate: Gate, key: str, body: dict[str, Any], **headers: str) -> None:
    """Send a request, and kill the worker that serves it when it has come to the gate, which stays closed."""
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(api.create, key, body, **headers)
        (stopped,) = gate.wait_for()
        assert stopped.worker in {worker.pid for worker in lab.workers()}
        psutil.Process(stopped.worker).kill()
        with pytest.raises(httpx.TransportError):
            request.result(30)
    # PostgreSQL looks after its client once a second: the session ends although the gate is closed.
    eventually(lambda: not gate.stopped())


@pytest.mark.parametrize(
    ("where", "marked"),
    [("claimed", "name"), ("inserted", "name"), ("stored", "key"), ("committing", "key")],
    ids=[
        "after the claim",
        "after the INSERT of the fund",
        "after the INSERT into the store",
        "inside COMMIT",
    ],
)
def test_killed_before_the_commit_leaves_nothing_and_the_retry_creates(
    lab: Server, lab_api: Api, retry: Api, user: User, gate: Gate, where: str, marked: str
) -> None:
    marker = gate.marker(where)
    key = marker if marked == "key" else uuid.uuid4().hex
    body = fund(name=marker if marked == "name" else "Harbor")

    kill_at(lab, lab_api, gate, key, body)
    assert funds_of(user) == 0
    assert not IdempotencyKey.objects.filter(token=key).exists()

    gate.open()
    created = retry.create(key, body)
    assert (created.status_code, created.headers["Idempotency-Status"]) == (201, "created")
    again = retry.create(key, body)
    assert (again.status_code, again.headers["Idempotency-Status"]) == (200, "replayed")
    assert again.content == created.content
    assert funds_of(user) == 1


def test_killed_between_the_commit_and_the_answer_leaves_everything_and_the_retry_replays(
    lab: Server, lab_api: Api, retry: Api, user: User, gate: Gate, key: str
) -> None:
    kill_at(lab, lab_api, gate, key, fund(), **{"X-Stop": str(gate.number)})
    assert funds_of(user) == 1
    assert IdempotencyKey.objects.filter(token=key).count() == 1

    replayed = retry.create(key, fund())
    assert (replayed.status_code, replayed.headers["Idempotency-Status"]) == (200, "replayed")
    assert retry.get(replayed.headers["Location"]).json() == replayed.json()
    assert funds_of(user) == 1


def test_a_killed_worker_takes_no_request_of_another_worker_along(
    lab: Server, user: User, make_gate: Callable[[], Gate]
) -> None:
    """Requests stop one by one, each over a connection of its own, until both workers have some."""
    requests: dict[int | None, list[tuple[Gate, Future[httpx.Response]]]] = {}
    with ExitStack() as stack, ThreadPoolExecutor(32) as pool:
        while len(requests) < 2:
            gate, client = make_gate(), stack.enter_context(Api(lab, user))
            request = pool.submit(client.create, None, fund(name=gate.marker("inserted")))
            (stopped,) = gate.wait_for()
            requests.setdefault(stopped.worker, []).append((gate, request))
        (killed, lost), (_, kept) = requests.items()
        psutil.Process(killed).kill()
        for _, request in lost:
            with pytest.raises(httpx.TransportError):
                request.result(30)
        for gate, request in kept:
            gate.open()
            assert request.result(30).status_code == 201
        for gate, _ in lost:
            eventually(gate.stopped, lambda stopped: not stopped)
    assert funds_of(user) == len(kept)
