"""Lists of this project as CSV and JSON, and by time: what is shown and no secret."""

import csv
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fundapi.admin import keys
from fundapi.models import Fund
from idempotency.models import IdempotencyKey
from rollout.admin import export
from rollout.admin.export import Exported
from tests.conftest import FUND, Api
from tests.fundapi.admin.pages import FUNDS, KEYS, rows, stored, text

SIGNINS = [f"/admin/axes/{model}/" for model in ("accesslog", "accessfailurelog", "accessattempt")]
LISTS = [FUNDS, KEYS, *SIGNINS]
# Columns that no file may have: secrets, requests and responses, and from what they could be guessed.
SECRET = {
    *("body", "parts", "headers", "etag", "fingerprint", "digest", "origin", "last_conflict"),
    *("engine_results", "session_hash", "post_data", "get_data", "key", "plaintext", "token_key", "password"),
}


def body(answer: Any) -> str:
    assert answer.status_code == 200, answer
    return b"".join(answer.streaming_content).decode()


def exported(client: Client, path: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body(client.get(f"{path}export.json", query)))
    return found


# --- Export ---------------------------------------------------------------------------------------------------------


def test_funds_are_exported_exactly_as_the_list_is_narrowed(
    support: Client, api: Api, user: User, key: str
) -> None:
    name = f"=Harbor {key}, \"one\"\nand 'two'"
    fund = api.create(body={**FUND, "name": name, "size": 0.1, "managementFee": 0.0175}).json()
    api.create()
    page = support.get(FUNDS, {"q": key, "since": "1h"}).text
    assert f'href="{FUNDS}export.csv?q={key}&amp;since=1h"' in page
    (row,) = exported(support, FUNDS, q=key, since="1h")
    assert (row["id"], row["name"], row["owner"]) == (fund["id"], name, user.username)
    assert (row["size"], row["management_fee"]) == ("0.10", "0.017500")
    (line,) = csv.DictReader(body(support.get(f"{FUNDS}export.csv", {"q": key})).splitlines(keepends=True))
    assert line["name"] == f"'{name}"
    assert (line["id"], line["size"], line["vintage_year"]) == (str(fund["id"]), "0.10", "2025")
    assert exported(support, FUNDS, q=key, until="2001-01-01") == []


def test_keys_are_exported_with_their_story_and_without_their_content(
    support: Client, api: Api, user: User, key: str
) -> None:
    secret = f"Confidential {uuid.uuid4().hex}"
    fund = api.create(key, {**FUND, "name": secret}, **{"X-Request-ID": "first-request-0003"}).json()
    api.create(key, {**FUND, "name": f"{secret} II"}, **{"X-Request-ID": "second-request-04"})
    (row,) = exported(support, KEYS, q=key, life="active")
    assert row["key"] == key
    assert (row["user_id"], row["status"], row["location"]) == (str(user.pk), 201, f"/api/funds/{fund['id']}")
    assert (row["request_id"], row["last_conflict_request_id"]) == ("first-request-0003", "second-request-04")
    assert (row["conflicts"], row["last_conflict_differs"]) == (1, ["name"])
    found = stored(user, key)
    token = api.headers["Authorization"].removeprefix("Bearer ")
    for form in ("csv", "json"):
        file = body(support.get(f"{KEYS}export.{form}", {"q": user.username}))
        assert key in file
        for hidden in (secret, token[:8], found.fingerprint, found.digest, found.fingerprint.hex):
            assert str(hidden) not in file
    assert exported(support, KEYS, q=key, life="expired") == []


def test_no_export_has_a_column_with_a_secret() -> None:
    """A page of this project names its columns one by one: a new column of a table is in no file by itself."""
    for model, page in admin.site._registry.items():
        if isinstance(page, Exported) and model._meta.app_label != "rollout":
            assert page.export_fields, model
            assert not SECRET & {*page.export_fields.values()}, model


@pytest.mark.parametrize("path", LISTS)
def test_an_export_obeys_the_permission_to_view(make_user: Callable[..., User], path: str) -> None:
    client = Client()
    assert client.get(f"{path}export.csv").status_code == 302
    client.force_login(make_user())
    assert client.get(f"{path}export.csv").status_code == 302
    client.force_login(make_user(may_create=False, is_staff=True))
    assert client.get(f"{path}export.csv").status_code == 403
    assert client.get(f"{path}export.json").status_code == 403


@pytest.mark.parametrize("path", LISTS)
def test_an_export_is_bounded_and_streams(
    support: Client, api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        api.create()
    monkeypatch.setattr(export, "ROWS_MAX", 2)
    answer = support.get(f"{path}export.json")
    assert answer.streaming
    assert "no-store" in answer["Cache-Control"]
    assert "attachment" in answer["Content-Disposition"]
    assert len(json.loads(body(answer))) <= 2


def test_a_failed_sign_in_is_exported_without_what_was_typed(support: Client) -> None:
    """People type passwords into the field of the username."""
    typed = f"hunter2-{uuid.uuid4().hex}"
    Client().post("/signin", {"username": typed, "password": "wrong"})
    assert typed in support.get(SIGNINS[1], {"q": typed}).text
    for path in SIGNINS[1:]:
        assert typed not in body(support.get(f"{path}export.csv"))


# --- Time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["since=1h", "since=2026-01-01&until=2026-01-31", "since=&until="])
def test_a_list_filters_by_time(support: Client, path: str, query: str) -> None:
    assert support.get(f"{path}?{query}").status_code == 200
    assert support.get(f"{path}?since=yesterday").status_code == 400


@pytest.mark.parametrize("many", [1, keys.KEYS_MANY])
def test_keys_are_found_by_the_day_of_their_creation(
    support: Client, api: Api, user: User, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """In a table of any length; of very many keys, by the index of expiry."""
    monkeypatch.setattr(keys, "KEYS_MANY", many)
    today, old = uuid.uuid4().hex, uuid.uuid4().hex
    for key in (today, old):
        api.create(key)
    IdempotencyKey.objects.filter(token=old).update(
        created_at=timezone.now() - timedelta(days=3), expires_at=timezone.now() - timedelta(days=2)
    )
    day = (timezone.now() - timedelta(days=3)).date().isoformat()
    for query, expected in (
        ({"since": "24h"}, {today}),
        ({"since": day, "until": day}, {old}),
        ({"until": day}, {old}),
        ({"since": "7d"}, {today, old}),
    ):
        found = rows(support, KEYS, q=user.username, **query)
        assert {key for key in (today, old) if any(key in row for row in found)} == expected


def test_of_very_many_keys_a_period_reads_the_index(
    support: Client, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create()
    monkeypatch.setattr(keys, "KEYS_MANY", 1)
    with CaptureQueriesContext(connection) as captured:
        rows(support, KEYS, since="1h")
    asked = [query["sql"] for query in captured if '"created_at" >=' in query["sql"]]
    assert asked
    assert all('"expires_at" >=' in sql for sql in asked)


# --- Empty lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FUNDS, *SIGNINS])
def test_a_list_without_a_match_says_so_and_offers_no_file(support: Client, path: str) -> None:
    shown = text(support, path, until="2001-01-01")
    assert "Nothing matches the search and the filters." in shown
    assert "Export" not in shown


def test_a_list_that_is_still_empty_says_what_fills_it() -> None:
    assert admin.site.get_model_admin(Fund).nothing.startswith("No fund so far")  # type: ignore[attr-defined]
