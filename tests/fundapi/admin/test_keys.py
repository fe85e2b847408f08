"""Idempotency keys in the admin: found in any form, explained, read by index alone."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from idempotency import admin, idempotent
from idempotency.admin import readable
from idempotency.marks import marks
from idempotency.models import IdempotencyKey
from tests.conftest import FUND, Api
from tests.eventually import eventually
from tests.fundapi.admin.pages import FUNDS, KEYS, page_of, rows, stored, text
from tests.fundapi.keys import being_processed


def expire(key: IdempotencyKey) -> None:
    now = timezone.now()
    IdempotencyKey.objects.filter(pk=key.pk).update(
        created_at=now - timedelta(days=2), expires_at=now - timedelta(days=1)
    )


def test_a_key_is_found_in_every_form_a_client_may_have_sent(support: Client, api: Api, key: str) -> None:
    api.create(key)
    for form in (key, f'"{key}"', f"test|fund-create|{key}", f"Idempotency-Key: {key}", f"  {key} "):
        (row,) = rows(support, KEYS, q=form)
        assert key in row


def test_a_key_of_another_environment_is_not_taken_for_ours(support: Client, api: Api, key: str) -> None:
    api.create(key)
    assert rows(support, KEYS, q=f"prod|fund-create|{key}") == []
    page = text(support, KEYS, q=f"prod|fund-create|{key}")
    assert "400 idempotency_key_environment_mismatch" in page


def test_the_keys_of_a_user_are_found_by_name(support: Client, api: Api, user: User) -> None:
    mine = {uuid.uuid4().hex for _ in range(3)}
    for key in mine:
        api.create(key)
    found = rows(support, KEYS, q=user.username.upper())
    assert len(found) == 3
    assert all(any(key in row for row in found) for key in mine)


def test_the_key_of_a_fund_is_found_by_its_number_address_and_name(
    support: Client, api: Api, key: str
) -> None:
    name = f"Harbor {uuid.uuid4().hex}"
    fund = api.create(key, {**FUND, "name": name}).json()
    api.create()
    for term in (f"/api/funds/{fund['id']}", f"#{fund['id']}", str(fund["id"]), name):
        (row,) = rows(support, KEYS, q=term)
        assert key in row


def test_the_key_of_a_fund_is_found_among_very_many_of_its_owner(
    support: Client, api: Api, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundapi.admin.funds.COUNT_MAX", 1)  # "very many" in this test
    fund = api.create(key).json()
    (row,) = rows(support, KEYS, q=f"/api/funds/{fund['id']}")
    assert key in row


def test_the_list_filters_by_life_and_by_conflicts(support: Client, api: Api, user: User) -> None:
    fresh, old, reused = (uuid.uuid4().hex for _ in range(3))
    for key in (fresh, old, reused):
        api.create(key)
    api.create(reused, {**FUND, "size": 1})
    expire(stored(user, old))
    for life, expected in {"active": {fresh, reused}, "expired": {old}, "conflicts": {reused}}.items():
        found = rows(support, KEYS, q=user.username, life=life)
        assert {key for key in (fresh, old, reused) if any(key in row for row in found)} == expected


def test_finding_a_key_reads_indexes_and_never_the_whole_table(
    support: Client, api: Api, user: User, key: str
) -> None:
    api.create(key)
    with CaptureQueriesContext(connection) as captured:
        rows(support, KEYS)
        rows(support, KEYS, q=key)
        rows(support, KEYS, q=user.username)
        rows(support, KEYS, life="conflicts")
        rows(support, KEYS, life="expired")
    asked = [query["sql"] for query in captured if 'FROM "idempotency_store"' in query["sql"]]
    assert asked
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            for sql in asked:
                cursor.execute(f"EXPLAIN {sql}")
                assert "Seq Scan on idempotency_store" not in "\n".join(
                    line for (line,) in cursor.fetchall()
                ), sql
        finally:
            cursor.execute("RESET enable_seqscan")
    assert all("LIMIT 10001" in sql for sql in asked if "COUNT(" in sql)


def test_a_count_that_ends_at_its_limit_says_so(
    support: Client, api: Api, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        api.create()
    monkeypatch.setattr(admin, "COUNT_MAX", 3)
    assert "more than" not in text(support, KEYS, q=user.username)
    monkeypatch.setattr(admin, "COUNT_MAX", 2)
    assert "more than 2 idempotency keys" in text(support, KEYS, q=user.username)


# --- Reading a key --------------------------------------------------------------------------------------------


def test_a_key_says_who_when_and_what_and_leads_on(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key).json()
    page = support.get(page_of(stored(user, key))).text
    assert f'href="/admin/auth/user/{user.pk}/change/"' in page
    assert f'href="/admin/fundapi/fund/{fund["id"]}/change/"' in page
    read = re.sub(r"\s+", " ", strip_tags(page))
    assert "The first request succeeded with 201" in read
    assert "For another 23 hours" in read.replace("\xa0", " ")
    assert f"&quot;id&quot;: {fund['id']}" in read
    assert "No request with other content has come with this key" in read


def test_a_reused_key_says_why_the_client_got_a_409(support: Client, api: Api, user: User, key: str) -> None:
    api.create(key)
    for size in (1, 2, 3):
        assert api.create(key, {**FUND, "size": size}).status_code == 409
    read = text(support, page_of(stored(user, key)))
    assert "A request with this key but other content came 3 times, last 0 s ago" in re.sub(
        r"last \d s", "last 0 s", read
    )
    assert "409 idempotency_key_reused" in read
    assert "use a new key" in read


def test_a_key_counts_its_replays(support: Client, api: Api, user: User, key: str) -> None:
    for _ in range(3):
        api.create(key)
    found = stored(user, key)
    assert "No retry has come so far." in text(support, page_of(found))
    eventually(lambda: stored(user, key).replays == 2)
    assert "2 retries have got the stored answer, the last one" in text(support, page_of(found))
    assert " 2 " in rows(support, KEYS, q=key)[0]


def test_a_key_leads_to_the_log_line_and_the_token_of_its_requests(
    support: Client, api: Api, user: User, key: str, settings: Any
) -> None:
    api.create(key, **{"X-Request-ID": "first-request-0001"})
    api.create(key, FUND | {"name": "Other", "size": 1}, **{"X-Request-ID": "second-request-02"})
    settings.LOG_SEARCH_URL = "https://logs.example/search?q={request_id}&days=7"
    found = stored(user, key)
    page = support.get(page_of(found)).text
    assert 'href="https://logs.example/search?q=first-request-0001&amp;days=7"' in page
    assert 'href="https://logs.example/search?q=second-request-02&amp;days=7"' in page
    token = api.headers["Authorization"].removeprefix("Bearer ")[:8]
    assert f'href="/admin/knox/authtoken/?q={token}"' in page
    assert api.headers["Authorization"].removeprefix("Bearer ") not in page
    assert found.origin == {"request_id": "first-request-0001", "token": token}


def test_a_refused_request_shows_the_names_of_the_fields_that_differed(
    support: Client, api: Api, user: User, key: str
) -> None:
    api.create(key)
    api.create(key, FUND | {"name": "Confidential Partners", "size": 99_887_766})
    page = text(support, page_of(stored(user, key)))
    assert "differed name, size" in re.sub(r"[^\w,]+", " ", page)
    assert "Confidential" not in page
    assert "99887766" not in page


def test_the_list_of_keys_leads_to_their_funds(support: Client, api: Api, key: str) -> None:
    fund = api.create(key).json()["id"]
    assert (
        f'href="/admin/fundapi/fund/{fund}/change/">Fund\u00a0{fund}</a>'
        in support.get(KEYS, {"q": key}).text
    )


def test_an_expired_key_says_so(support: Client, api: Api, user: User, key: str) -> None:
    api.create(key)
    expire(stored(user, key))
    read = text(support, page_of(stored(user, key))).replace("\xa0", " ")
    assert "This key expired 1 day ago and counts as never used" in read


def test_an_expired_key_that_is_used_again_says_so(support: Client, api: Api, user: User, key: str) -> None:
    api.create(key)
    expire(stored(user, key))
    with being_processed(user, key):
        assert "A new request with it is running since" in text(support, page_of(stored(user, key)))


def test_a_key_that_is_being_processed_says_who_and_since_when(support: Client, user: User, key: str) -> None:
    with being_processed(user, key):
        for form in (key, f"test|fund-create|{key}"):
            read = text(support, KEYS, q=form)
            assert "is being processed right now" in read
            assert re.search(
                rf"{user.username} \(id {user.pk}\) has a request with this key running since \d\d:", read
            )
            assert "409 idempotency_request_in_progress" in read
    assert "is being processed right now" not in text(support, KEYS, q=key)


def test_a_key_that_nobody_used_explains_what_may_have_happened(support: Client, key: str) -> None:
    read = text(support, KEYS, q=key)
    assert f"No stored key matches “{key}”" in read
    assert "no request with this key has succeeded in the last 24 hours" in read
    assert "of a failure nothing is kept" in read


def test_a_view_whose_keys_live_shorter_is_not_said_to_remember_longer(support: Client, key: str) -> None:
    mark = idempotent(operation="short-lived", ttl=timedelta(minutes=30))
    guarded = mark(lambda _request: HttpResponse())
    try:
        assert "has succeeded in the last 0.5 hours" in text(support, KEYS, q=key)
        assert "has succeeded in the last 24 hours" in text(support, KEYS, q=f"test|fund-create|{key}")
    finally:
        marks.discard(guarded.idempotent)  # type: ignore[attr-defined]  # a function may have attributes


def test_something_that_is_no_key_says_what_a_client_gets_for_it(support: Client) -> None:
    assert "400 idempotency_key_invalid" in text(support, KEYS, q="one|two")


def test_the_key_of_an_old_fund_is_said_to_be_gone(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key).json()
    stored(user, key).delete()
    read = text(support, KEYS, q=f"/api/funds/{fund['id']}")
    assert f"Fund {fund['id']}, {FUND['name']}, was created" in read
    assert "has expired and been deleted" in read
    assert "Expired and deleted" in text(support, f"{FUNDS}{fund['id']}/change/")


def test_a_filter_that_hides_the_key_is_named(support: Client, api: Api, key: str) -> None:
    api.create(key)
    assert "within the filter" in text(support, KEYS, q=key, life="expired")


def test_a_stored_answer_is_shown_as_text_and_never_run(
    support: Client, api: Api, user: User, key: str
) -> None:
    fund = api.create(key, {**FUND, "name": "<script>alert(1)</script>"}).json()
    for path in (page_of(stored(user, key)), f"{FUNDS}{fund['id']}/change/", f"{FUNDS}?q={fund['id']}"):
        page = support.get(path).text
        assert "<script>alert(1)" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_a_stored_answer_is_indented_and_its_numbers_are_as_stored() -> None:
    stored = (
        '{"a":0.10000000000000001,"b":1E+1000,"c":[-0.0,12345678901234567890,"1","\\u0001 \\"é\\""],"d":{}}'
    )
    shown = readable(stored)
    assert shown.splitlines()[1:4] == ['  "a": 0.10000000000000001,', '  "b": 1E+1000,', '  "c": [']
    assert shown.replace("\n", "").replace(" ", "") == stored.replace(" ", "")
    assert readable("<p>not JSON") == "<p>not JSON"


def test_a_long_stored_answer_is_cut() -> None:
    """Indented to its depth, 20 KB of brackets are 1 MB at most."""
    shown = readable('{"a":"' + "x" * 260_000 + '"}')
    assert shown.endswith("x… (240,008 more characters)")
    deep = "[" * 60 + ",".join("1" * 9_900) + "]" * 60
    assert len(readable(deep)) < 1_300_000
