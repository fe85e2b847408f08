"""The database goes away in every manner: 503 with Retry-After, recovery without a restart, and true retries."""

import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from chaos.proxy import Proxy
from fundapi.embedded import services
from fundapi.embedded.reach import temporary_directory
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.conftest import LAB, PATIENT, fund, funds_of
from tests.reliability.gates import Gate
from tests.servers import Server, database_url, manage, running_server, superuser_url


@pytest.fixture(scope="module")
def only_way(triggers: None) -> Iterator[Proxy]:
    settings = connection.settings_dict
    with Proxy(f"{settings['HOST']}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
def proxy(only_way: Proxy) -> Iterator[Proxy]:
    """The proxy, healed after the test."""
    only_way.cuts = 0
    yield only_way
    only_way.cut_at_commit = None
    only_way.heal()


@pytest.fixture(scope="module")
def proxied(only_way: Proxy) -> Iterator[Server]:
    """The lab, whose only way to the database is the proxy."""
    url = f"postgres://fundapi@127.0.0.1:{only_way.port}/{connection.settings_dict['NAME']}?sslmode=disable"
    with running_server(DATABASE_URL=url, **LAB, **PATIENT) as running:
        yield running


@pytest.fixture
def far(proxied: Server, proxy: Proxy, user: User) -> Iterator[Api]:
    with Api(proxied, user) as client:
        yield client


def is_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert response.json()["code"] == "database_unavailable"


def statuses(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.headers.get("Idempotency-Status")


def test_while_the_database_is_down_everything_is_a_503_and_then_works_without_a_restart(
    proxied: Server, proxy: Proxy, far: Api, user: User
) -> None:
    workers = {worker.pid for worker in proxied.workers()}
    key = uuid.uuid4().hex
    assert statuses(far.create(key)) == (201, "created")
    proxy.refuse()
    for _ in range(8):  # every thread of every worker loses a connection of its own
        is_unavailable(far.create(key))
        is_unavailable(far.create())
        is_unavailable(far.get("/api/funds"))
    health = far.get("/health")
    assert (health.status_code, health.json()["checks"]["database"]) == (503, "unavailable")
    assert far.get("/readyz").status_code == 503
    assert far.get("/livez").status_code == 200
    assert far.get("/metrics").status_code == 200
    proxy.accept()
    for _ in range(16):  # the first request of each thread already works
        assert statuses(far.create(key)) == (200, "replayed")
    assert far.create().status_code == 201
    assert far.get("/readyz").status_code == 200
    assert funds_of(user) == 2
    assert {worker.pid for worker in proxied.workers()} == workers


def test_connections_that_died_between_requests_cost_no_request(far: Api, proxy: Proxy, user: User) -> None:
    for _ in range(16):
        far.create()
    proxy.cut()
    assert {far.create().status_code for _ in range(16)} == {201}
    assert funds_of(user) == 32


@pytest.mark.parametrize(("cut", "after_the_retry"), [("before", "created"), ("after", "replayed")])
def test_a_connection_lost_at_commit_is_a_503_and_the_retry_shows_the_outcome(
    far: Api, proxy: Proxy, user: User, cut: str, after_the_retry: str
) -> None:
    key = uuid.uuid4().hex
    proxy.cut_at_commit = cut
    is_unavailable(far.create(key))
    assert proxy.cuts == 1
    # PostgreSQL may take a moment to see that its client is gone and to let the key go.
    retry = eventually(lambda: far.create(key), lambda answer: answer.status_code != 409)
    assert retry.headers["Idempotency-Status"] == after_the_retry
    assert statuses(far.create(key)) == (200, "replayed")
    assert funds_of(user) == 1


@pytest.mark.parametrize("fault", ["cut", "half_close", "refuse", "stall"])
@pytest.mark.parametrize("where", ["claimed", "inserted"])
def test_a_connection_lost_under_a_running_view_leaves_nothing(
    far: Api, proxy: Proxy, user: User, gate: Gate, where: str, fault: str
) -> None:
    key, body = uuid.uuid4().hex, fund(name=gate.marker(where))
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(far.create, key, body)
        gate.wait_for()
        getattr(proxy, fault)()
        if fault == "stall":  # a firewall that forgets, and at last says so
            proxy.cut()
            proxy.resume()
        is_unavailable(request.result(60))
    if fault == "refuse":
        proxy.accept()
    eventually(lambda: not gate.stopped())  # the session ends although the gate is closed
    assert funds_of(user) == 0
    gate.open()
    assert statuses(far.create(key, body)) == (201, "created")
    assert funds_of(user) == 1


def test_a_connection_on_which_no_answer_comes_is_cut_off(proxy: Proxy, user: User) -> None:
    """A frozen server, or a proxy that has lost it: no keepalive fails, and no time-out of the server comes."""
    url = f"postgres://fundapi@127.0.0.1:{proxy.port}/{connection.settings_dict['NAME']}?sslmode=disable"
    key = uuid.uuid4().hex
    with (
        running_server(workers=1, DATABASE_URL=url, DATABASE_STATEMENT_TIMEOUT="3", **LAB) as running,
        Api(running, user) as api,
    ):
        assert api.create().status_code == 201
        assert api.get("/readyz").status_code == 200
        proxy.strand()
        assert statuses(api.create(key)) == (201, "created")  # over a new connection
        eventually(lambda: api.get("/readyz").status_code == 200)
        assert "database_connections_cut_total 0" not in api.get("/metrics").text
        assert "database_connection_cut" in running.log
    assert funds_of(user) == 2


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("FUNCTION idempotency_save RENAME TO behind", "FUNCTION behind RENAME TO idempotency_save"),
        ("TABLE idempotency_store RENAME TO behind", "TABLE behind RENAME TO idempotency_store"),
        (
            "TABLE fundapi_fund RENAME model_version TO behind",
            "TABLE fundapi_fund RENAME behind TO model_version",
        ),
    ],
)
def test_an_older_schema_is_a_503_until_it_is_migrated(far: Api, user: User, change: str, back: str) -> None:
    key = uuid.uuid4().hex
    with psycopg.connect(superuser_url(), autocommit=True) as owner:
        owner.execute(f"ALTER {change}")
        try:
            is_unavailable(far.create(key))
        finally:
            owner.execute(f"ALTER {back}")
    assert statuses(far.create(key)) == (201, "created")
    assert funds_of(user) == 1


