"""A guarded view that fails in any way stores and writes nothing, frees its key, and has the right status."""

import uuid
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest
from django.contrib.auth.models import Group

from idempotency.models import IdempotencyKey
from tests.conftest import Api
from tests.reliability.conftest import LAB
from tests.servers import Server, database_url, running_server


@pytest.fixture(scope="module")
def impatient(triggers: None) -> Iterator[Server]:
    """The lab with time-outs that a test can wait for, and that a busy machine does not reach by itself."""
    with psycopg.connect(database_url()) as session:
        session.execute("CREATE TABLE IF NOT EXISTS lab_locked ()")
    short = {"LAB_STATEMENT_TIMEOUT": "3", "LAB_IDLE_TIMEOUT": "2", "DATABASE_LOCK_TIMEOUT": "2"}
    with running_server(workers=1, threads=2, **LAB, **short) as running:
        yield running


class Attempt:
    """Requests to one view of the lab under one key; what they write carries one name."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.name = self.key = uuid.uuid4().hex

    def __call__(self, view: str, **query: str) -> httpx.Response:
        headers = {"Idempotency-Key": self.key}
        return self.client.post(f"/api/lab/{view}", params={"name": self.name} | query, headers=headers)

    def written(self) -> list[str]:
        names = (
            Group.objects.filter(name__startswith=self.name).order_by("name").values_list("name", flat=True)
        )
        return [name.removeprefix(self.name).strip() for name in names]

    def stored(self) -> bool:
        return IdempotencyKey.objects.filter(token=self.key).exists()


@pytest.fixture
def attempt(impatient: Server) -> Iterator[Attempt]:
    with Api(impatient) as client:
        yield Attempt(client)


def nothing_happened_and_the_key_is_free(attempt: Attempt) -> None:
    assert not attempt.written()
    assert not attempt.stored()
    retry = attempt("works")
    assert (retry.status_code, retry.headers["Idempotency-Status"]) == (201, "created")
    assert attempt.written() == [""]


def is_problem(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
    assert response.json()["code"] == code
    assert "Traceback" not in response.text
    assert response.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "Idempotency-Status" not in response.headers


@pytest.mark.parametrize(
    "view",
    [
        "raises",
        "raises_after_a_savepoint",
        "swallows_a_database_error",
        "swallows_an_inner_failure",
        "breaks_a_deferred_constraint",
    ],
)
def test_a_bug_in_the_view_is_a_500_that_leaves_nothing(attempt: Attempt, view: str) -> None:
    is_problem(attempt(view), 500, "server_error")
    nothing_happened_and_the_key_is_free(attempt)


@pytest.mark.parametrize("status", ["400", "404", "422", "500", "503"])
def test_an_error_that_the_view_answers_leaves_nothing(attempt: Attempt, status: str) -> None:
    assert attempt("answers", status=status).status_code == int(status)
    nothing_happened_and_the_key_is_free(attempt)


@pytest.mark.parametrize(
    "view",
    [
        "sleeps_in_a_statement",
        "sleeps_between_statements",
        "loses_its_connection",
        "closes_its_connection",
        "writes_to_a_read_only_database",
    ],
)
def test_a_time_out_or_a_lost_connection_is_a_503_that_leaves_nothing(attempt: Attempt, view: str) -> None:
    is_problem(attempt(view), 503, "database_unavailable")
    nothing_happened_and_the_key_is_free(attempt)


def test_a_lock_that_does_not_come_is_a_503_that_leaves_nothing(attempt: Attempt) -> None:
    with psycopg.connect(database_url()) as session:
        session.execute("LOCK TABLE lab_locked IN ACCESS EXCLUSIVE MODE")
        is_problem(attempt("waits_for_a_table_lock"), 503, "database_unavailable")
    nothing_happened_and_the_key_is_free(attempt)


def test_what_a_view_undoes_in_a_savepoint_is_not_written_and_the_rest_is(attempt: Attempt) -> None:
    assert attempt("undoes_a_savepoint").status_code == 201
    assert attempt.written() == [""]
    assert attempt("undoes_a_savepoint").headers["Idempotency-Status"] == "replayed"


def test_an_effect_on_commit_happens_once_for_a_creation_and_its_replays(attempt: Attempt) -> None:
    answers = [attempt("has_an_effect_after_commit") for _ in range(3)]
    assert [answer.headers["Idempotency-Status"] for answer in answers] == ["created", "replayed", "replayed"]
    assert attempt.written() == ["", "effect"]


def test_an_effect_on_commit_never_happens_for_a_failure(attempt: Attempt) -> None:
    assert attempt("has_an_effect_after_commit", fail="1").status_code == 422
    nothing_happened_and_the_key_is_free(attempt)


def test_a_failing_effect_after_commit_does_not_deny_what_is_committed(
    impatient: Server, attempt: Attempt
) -> None:
    """The group is there for good: an error would invite the client to try again under another key."""
    answer = attempt("fails_after_commit")
    assert (answer.status_code, answer.headers["Idempotency-Status"]) == (201, "created")
    assert attempt("fails_after_commit").content == answer.content
    assert attempt.written() == [""]
    assert "the mail server is away" in impatient.log


def outcomes(client: httpx.Client) -> dict[str, float]:
    prefix = 'idempotency_requests_total{operation="lab",outcome="'
    lines = [
        line.removeprefix(prefix)
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(prefix)
    ]
    return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize(
    ("view", "outcome"),
    [
        ("breaks_a_deferred_constraint", "failed"),
        ("raises", "failed"),
        ("loses_its_connection", "unavailable"),
        ("fails_after_commit", "created"),
    ],
)
def test_only_what_was_committed_counts_as_created(attempt: Attempt, view: str, outcome: str) -> None:
    before = outcomes(attempt.client)
    attempt(view)
    after = outcomes(attempt.client)
    assert {name for name in after if after[name] != before[name]} == {outcome}


def test_a_failed_request_leaves_no_session_in_a_transaction_and_no_lock(
    attempt: Attempt, make_gate: Callable[..., object]
) -> None:
    for view in ("raises", "answers", "sleeps_in_a_statement", "breaks_a_deferred_constraint"):
        attempt(view, status="422")
    with psycopg.connect(database_url()) as session:
        held = session.execute(
            "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE datname = current_database() AND application_name LIKE 'lab-%'"
            " AND (state LIKE 'idle in transaction%' OR (locktype = 'advisory' AND objsubid = 1))"
        ).fetchone()
    assert held == (0,)
