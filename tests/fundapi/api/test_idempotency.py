"""The idempotency contract (design §3), row by row, over HTTP to a running server of two processes."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Permission, User

from fundapi.models import Fund
from idempotency.models import IdempotencyKey
from tests.answers import assert_problem, errors_of, funds_of, keys_of
from tests.conftest import FUND, Api
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT, Hold, query
from tests.servers import UNHURRIED, Server, running_server

CONFLICT = {"Idempotency-Status": "conflict"}


@pytest.fixture
def at_once() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture(scope="module")
def narrow_server(database: None) -> Iterator[Server]:
    """One process in which at most one request waits, for at most three seconds."""
    narrow = UNHURRIED | {"IDEMPOTENCY_WAITERS_MAX": "1", "UNHURRIED_WAIT_MAX": "3"}
    with running_server(workers=1, **narrow) as running:
        yield running


def age(user: User, interval: str = "25 hours") -> None:
    """Make the user's keys older in the database."""
    query(
        "UPDATE idempotency_store SET created_at = created_at - %s::interval, expires_at = expires_at - %s::interval"
        " WHERE principal = %s",
        *(interval, interval, str(user.pk)),
    )


def assert_created(response: httpx.Response) -> None:
    assert response.status_code == 201, response.text
    assert response.headers["Idempotency-Status"] == "created"


def assert_replays(response: httpx.Response, first: httpx.Response) -> None:
    assert response.status_code == 200, response.text
    assert response.headers["Idempotency-Status"] == "replayed"
    assert response.content == first.content
    for name in ("Location", "Content-Type"):
        assert response.headers[name] == first.headers[name]


def assert_reused(response: httpx.Response) -> None:
    problem = assert_problem(response, 409, "idempotency_key_reused")
    assert response.headers["Idempotency-Status"] == "conflict"
    assert "Retry-After" not in response.headers
    assert "review" in problem["detail"].lower()
    assert "new key" in problem["detail"]


def assert_in_progress(response: httpx.Response) -> None:
    assert_problem(response, 409, "idempotency_request_in_progress")
    assert response.headers["Idempotency-Status"] == "conflict"
    assert response.headers["Retry-After"] == "1"


# --- The key ------------------------------------------------------------------------------------------------


def test_a_post_without_a_key_is_refused(api: Api, user: User) -> None:
    response = api.post("/api/funds", json=FUND)
    assert_problem(response, 400, "idempotency_key_missing")
    assert "Idempotency-Status" not in response.headers
    assert funds_of(user) == 0


