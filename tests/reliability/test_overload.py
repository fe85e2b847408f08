"""A server with more requests than it can work on says so, in time, and recovers."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User

from fundapi.web.serve import PROBE_WAITERS
from tests.conftest import FUND, ORIGIN, Api
from tests.eventually import eventually
from tests.reliability.conftest import LAB, PATIENT
from tests.reliability.gates import Gate
from tests.servers import Server, database_url, running_server

QUEUE = 30


@pytest.fixture(scope="module")
def busy(triggers: None) -> Iterator[Server]:
    """One process that works on one request at a time."""
    crowded = {"WEB_THREADS": "1", "WEB_QUEUE": str(QUEUE), "CORS_ALLOWED_ORIGINS": ORIGIN}
    with running_server(workers=1, threads=QUEUE + 10, **LAB, **PATIENT, **crowded) as running:
        yield running


@pytest.fixture
def gate(make_gate: Callable[..., Gate]) -> Gate:
    return make_gate()


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


def test_too_many_get_a_503_at_once_that_says_when_to_come_back(busy: Server, user: User, gate: Gate) -> None:
    shed = metric(busy, "http_requests_shed_total")
    with Api(busy, user) as api, ThreadPoolExecutor(QUEUE + 1) as pool:
        stopped = pool.submit(api.create, "one", FUND | {"name": gate.marker("claimed")})
        gate.wait_for()
        queued = [pool.submit(api.create, f"queued-{number}") for number in range(QUEUE)]
        eventually(lambda: metric(busy, "http_requests_waiting") == QUEUE)
        refused = api.create("two", Origin=ORIGIN)
        page = httpx.get(f"{busy.url}/fund-setup", timeout=30)
        watched = [
            httpx.get(f"{busy.url}/{path}", timeout=30).status_code for path in ("livez", "readyz", "health")
        ]
        assert metric(busy, "http_requests_shed_total") == shed + 2
        gate.open()
        assert stopped.result(60).status_code == 201
        assert {each.result(60).status_code for each in queued} == {201}
        assert metric(busy, "http_requests_waiting") == 0
        created = api.create("two")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert int(refused.headers["Retry-After"]) > 0
    assert int(refused.headers["Content-Length"]) == len(refused.content)
    assert "X-Request-ID" in refused.headers
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert (page.status_code, page.headers["Retry-After"]) == (503, refused.headers["Retry-After"])
    assert watched == [200, 200, 200]
    assert (created.status_code, created.headers["Idempotency-Status"]) == (201, "created")


def test_a_wait_in_the_queue_that_is_too_long_ends_in_a_503(triggers: None, user: User, gate: Gate) -> None:
    impatient = {"WEB_THREADS": "1", "WEB_QUEUE_SECONDS": "0.1"}
    with (
        running_server(workers=1, threads=4, **LAB, **PATIENT, **impatient) as server,
        Api(server, user) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        stopped = pool.submit(api.create, "one", FUND | {"name": gate.marker("claimed")})
        gate.wait_for()
        assert api.create("two").json()["code"] == "overloaded"
        gate.open()
        assert stopped.result(60).status_code == 201


def test_clients_that_are_slow_to_send_take_nobody_s_place(busy: Server, user: User) -> None:
    head = b"POST /api/funds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with ExitStack() as slow, Api(busy, user) as api:

        def send_slowly() -> None:
            client = slow.enter_context(socket.create_connection(("127.0.0.1", busy.port)))
            client.sendall(head + b"{")

        for _ in range(3):
            send_slowly()
        assert api.create().status_code == 201
        for _ in range(QUEUE):
            send_slowly()
        refused = eventually(api.create, lambda answer: answer.status_code == 503)
        assert refused.json()["code"] == "overloaded"
        assert httpx.get(f"{busy.url}/livez", timeout=30).status_code == 200
        slow.close()
        assert eventually(api.create, lambda answer: answer.status_code != 503).status_code == 201


def test_many_threads_share_the_connections_of_a_few_slots(busy: Server, user: User) -> None:
    """One for requests and one for probes."""
    with Api(busy, user) as api, ThreadPoolExecutor(QUEUE) as pool:
        answers = list(pool.map(lambda number: api.create(f"many-{number}").status_code, range(3 * QUEUE)))
        assert set(answers) == {201}
    with ThreadPoolExecutor(PROBE_WAITERS) as probes:
        ready = probes.map(lambda _: httpx.get(f"{busy.url}/readyz", timeout=30).status_code, range(QUEUE))
        assert set(ready) == {200}
    with psycopg.connect(database_url()) as session:
        row = session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ANY(%s)",
            ([f"lab-{worker.pid}" for worker in busy.workers()],),
        ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= 2


def test_a_form_that_is_announced_too_large_is_refused_and_not_waited_for(busy: Server, user: User) -> None:
    """Else a client that announces a large file for the sign-in page, and sends none, would hold a slot."""
    head = (
        b"POST /signin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nCookie: csrftoken=" + b"c" * 32 + b"\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", busy.port), timeout=60) as client, Api(busy, user) as api:
        client.sendall(head + b"--x\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")
        assert api.create().status_code == 201
