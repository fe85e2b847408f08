"""The admin answers a support engineer, shows a token once, and lets nobody change what they may only see."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags
from knox.models import AuthToken

from fundapi.admin.funds import money
from fundapi.models import Fund
from fundapi.site import environment_badge
from idempotency import keys
from idempotency.models import IdempotencyKey
from tests.conftest import FUND, Api, token_of

KEYS = "/admin/idempotency/idempotencykey/"
FUNDS = "/admin/fundapi/fund/"
TOKENS = "/admin/knox/authtoken/"


@pytest.fixture
def administrator(make_user: Callable[..., User]) -> User:
    return make_user(may_create=False, is_staff=True, is_superuser=True)


@pytest.fixture
def support(administrator: User) -> Client:
    """A browser of somebody who may do everything."""
    client = Client()
    client.force_login(administrator)
    return client


def text(client: Client, path: str, **query: str) -> str:
    """What a person reads on a page, without the tags."""
    answer = client.get(path, query)
    assert answer.status_code == 200, answer
    return re.sub(r"\s+", " ", strip_tags(answer.text))


def rows(client: Client, path: str, **query: str) -> list[str]:
    """The rows of a list page."""
    answer = client.get(path, query)
    assert answer.status_code == 200, answer
    found = re.findall(r'<tr class="data-row.*?</tr>', answer.text, re.DOTALL)
    return [re.sub(r"\s+", " ", strip_tags(row)).strip() for row in found]


def stored(user: User, token: str) -> IdempotencyKey:
    return IdempotencyKey.objects.get(principal=str(user.pk), token=token)


def page_of(key: IdempotencyKey) -> str:
    return f"{KEYS}{key.pk}/change/"


def expire(key: IdempotencyKey) -> None:
    now = timezone.now()
    IdempotencyKey.objects.filter(pk=key.pk).update(
        created_at=now - timedelta(days=2), expires_at=now - timedelta(days=1)
    )


@contextmanager
def being_processed(user: User, token: str) -> Iterator[None]:
    """Hold the lock of a key, as a request that is running does."""
    digest = keys.digest(environment="test", operation="fund-create", principal=str(user.pk), token=token)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [keys.lock_id(digest)])
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s)", [keys.lock_id(digest)])


# --- Finding a key --------------------------------------------------------------------------------------------


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


# --- At any size ----------------------------------------------------------------------------------------------


def queries(client: Client, path: str, **query: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path, query).status_code == 200
    return len(captured)


@pytest.mark.parametrize("path", [KEYS, FUNDS, TOKENS])
def test_a_longer_list_takes_no_more_queries(
    support: Client, make_user: Callable[..., User], path: str, server: object
) -> None:
    def owner(rows: int) -> str:
        user = make_user()
        for _ in range(rows):
            token_of(user)
            fund = Fund.objects.create(
                owner=user, name="x", size=1, management_fee=0, carry_percentage=0, vintage_year=2025
            )
            IdempotencyKey.objects.create(
                digest=uuid.uuid4(), environment="test", operation="fund-create", principal=str(user.pk),
                token=uuid.uuid4().hex, fingerprint=uuid.uuid4(), status=201, content_type="application/json",
                location=f"/api/funds/{fund.pk}", body=b"{}", expires_at=timezone.now() + timedelta(days=1),
            )  # fmt: skip
        return user.username

    few, many = owner(2), owner(20)
    support.get(path)  # content types and permissions are cached from here on
    assert len(rows(support, path, q=many)) == 20
    assert queries(support, path, q=few) == queries(support, path, q=many) <= 12


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
    assert all("LIMIT 10000" in sql for sql in asked if "COUNT(" in sql)


# --- Funds ----------------------------------------------------------------------------------------------------


def test_a_fund_shows_money_and_ratios_as_people_write_them(
    support: Client, api: Api, user: User, key: str
) -> None:
    fund = api.create(key, {**FUND, "name": f"Harbor {key}", "managementFee": 0.0175}).json()
    (row,) = rows(support, FUNDS, q=f"harbor {key}")
    assert "$250,000,000.00" in row
    assert "1.75 %" in row
    assert "20 %" in row
    page = support.get(f"{FUNDS}{fund['id']}/change/").text
    assert f'href="{page_of(stored(user, key))}"' in page


def test_amounts_are_dollars_with_cents() -> None:
    assert money(Decimal("1234.5")) == "$1,234.50"


def test_a_fund_is_found_by_number_owner_and_name(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(body={**FUND, "name": f"Harbor {key}"}).json()
    for term in (str(fund["id"]), f"/api/funds/{fund['id']}", user.username, key.upper()):
        (row,) = rows(support, FUNDS, q=term)
        assert key in row


def test_nobody_changes_funds_or_keys_by_hand(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key).json()
    for page in (f"{FUNDS}{fund['id']}/", page_of(stored(user, key)).removesuffix("change/")):
        assert support.post(f"{page}change/", {"name": "other"}).status_code == 403
        assert support.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    assert support.get(f"{FUNDS}add/").status_code == 403
    assert Fund.objects.get(pk=fund["id"]).name == FUND["name"]


# --- Bearer tokens --------------------------------------------------------------------------------------------


def make_token(client: Client, user: User, days: int = 30) -> str:
    """Make a token as the form does; return what the page shows."""
    answer = client.post(f"{TOKENS}add/", {"user": user.pk, "days": days})
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    (shown,) = re.findall(r'id="token"[^>]*>([^<]+)<', answer.text)
    return str(shown)


def test_a_made_token_works_until_it_is_revoked(support: Client, api: Api, user: User) -> None:
    bearer = {"Authorization": f"Bearer {make_token(support, user, days=30)}"}
    assert api.create(**bearer).status_code == 201
    token = AuthToken.objects.filter(user=user).latest("created")
    assert token.expiry - token.created == pytest.approx(timedelta(days=30), abs=timedelta(seconds=5))
    revoked = support.post(f"{TOKENS}{token.digest[:32]}/change/", follow=True)
    assert "is revoked" in revoked.text
    assert api.create(**bearer).status_code == 401


def test_a_token_is_shown_once_and_is_in_no_cookie_message_log_or_history(
    support: Client, user: User, caplog: pytest.LogCaptureFixture, written: list[str]
) -> None:
    with caplog.at_level("DEBUG"):
        token = make_token(support, user)
    digest = AuthToken.objects.get(user=user).digest
    later = [
        support.get("/admin/").text,
        support.get(TOKENS, {"q": user.username}).text,
        support.get(f"{TOKENS}{digest[:32]}/change/").text,
        support.get("/admin/").text,
    ]
    assert any('"path":"/admin/"' in line for line in written)
    entry = LogEntry.objects.latest("pk")
    assert token[:8] in entry.object_repr
    history = f"{entry.object_id} {entry.object_repr} {entry.change_message}"
    cookies = support.cookies.output() + json.dumps(dict(support.session.items()))
    for secret in (token, token[:15], digest):
        assert not any(secret in page for page in later)
        assert secret not in history
        assert secret not in cookies
        assert secret not in caplog.text + str(written)


def test_the_list_says_which_tokens_still_work(support: Client, user: User) -> None:
    AuthToken.objects.create(user, expiry=timedelta(days=1))
    (row,) = rows(support, TOKENS, q=user.username)
    assert "active" in row
    AuthToken.objects.filter(user=user).update(expiry=timezone.now() - timedelta(seconds=1))
    (row,) = rows(support, TOKENS, q=user.username)
    assert "expired" in row
    AuthToken.objects.filter(user=user).update(expiry=None)
    User.objects.filter(pk=user.pk).update(is_active=False)
    (row,) = rows(support, TOKENS, q=user.username)
    assert "user inactive" in row


@pytest.mark.parametrize("days", ["0", "-1", "3651", "", "soon"])
def test_a_token_needs_a_sensible_end(support: Client, user: User, days: str) -> None:
    answer = support.post(f"{TOKENS}add/", {"user": user.pk, "days": days})
    assert 'id="token"' not in answer.text
    assert not AuthToken.objects.filter(user=user).exists()


def test_part_of_a_reference_revokes_nothing(support: Client, user: User) -> None:
    token_of(user)
    digest = AuthToken.objects.get(user=user).digest
    for reference in (digest[:1], digest[:31], digest):
        assert support.post(f"{TOKENS}{reference}/change/").status_code == 404
    assert AuthToken.objects.filter(user=user).exists()


# --- Who may what -----------------------------------------------------------------------------------------------

VIEWS = ["view_fund", "view_idempotencykey", "view_authtoken", "view_user", "view_group"]


@pytest.fixture
def viewer(make_user: Callable[..., User]) -> Client:
    """A browser of staff who may look and nothing else."""
    user = make_user(may_create=False, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=VIEWS))
    client = Client()
    client.force_login(user)
    return client


def test_staff_who_may_view_see_and_cannot_change(viewer: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key).json()
    token = AuthToken.objects.get(user=user)
    pages = {
        f"{FUNDS}{fund['id']}/change/": 200,
        page_of(stored(user, key)): 200,
        f"/admin/auth/user/{user.pk}/change/": 200,
        f"{TOKENS}{token.digest[:32]}/change/": 200,
        f"{TOKENS}add/": 403,
        "/admin/auth/user/add/": 403,
        f"/admin/auth/user/{user.pk}/delete/": 403,
        f"/admin/auth/user/{user.pk}/password/": 403,
    }
    for page, status in pages.items():
        assert viewer.get(page).status_code == status, page
        assert viewer.post(page, {"user": user.pk, "days": 1, "username": "x"}).status_code == 403, page
    for listed in (FUNDS, KEYS, TOKENS, "/admin/auth/user/", "/admin/auth/group/"):
        assert viewer.get(listed).status_code == 200
    assert "Revoke" not in viewer.get(f"{TOKENS}{token.digest[:32]}/change/").text
    assert AuthToken.objects.get(user=user) == token
    assert User.objects.get(pk=user.pk).username == user.username


@pytest.mark.parametrize("role", ["Viewer", "Operator"])
def test_who_is_no_administrator_gives_nobody_anything(make_user: Callable[..., User], role: str) -> None:
    """Not even themselves: neither rights, nor a password, nor a token."""
    person = make_user(may_create=False, is_staff=True)
    group = Group.objects.get(name=role)
    person.groups.add(group)
    client = Client()
    client.force_login(person)
    mine = f"/admin/auth/user/{person.pk}"
    for page in (
        *(f"{mine}/change/", f"{mine}/password/", "/admin/auth/user/add/"),
        *(f"/admin/auth/group/{group.pk}/change/", "/admin/auth/group/add/"),
        *(TOKENS, f"{TOKENS}add/", "/admin/otp_totp/totpdevice/", "/admin/axes/accessfailurelog/"),
    ):
        assert client.get(page).status_code == 403, page
        form = {"username": person.username, "is_superuser": "on", "user": person.pk, "days": 1}
        assert client.post(page, form).status_code == 403, page
    person.refresh_from_db()
    assert not person.is_superuser
    assert not AuthToken.objects.filter(user=person).exists()


def test_staff_without_permissions_are_shown_nothing(make_user: Callable[..., User]) -> None:
    client = Client()
    client.force_login(make_user(may_create=False, is_staff=True))
    index = client.get("/admin/").text
    for listed in (FUNDS, KEYS, TOKENS, "/admin/auth/user/", "/admin/auth/group/"):
        assert client.get(listed).status_code == 403
        assert f'href="{listed}"' not in index


def test_users_of_the_api_do_not_get_in(user: User) -> None:
    client = Client()
    client.force_login(user)
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    ("environment", "color"),
    [("prod", "danger"), ("Production", "danger"), ("prod-eu", "danger"), ("live", "danger"),
     ("staging", "warning"), ("dev", "info"), ("test", "info")],
)  # fmt: skip
def test_production_is_visibly_red(support: Client, environment: str, color: str) -> None:
    with override_settings(ENVIRONMENT=environment):
        assert environment_badge(None) == (environment, color)  # type: ignore[arg-type]
        assert f">\n\n{environment}\n" in support.get("/admin/").text
        assert environment in Client().get("/admin/login/").text