MALFORMED = {
    "empty": "",
    "blank inside": "a b",
    "tab inside": "a\tb",
    "comma": "a,b",
    "slash": "a/b",
    "percent": "a%20b",
    "at": "a@b",
    "braces": "{a}",
    "plus": "a+b",
    "equals": "a=",
    "single quotes": "'abc'",
    "quote at the start": '"abc',
    "quote at the end": 'abc"',
    "one quote": '"',
    "nothing in quotes": '""',
    "blank in quotes": '" abc"',
    "quote in quotes": '"a"b"',
    "escape in quotes": '"a\\"b"',
    "quoted twice": '""abc""',
    "with a parameter": '"abc";v=1',
    "too long": "k" * 256,
    "too long, quoted": '"' + "k" * 256 + '"',
    "too long, namespaced": "test|fund-create|" + "k" * 256,
    "far too long": "k" * 5000,
    "two parts": "test|abc",
    "four parts": "test|fund-create|abc|d",
    "five parts": "||||",
    "only separators": "||",
    "one separator": "|",
    "no environment": "|fund-create|abc",
    "no operation": "test||abc",
    "no token": "test|fund-create|",
    "blanks around separators": "test | fund-create | abc",
    "namespaced in quotes": '"test|fund-create|abc"',
    "quoted token in a namespace": 'test|fund-create|"abc"',
    "too long environment": "e" * 256 + "|fund-create|abc",
    "not ASCII": "schlüssel".encode(),
    "not UTF-8": b"\xff\xfe\xfd",
    "digits of another script": "١٢٣".encode(),
    "NEL": b"abc\x85",
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_key_is_refused(api: Api, user: User, header: str | bytes) -> None:
    response = api.post("/api/funds", json=FUND, headers={"Idempotency-Key": header})  # type: ignore[arg-type]
    assert_problem(response, 400, "idempotency_key_invalid")
    assert "Idempotency-Status" not in response.headers
    assert (funds_of(user), keys_of(user)) == (0, 0)


def test_two_keys_in_one_request_are_refused(api: Api, user: User) -> None:
    response = api.post("/api/funds", json=FUND, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert_problem(response, 400, "idempotency_key_invalid")
    assert funds_of(user) == 0


@pytest.mark.parametrize(
    "token", ["k", "k" * 255, "A-Za-z0-9_.:~-", "9f86d081-884c-4d63-a159-b1ad3c7a2f2d", "-", "~", "a:b"]
)
@pytest.mark.parametrize("form", ["{}", '"{}"', "test|fund-create|{}"])
def test_every_accepted_form_creates_and_is_echoed_as_sent(api: Api, form: str, token: str) -> None:
    header = form.format(token)
    first, again = api.create(header), api.create(header)
    assert_created(first)
    assert_replays(again, first)
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == header


def test_the_three_forms_name_the_same_key(api: Api, key: str) -> None:
    first = api.create(key)
    for header in (f'"{key}"', f"test|fund-create|{key}", key):
        again = api.create(header)
        assert_replays(again, first)
        assert again.headers["Idempotency-Key"] == header


def test_keys_differ_by_case(api: Api, key: str) -> None:
    assert_created(api.create(f"a{key}"))
    assert_created(api.create(f"A{key}"))


def test_a_key_for_another_environment_is_refused_and_both_are_named(api: Api, user: User, key: str) -> None:
    problem = assert_problem(
        api.create(f"prod|fund-create|{key}"), 400, "idempotency_key_environment_mismatch"
    )
    assert "'prod'" in problem["detail"]
    assert "'test'" in problem["detail"]
    assert (funds_of(user), keys_of(user)) == (0, 0)
    assert_created(api.create(key))


def test_an_environment_is_compared_exactly(api: Api, key: str) -> None:
    assert_problem(api.create(f"TEST|fund-create|{key}"), 400, "idempotency_key_environment_mismatch")


def test_a_key_for_another_operation_is_refused_and_both_are_named(api: Api, user: User, key: str) -> None:
    problem = assert_problem(api.create(f"test|fund-delete|{key}"), 400, "idempotency_key_operation_mismatch")
    assert "'fund-delete'" in problem["detail"]
    assert "'fund-create'" in problem["detail"]
    assert (funds_of(user), keys_of(user)) == (0, 0)


def test_a_conflict_echoes_the_key_as_well(api: Api, key: str) -> None:
    header = f'"{key}"'
    api.create(header)
    assert api.create(header, FUND | {"size": 1}).headers["Idempotency-Key"] == header


# --- Created, replayed --------------------------------------------------------------------------------------


def test_a_first_request_creates_and_every_retry_replays_byte_for_byte(
    api: Api, user: User, key: str
) -> None:
    first = api.create(key)
    assert_created(first)
    assert first.headers["Location"] == f"/api/funds/{first.json()['id']}"
    assert first.headers["Content-Type"] == "application/json"
    for _ in range(3):
        assert_replays(api.create(key), first)
    assert (funds_of(user), keys_of(user)) == (1, 1)


def test_the_location_of_a_replay_leads_to_the_fund(api: Api, key: str) -> None:
    api.create(key)
    replayed = api.create(key)
    assert api.get(replayed.headers["Location"]).json() == replayed.json()


def test_a_replay_repeats_no_cookie_and_no_request_id_of_the_first(api: Api, key: str) -> None:
    first, again = api.create(key), api.create(key)
    assert "Set-Cookie" not in again.headers
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]


def test_a_replay_is_what_was_answered_then_not_what_is_true_now(api: Api, key: str) -> None:
    first = api.create(key)
    Fund.objects.filter(pk=first.json()["id"]).update(name="Renamed since")
    assert_replays(api.create(key), first)


def test_a_replay_survives_the_fund(api: Api, user: User, key: str) -> None:
    first = api.create(key)
    Fund.objects.filter(pk=first.json()["id"]).delete()
    assert_replays(api.create(key), first)
    assert funds_of(user) == 0


def test_a_response_with_other_than_ascii_is_replayed_byte_for_byte(api: Api, key: str) -> None:
    body = FUND | {"name": "Håfen 🚢 “Growth”", "engineResults": {"ключ": "😀\u2028"}}
    first = api.create(key, body)
    assert first.json()["name"] == body["name"]
    assert_replays(api.create(key, body), first)


def test_without_a_new_key_two_equal_funds_are_two_funds(api: Api, user: User) -> None:
    assert_created(api.create(uuid.uuid4().hex))
    assert_created(api.create(uuid.uuid4().hex))
    assert funds_of(user) == 2


SPELLED = '{"name": "Résumé", "size": 100, "managementFee": 0.02, "engineResults": {"a": [1, {"b": null}], "c": true}}'
SAME = {
    "other key order": '{"size": 100, "engineResults": {"c": true, "a": [1, {"b": null}]}, "managementFee": 0.02,'
    ' "name": "Résumé"}',
    "no white space": '{"name":"Résumé","size":100,"managementFee":0.02,"engineResults":{"a":[1,{"b":null}],"c":true}}',
    "more white space": f"\r\n\t {SPELLED} \n",
    "escapes": SPELLED.replace("é", "\\u00e9").replace('"size"', '"\\u0073ize"'),
    "1.0": SPELLED.replace("100", "100.0").replace("[1,", "[1.0,"),
    "1e0": SPELLED.replace("100", "1e2").replace("[1,", "[1e0,"),
    "1000e-1": SPELLED.replace("100", "1000E-1").replace("[1,", "[10e-1,"),
    "2e-2": SPELLED.replace("0.02", "2e-2"),
    "0.0200": SPELLED.replace("0.02", "0.0200"),
}


@pytest.mark.parametrize("spelling", SAME.values(), ids=SAME.keys())
def test_the_same_values_spelled_otherwise_are_the_same_request(api: Api, key: str, spelling: str) -> None:
    first = api.create(key, SPELLED)
    assert_created(first)
    assert_replays(api.create(key, spelling), first)


def test_the_content_type_may_name_a_charset_without_being_another_request(api: Api, key: str) -> None:
    first = api.create(key)
    assert_replays(api.create(key, **{"Content-Type": "Application/JSON; charset=UTF-8"}), first)


# --- Another request under the same key ---------------------------------------------------------------------

OTHER = {
    "another value": SPELLED.replace("100", "101"),
    "a value that only a double takes for the same": SPELLED.replace("[1,", "[1.00000000000000000001,"),
    "a member more": SPELLED.replace('"c": true', '"c": true, "d": 1'),
    "a member less": SPELLED.replace(', "c": true', ""),
    "a default left out": SPELLED.replace('"managementFee": 0.02, ', ""),
    "null for absent": SPELLED.replace('"size"', '"modelVersion": null, "size"'),
    "another type": SPELLED.replace("[1,", '["1",'),
    "true for 1": SPELLED.replace("[1,", "[true,"),
    "other array order": SPELLED.replace('[1, {"b": null}]', '[{"b": null}, 1]'),
    "another Unicode normal form": SPELLED.replace("é", "e\u0301"),
    "a blank that the name would lose": SPELLED.replace("Résumé", "Résumé "),
    "not even a fund": '{"x": 1}',
    "an empty object": "{}",
    "no JSON type": "[]",
}


@pytest.mark.parametrize("body", OTHER.values(), ids=OTHER.keys())
def test_another_body_under_a_used_key_is_a_conflict(api: Api, user: User, key: str, body: str) -> None:
    first = api.create(key, SPELLED)
    assert_reused(api.create(key, body))
    assert_replays(api.create(key, SPELLED), first)
    assert funds_of(user) == 1


def test_an_empty_body_under_a_used_key_is_a_conflict(api: Api, key: str) -> None:
    api.create(key)
    assert_reused(api.create(key, b""))


def test_a_broken_body_under_a_used_key_is_a_bad_request(api: Api, key: str) -> None:
    first = api.create(key)
    assert_problem(api.create(key, b"{"), 400, "parse_error")
    assert_replays(api.create(key), first)


def test_another_query_under_a_used_key_is_a_conflict(api: Api, user: User, key: str) -> None:
    headers = {"Idempotency-Key": key}
    first = api.post("/api/funds?source=a", json=FUND, headers=headers)
    assert_created(first)
    assert_reused(api.post("/api/funds?source=b", json=FUND, headers=headers))
    assert_reused(api.post("/api/funds", json=FUND, headers=headers))
    assert_replays(api.post("/api/funds?source=a", json=FUND, headers=headers), first)
    assert funds_of(user) == 1


def test_a_query_is_compared_as_it_was_sent_and_an_empty_one_is_none(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert_created(api.post("/api/funds?a=1&b=A", json=FUND, headers=headers))
    for other in ("?b=A&a=1", "?a=1&b=%41"):
        assert_reused(api.post(f"/api/funds{other}", json=FUND, headers=headers))
    first = api.create(f"{key}-without")
    assert_replays(api.post("/api/funds?", json=FUND, headers={"IDEMPOTENCY-KEY": f"{key}-without"}), first)


def test_a_conflict_is_noted_on_the_key_for_support(api: Api, user: User, key: str) -> None:
    api.create(key)
    for size in (1, 2):
        api.create(key, FUND | {"size": size})
    noted = IdempotencyKey.objects.get(principal=str(user.pk))
    assert noted.conflicts == 2
    assert noted.last_conflict_at is not None


def test_a_conflict_contains_nothing_of_the_stored_answer(api: Api, key: str) -> None:
    first = api.create(key, FUND | {"name": "Secret Harbor"})
    conflict = api.create(key, FUND | {"name": "Guess"})
    assert "Secret Harbor" not in conflict.text
    assert "Location" not in conflict.headers
    assert first.headers["Location"] not in conflict.text


# --- The first still runs -----------------------------------------------------------------------------------


def test_a_retry_while_the_first_runs_gets_a_409_with_retry_after(
    api: Api, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    early = api.create(key, hold.body)
    assert_in_progress(early)
    assert "Preference-Applied" not in early.headers
    assert early.headers["Idempotency-Key"] == key
    assert not first.done()
    hold.release()
    assert_created(first.result())
    assert_replays(api.create(key, hold.body), first.result())
    assert funds_of(user) == 1


def test_another_body_while_the_first_runs_gets_the_same_409(
    api: Api, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    assert_in_progress(api.create(key, FUND))
    hold.release()
    assert_created(first.result())
    assert_reused(api.create(key, FUND))


def test_another_key_and_another_user_do_not_wait_for_a_running_request(
    api: Api, key: str, hold: Hold, at_once: ThreadPoolExecutor, server: Server, make_user: Any
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    assert_created(api.create())
    with Api(server, make_user()) as other:
        assert_created(other.create(key))
    assert not first.done()
    hold.release()
    assert_created(first.result())


def test_prefer_wait_replays_as_soon_as_the_first_ends(
    api: Api, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    patient = at_once.submit(api.create, key, hold.body, Prefer="wait=20")
    hold.waiting()
    hold.release()
    assert_created(first.result())
    assert_replays(patient.result(), first.result())
    assert patient.result().headers["Preference-Applied"] == "wait=20"
    assert funds_of(user) == 1


def test_prefer_wait_with_another_body_is_a_conflict_once_the_first_ends(
    api: Api, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    patient = at_once.submit(api.create, key, FUND, Prefer="wait=20")
    hold.waiting()
    hold.release()
    assert_created(first.result())
    assert_reused(patient.result())


def test_the_waiter_becomes_the_first_when_the_first_fails(
    api: Api, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    (backend,) = hold.running()
    patient = at_once.submit(api.create, key, hold.body, Prefer="wait=20")
    hold.waiting()
    query("SELECT pg_cancel_backend(%s)", backend)
    assert_problem(first.result(), 503, "database_unavailable")
    hold.running()  # now the waiter is
    hold.release()
    assert_created(patient.result())
    assert patient.result().headers["Preference-Applied"] == "wait=20"
    assert funds_of(user) == 1


def test_waiting_is_capped_and_ends_in_a_conflict(
    narrow_server: Server, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    with Api(narrow_server, user) as api:
        first = at_once.submit(api.create, key, hold.body)
        hold.running()
        gave_up = api.create(key, hold.body, Prefer="wait=60")
        assert_in_progress(gave_up)
        assert gave_up.headers["Preference-Applied"] == "wait=3"
        assert not first.done()
        hold.release()
        assert_created(first.result())


def test_past_the_bound_of_waiters_the_conflict_comes_at_once(
    narrow_server: Server, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    with Api(narrow_server, user) as api:
        first: Future[httpx.Response] = at_once.submit(api.create, key, hold.body)
        hold.running()
        patient = at_once.submit(api.create, key, hold.body, Prefer="wait=3")
        hold.waiting()
        turned_away = api.create(key, hold.body, Prefer="wait=3")
        assert not patient.done()
        assert_in_progress(turned_away)
        assert "Preference-Applied" not in turned_away.headers
        hold.release()
        assert_replays(patient.result(), first.result())


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async", "wait=soon", "wait", "wait=-1", "wait=1.5"])
def test_a_preference_that_asks_for_no_wait_gets_none(
    api: Api, key: str, hold: Hold, at_once: ThreadPoolExecutor, prefer: str
) -> None:
    first = at_once.submit(api.create, key, hold.body)
    hold.running()
    early = api.create(key, hold.body, Prefer=prefer)
    assert_in_progress(early)
    assert "Preference-Applied" not in early.headers
    hold.release()
    assert_created(first.result())


def test_a_preference_is_not_applied_where_there_is_nothing_to_wait_for(api: Api, key: str) -> None:
    for _ in range(2):
        response = api.create(key, Prefer="wait=2")
        assert response.is_success
        assert "Preference-Applied" not in response.headers


def test_a_waiter_that_becomes_the_first_has_the_usual_time_for_its_locks(
    narrow_server: Server, user: User, key: str, hold: Hold, at_once: ThreadPoolExecutor
) -> None:
    """The wait is a lock time-out, which must not apply to the view that runs after it."""
    with Api(narrow_server, user) as api:
        first = at_once.submit(api.create, key, hold.body)
        (backend,) = hold.running()
        patient = at_once.submit(api.create, key, hold.body, Prefer="wait=3")
        hold.waiting()
        query("SELECT pg_cancel_backend(%s)", backend)
        assert_problem(first.result(), 503, "database_unavailable")
        hold.running()  # now the waiter is, for longer than it was ready to wait
        query("SELECT pg_sleep(3.2)")
        hold.release()
        assert_created(patient.result())


# --- The view fails -----------------------------------------------------------------------------------------

FAILING = {
    "a field is not valid": ({"json": FUND | {"size": -1}}, 400, "validation_error"),
    "the body is not JSON": ({"content": b"{"}, 400, "parse_error"),
    "the body is empty": ({"content": b""}, 400, "validation_error"),
    "the body is no object": ({"json": [1]}, 400, "validation_error"),
    "the type is not JSON": ({"json": FUND, "type": "text/plain"}, 415, "unsupported_media_type"),
    "the type is a form": (
        {"content": b"name=x&size=1", "type": "application/x-www-form-urlencoded"},
        415,
        "unsupported_media_type",
    ),
    "nothing acceptable": ({"json": FUND, "accept": "text/csv"}, 406, "not_acceptable"),
    "the view crashes": ({"json": FUND | {"name": CRASH}}, 500, "server_error"),
    "the database fails": ({"json": FUND | {"name": DEADLOCK}}, 503, "database_unavailable"),
    "COMMIT fails": ({"json": FUND | {"name": FAIL_AT_COMMIT}}, 500, "server_error"),
}


@pytest.mark.parametrize(("request_", "status", "code"), FAILING.values(), ids=FAILING.keys())
def test_a_failure_stores_nothing_and_leaves_the_key_to_any_body(
    api: Api, user: User, key: str, obedience: None, request_: dict[str, Any], status: int, code: str
) -> None:
    content = request_.get("content", json.dumps(request_.get("json")).encode())
    headers = {
        "Idempotency-Key": key,
        "Content-Type": request_.get("type", "application/json"),
        "Accept": request_.get("accept", "*/*"),
    }
    for _ in range(2):
        failed = api.post("/api/funds", content=content, headers=headers)
        assert_problem(failed, status, code)
        assert "Idempotency-Status" not in failed.headers
    assert (funds_of(user), keys_of(user)) == (0, 0)
    first = api.create(key)
    assert_created(first)
    assert_replays(api.create(key), first)
    assert funds_of(user) == 1


def test_a_failed_attempt_does_not_disturb_a_stored_answer(api: Api, key: str) -> None:
    first = api.create(key)
    assert_reused(api.create(key, FUND | {"size": -1}))
    assert_replays(api.create(key), first)


def test_a_user_who_gains_the_permission_can_use_the_key_of_the_refused_try(
    server: Server, make_user: Any, key: str
) -> None:
    user = make_user(may_create=False)
    with Api(server, user) as api:
        assert_problem(api.create(key), 403, "permission_denied")
        assert keys_of(user) == 0
        user.user_permissions.add(Permission.objects.get(codename="add_fund"))
        assert_created(api.create(key, FUND | {"size": 5}))


def test_a_failed_view_names_the_fields(api: Api) -> None:
    problem = assert_problem(api.create(body={"size": "1"}), 400, "validation_error")
    assert errors_of(problem) == {("name", "required"), ("size", "invalid")}


# --- Expiry -------------------------------------------------------------------------------------------------


def test_an_expired_key_is_as_if_never_used_and_lives_again(api: Api, user: User, key: str) -> None:
    old = api.create(key)
    age(user)
    new = api.create(key)
    assert_created(new)
    assert new.json()["id"] != old.json()["id"]
    assert_replays(api.create(key), new)
    assert (funds_of(user), keys_of(user)) == (2, 1)


def test_an_expired_key_takes_any_body(api: Api, user: User, key: str) -> None:
    api.create(key)
    age(user)
    other = FUND | {"name": "Other"}
    new = api.create(key, other)
    assert_created(new)
    assert_replays(api.create(key, other), new)
    assert_reused(api.create(key))


def test_a_key_just_short_of_its_end_still_replays(api: Api, user: User, key: str) -> None:
    first = api.create(key)
    age(user, "23 hours 59 minutes")
    assert_replays(api.create(key), first)


def test_a_replay_does_not_prolong_a_key(api: Api, user: User, key: str) -> None:
    api.create(key)
    before = IdempotencyKey.objects.get(principal=str(user.pk)).expires_at
    api.create(key)
    api.create(key, FUND | {"size": 1})
    assert IdempotencyKey.objects.get(principal=str(user.pk)).expires_at == before


def test_a_key_lives_for_24_hours_by_the_clock_of_the_database(api: Api, user: User, key: str) -> None:
    api.create(key)
    ((life, recent),) = query(
        "SELECT expires_at - created_at = interval '24 hours', now() - created_at < interval '1 minute'"
        " FROM idempotency_store WHERE principal = %s",
        str(user.pk),
    )
    assert (life, recent) == (True, True)


def test_a_renewed_key_forgets_the_conflicts_of_its_former_life(api: Api, user: User, key: str) -> None:
    api.create(key)
    api.create(key, FUND | {"size": 1})
    age(user)
    api.create(key)
    renewed = IdempotencyKey.objects.get(principal=str(user.pk))
    assert (renewed.conflicts, renewed.last_conflict_at) == (0, None)


# --- Other methods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("header", [None, "fine", "not fine", "prod|fund-create|x"])
def test_methods_that_create_nothing_do_not_care_about_keys(
    api: Api, method: str, header: str | None
) -> None:
    response = api.request(method, "/api/funds", headers={"Idempotency-Key": header} if header else {})
    assert response.status_code == 200, response.text
    assert "Idempotency-Status" not in response.headers
    assert "Idempotency-Key" not in response.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_methods_that_are_not_there_say_so_whatever_the_key(api: Api, key: str, method: str) -> None:
    response = api.request(method, "/api/funds", json=FUND, headers={"Idempotency-Key": key})
    assert_problem(response, 405, "method_not_allowed")
    assert {"GET", "POST", "HEAD", "OPTIONS"} == set(response.headers["Allow"].split(", "))
