"""A process is ready when a create would succeed; many who ask at once share one evaluation."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from fundapi.web import probes
from fundapi.web.probes import Probe
from fundapi.web.readiness import FORBIDDEN, READ_ONLY, READY, own_migrations, readiness
from fundapi.web.serve import PROBE_WAITERS
from tests.eventually import eventually
from tests.servers import Server


@contextmanager
def undone(*statements: str) -> Iterator[None]:
    """Execute statements, and undo them at the end."""
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield
        transaction.set_rollback(True)


def test_a_database_that_takes_a_create_is_ready(database: None) -> None:
    assert readiness() == READY


def test_the_migrations_of_this_code_are_those_that_django_would_run() -> None:
    assert own_migrations() == {".".join(each) for each in MigrationLoader(None).disk_migrations}


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SET TRANSACTION READ ONLY", READ_ONLY.text),
        (
            "DELETE FROM django_migrations WHERE (app, name) = ('rollout', '0005_reading')",
            "unmigrated: rollout.0005_reading is missing (manage.py migrate)",
        ),
        (
            "DELETE FROM django_migrations WHERE app = 'idempotency'",
            "unmigrated: idempotency.0001_initial and 4 more are missing (manage.py migrate)",
        ),
        (
            "ALTER TABLE django_migrations RENAME TO other",
            "unmigrated: everything is missing (manage.py migrate)",
        ),
        ("REVOKE INSERT ON fundapi_fund FROM CURRENT_USER", FORBIDDEN.text),
        ("REVOKE SELECT ON django_migrations FROM CURRENT_USER", FORBIDDEN.text),
    ],
)
def test_a_database_that_would_refuse_a_create_is_not_ready_and_says_why(
    database: None, statement: str, text: str
) -> None:
    with undone(statement):
        state = readiness()
        assert (state.ready, state.text) == (False, text)
    assert readiness() == READY


def test_a_newer_schema_is_ready(database: None) -> None:
    """During a rolling deployment the next version has migrated already."""
    with undone("INSERT INTO django_migrations (app, name, applied) VALUES ('rollout', '0999_next', now())"):
        assert readiness() == READY


def test_a_server_on_an_older_schema_is_not_ready_until_it_is_migrated(server: Server) -> None:
    def told() -> tuple[int, str, int, str]:
        ready, health = httpx.get(f"{server.url}/readyz"), httpx.get(f"{server.url}/health")
        return ready.status_code, ready.text, health.status_code, health.json()["checks"]["database"]

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_migrations SET name = %s WHERE (app, name) = ('fundapi', %s)", [new, old]
            )

    assert told() == (200, "ok", 200, "ok")
    rename("0005_signin_roles", "none")
    try:
        missing = "unmigrated: fundapi.0005_signin_roles is missing (manage.py migrate)"
        assert told() == (503, missing, 503, "unmigrated")
        assert httpx.get(f"{server.url}/metrics").status_code == 200
    finally:
        rename("none", "0005_signin_roles")
    assert told() == (200, "ok", 200, "ok")


# --- Many who ask at once -----------------------------------------------------------------------------------


class Counted:
    """An evaluation that a test stops half-way; its value is its number."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Semaphore(0)

    def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.go_on.acquire()
        return number


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_all_who_ask_during_an_evaluation_share_the_next_one(thread: ThreadPoolExecutor) -> None:
    """Not the one that runs: it may have looked before they asked."""
    evaluation = Counted()
    probe = Probe(evaluation, otherwise=0, thread=thread)
    with ThreadPoolExecutor(5) as clients:
        first = clients.submit(probe)
        eventually(lambda: evaluation.begun == 1)
        others = [clients.submit(probe) for _ in range(4)]
        eventually(lambda: probe._waiting == 5)
        evaluation.go_on.release(2)
        assert (first.result(10), [other.result(10) for other in others]) == (1, [2, 2, 2, 2])
    assert evaluation.begun == 2


def test_an_evaluation_that_hangs_answers_in_time_and_holds_few_threads(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.2)
    evaluation = Counted()
    probe = Probe(evaluation, otherwise=-1, thread=thread)
    with ThreadPoolExecutor(PROBE_WAITERS) as clients, ExitStack() as end:
        end.callback(evaluation.go_on.release, 10)
        assert probe() == -1
        waiting = [clients.submit(probe) for _ in range(PROBE_WAITERS)]
        eventually(lambda: probe._waiting == PROBE_WAITERS or waiting[0].done())
        started = time.monotonic()
        assert probe() == -1
        assert time.monotonic() - started < 0.15 or waiting[0].done()
    assert eventually(probe, lambda value: value > 0)


def test_clients_of_one_probe_do_not_make_another_one_fail(server: Server) -> None:
    """22 clients of /health made /readyz answer 503."""
    stop = threading.Event()

    def ask(path: str) -> set[int]:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            seen = set[int]()
            while not stop.is_set():
                seen.add(client.get(path).status_code)
            return seen

    with ThreadPoolExecutor(24) as clients:
        try:
            asked = [clients.submit(ask, path) for path in ("/health", "/metrics") * 12]
            ready = {httpx.get(f"{server.url}/readyz", timeout=30).status_code for _ in range(10)}
        finally:
            stop.set()
        assert ready == {200}
        assert {status for each in asked for status in each.result(30)} == {200}