def test_out_of_connections_is_a_503_until_there_are_some_again(database: None, user: User) -> None:
    role = f"crowded_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(superuser_url(), autocommit=True) as session:
        session.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2 IN ROLE fundapi")
    url = database_url().replace("fundapi@", f"{role}@", 1)
    with running_server(workers=1, threads=1, DATABASE_URL=url) as crowded, Api(crowded, user) as api:
        with psycopg.connect(url), psycopg.connect(url):
            is_unavailable(api.create())
            is_unavailable(api.get("/api/funds"))
        assert eventually(api.create, lambda answer: answer.status_code != 503).status_code == 201
    assert funds_of(user) == 1


def keeper_of(home: str) -> psutil.Process:
    """The process that looks after the services of a home."""
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if "fundapi.embedded.keeper" in (process.info["cmdline"] or []) and home in process.info["cmdline"]
    )


def postmaster_of(home: str) -> Any:
    """The PostgreSQL that runs in a home now, or None between two."""
    return next((child for child in keeper_of(home).children() if child.name() == "postgres"), None)


class Retrying(threading.Thread):
    """A client as it should be: one key for one fund, sent again until there is a final answer."""

    def __init__(self, url: str, token: str, stop: threading.Event) -> None:
        super().__init__()
        self.stop = stop
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        self.acknowledged: dict[str, int] = {}
        self.seen: Counter[int] = Counter()
        self.unexpected: list[str] = []

    def run(self) -> None:
        with self.client:
            while not self.stop.is_set():
                name = uuid.uuid4().hex
                self.create(name)

    def create(self, name: str) -> None:
        for _ in range(600):
            answer = self.client.post("/api/funds", json=fund(name=name), headers={"Idempotency-Key": name})
            self.seen[answer.status_code] += 1
            if answer.is_success:
                self.acknowledged[name] = answer.json()["id"]
                return
            if answer.status_code not in (409, 503) or "Retry-After" not in answer.headers:
                self.unexpected.append(answer.text)
                return
            time.sleep(0.05)
        self.unexpected.append(f"no final answer for {name}")


@pytest.mark.timeout(180)
def test_restarts_and_crashes_of_postgresql_under_load_lose_and_double_no_acknowledged_fund() -> None:
    """Durable, unlike the database of the other tests: a crash may forget nothing."""
    with (
        temporary_directory("fundapi-crash-") as home,
        services(home, environ={}) as found,
    ):
        private: dict[str, Any] = {
            "DATABASE_URL": found.database_url,
            "REDIS_URL": found.redis_url,
            "FUNDAPI_HOME": str(home),
        }
        manage("migrate", "-v0", **private).check_returncode()
        token = manage("create_token", "retrying", "--create", **private).stdout.strip()
        stop = threading.Event()
        with running_server(**private, FUND_CREATE_RATE="1000000/minute") as running:
            workers = {worker.pid for worker in running.workers()}
            clients = [Retrying(running.url, token, stop) for _ in range(4)]
            for client in clients:
                client.start()
            try:
                for fault in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, crash
                    progress(clients)
                    replaced(str(home), fault)
                    progress(clients)
            finally:
                stop.set()
                for client in clients:
                    client.join(60)
            assert {worker.pid for worker in running.workers()} == workers
        acknowledged = {name: fund_id for client in clients for name, fund_id in client.acknowledged.items()}
        with psycopg.connect(found.database_url) as session:
            rows = session.execute("SELECT name, id FROM fundapi_fund").fetchall()
    assert [text for client in clients for text in client.unexpected] == []
    assert len(rows) == len(dict(rows))  # none doubled
    assert acknowledged == dict(rows)  # none lost: each client ended with a final answer


def replaced(home: str, fault: signal.Signals) -> None:
    """End PostgreSQL by a signal, and wait until another runs in its place."""
    before = postmaster_of(home)
    before.send_signal(fault)
    eventually(lambda: postmaster_of(home), lambda now: now is not None and now.pid != before.pid, timeout=60)


def progress(clients: list[Retrying]) -> None:
    """Wait until every client has got some more funds."""
    goal = {client: len(client.acknowledged) + 5 for client in clients}
    eventually(lambda: all(len(client.acknowledged) >= goal[client] for client in clients), timeout=90)
