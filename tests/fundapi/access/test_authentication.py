"""Authentication (design §2): tokens, sessions, permissions and the throttle, before any look-up of a key."""

import io
import secrets
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken

from tests.answers import assert_problem, funds_of, keys_of
from tests.conftest import FUND, Api, token_of
from tests.obedience import query
from tests.servers import Server, manage, running_server

RATE = 3  # requests a minute on the strict server
MakeUser = Callable[..., User]


@pytest.fixture(scope="module")
def strict_server(database: None) -> Iterator[Server]:
    with running_server(workers=1, FUND_CREATE_RATE=f"{RATE}/minute") as running:
        yield running


@pytest.fixture
def stored(api: Api, key: str) -> httpx.Response:
    """The stored answer of ``user`` under ``key``, which no other user may see."""
    response = api.create(key)
    assert response.status_code == 201
    return response


def post(server: Server, key: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/api/funds", json=FUND, headers={"Idempotency-Key": key} | headers)


def assert_turned_away(response: httpx.Response, status: int, code: str, stored: httpx.Response) -> None:
    assert_problem(response, status, code)
    assert stored.json()["createdAt"] not in response.text
    for name in ("Idempotency-Status", "Location"):
        assert name not in response.headers


# --- Tokens -------------------------------------------------------------------------------------------------


def test_nobody_is_turned_away_with_the_way_to_sign_in(
    server: Server, key: str, stored: httpx.Response
) -> None:
    response = post(server, key)
    assert_turned_away(response, 401, "not_authenticated", stored)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/api/funds", "/api/funds/1"])
def test_nobody_reads_funds(server: Server, path: str) -> None:
    assert_problem(httpx.get(server.url + path), 401, "not_authenticated")


def test_nobody_learns_whether_a_key_is_well_formed(server: Server) -> None:
    assert_problem(post(server, "not a key"), 401, "not_authenticated")


WRONG = {
    "unknown": "Bearer " + "0" * 64,
    "empty": "Bearer",
    "two": "Bearer a b",
    "short": "Bearer x",
    "very long": "Bearer " + "a" * 5000,
    "SQL": "Bearer ';--",
}


@pytest.mark.parametrize("authorization", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_token_is_turned_away(
    server: Server, key: str, stored: httpx.Response, authorization: str
) -> None:
    response = post(server, key, Authorization=authorization)
    assert_turned_away(response, 401, "authentication_failed", stored)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_of_other_than_ascii_is_turned_away(server: Server) -> None:
    """Granian passes such a header on as an empty one."""
    response = httpx.post(f"{server.url}/api/funds", headers={"Authorization": b"Bearer \xff\xe9"})  # type: ignore[arg-type]
    assert_problem(response, 401, "not_authenticated")


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNz", "Token abc", "abc"])
def test_another_scheme_is_no_sign_in(server: Server, key: str, authorization: str) -> None:
    assert_problem(post(server, key, Authorization=authorization), 401, "not_authenticated")


def test_the_scheme_is_read_in_any_case(server: Server, user: User, key: str) -> None:
    assert post(server, key, Authorization=f"bearer {token_of(user)}").status_code == 201


def test_an_expired_token_is_turned_away(
    server: Server, user: User, key: str, stored: httpx.Response
) -> None:
    token = token_of(user)
    assert post(server, key, Authorization=f"Bearer {token}").status_code == 200
    AuthToken.objects.filter(user=user).update(expiry=timezone.now() - timedelta(seconds=1))
    response = post(server, key, Authorization=f"Bearer {token}")
    assert_turned_away(response, 401, "authentication_failed", stored)


def test_a_token_without_end_is_accepted(server: Server, user: User, key: str) -> None:
    _, token = AuthToken.objects.create(user, expiry=None)
    assert post(server, key, Authorization=f"Bearer {token}").status_code == 201


def test_a_revoked_token_is_turned_away(api: Api, user: User, key: str, stored: httpx.Response) -> None:
    AuthToken.objects.filter(user=user).delete()
    assert_turned_away(api.create(key), 401, "authentication_failed", stored)


def test_a_deactivated_user_is_turned_away(api: Api, user: User, key: str, stored: httpx.Response) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert_turned_away(api.create(key), 401, "authentication_failed", stored)
    assert_problem(api.get(stored.headers["Location"]), 401, "authentication_failed")


def test_a_refreshed_token_replays(server: Server, user: User, key: str, stored: httpx.Response) -> None:
    AuthToken.objects.filter(user=user).delete()
    with Api(server, user) as refreshed:
        again = refreshed.create(key)
    assert (again.status_code, again.content) == (200, stored.content)
    assert funds_of(user) == 1


def test_a_renamed_user_replays(api: Api, user: User, key: str, stored: httpx.Response) -> None:
    User.objects.filter(pk=user.pk).update(username=f"renamed-{user.pk}")
    assert api.create(key).content == stored.content


def test_two_users_with_the_same_key_never_meet(
    server: Server, make_user: MakeUser, user: User, key: str, stored: httpx.Response
) -> None:
    other = make_user()
    with Api(server, other) as api:
        theirs = api.create(key, FUND | {"size": 1})
        assert theirs.status_code == 201
        assert theirs.json()["id"] != stored.json()["id"]
        assert api.create(key).status_code == 409
    assert (funds_of(user), funds_of(other)) == (1, 1)


def test_a_token_is_hashed_at_rest(user: User) -> None:
    token = token_of(user)
    ((row,),) = query("SELECT to_json(knox_authtoken)::text FROM knox_authtoken WHERE user_id = %s", user.pk)
    assert token not in row
    assert token[15:] not in row  # knox keeps the first 15 of 64 characters, to recognise a token by


# --- Permission ---------------------------------------------------------------------------------------------


def test_a_user_without_the_permission_learns_whom_to_ask(
    server: Server, make_user: MakeUser, key: str
) -> None:
    user = make_user(may_create=False)
    with Api(server, user) as api:
        problem = assert_problem(api.create(key), 403, "permission_denied")
        assert "administrator" in problem["detail"]
    assert (funds_of(user), keys_of(user)) == (0, 0)


def test_a_user_who_lost_the_permission_sees_no_stored_answer(
    api: Api, user: User, key: str, stored: httpx.Response
) -> None:
    permission = Permission.objects.get(codename="add_fund")
    user.user_permissions.remove(permission)
    assert_turned_away(api.create(key), 403, "permission_denied", stored)
    assert_turned_away(api.create(key, FUND | {"size": 1}), 403, "permission_denied", stored)
    user.user_permissions.add(permission)
    assert api.create(key).content == stored.content


def test_a_group_gives_the_permission_and_takes_it(server: Server, make_user: MakeUser, key: str) -> None:
    user = make_user(may_create=False)
    group = Group.objects.create(name=f"creators-{uuid.uuid4().hex}")
    group.permissions.add(Permission.objects.get(codename="add_fund"))
    user.groups.add(group)
    with Api(server, user) as api:
        assert api.create(key).status_code == 201
        user.groups.remove(group)
        assert_problem(api.create(key), 403, "permission_denied")


def test_a_superuser_may_create(server: Server, make_user: MakeUser) -> None:
    with Api(server, make_user(may_create=False, is_superuser=True)) as api:
        assert api.create().status_code == 201


def test_another_permission_does_not_do(server: Server, make_user: MakeUser) -> None:
    user = make_user(may_create=False, is_staff=True)
    user.user_permissions.add(
        *Permission.objects.filter(codename__in=("change_fund", "view_fund", "delete_fund"))
    )
    with Api(server, user) as api:
        assert_problem(api.create(), 403, "permission_denied")


# --- Sessions -----------------------------------------------------------------------------------------------

SECRET = "c" * 32


@pytest.fixture
def browser(server: Server, user: User) -> Iterator[httpx.Client]:
    """A client with the session cookie of a signed-in user, and the CSRF cookie, but without its header."""
    signed_in = Client()
    signed_in.force_login(user)
    cookies = {"sessionid": signed_in.cookies["sessionid"].value, "csrftoken": SECRET}
    with httpx.Client(base_url=server.url, cookies=cookies) as client:
        yield client


def test_a_session_with_csrf_creates_and_replays(browser: httpx.Client, user: User, key: str) -> None:
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET}
    first = browser.post("/api/funds", json=FUND, headers=headers)
    again = browser.post("/api/funds", json=FUND, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert funds_of(user) == 1


def test_a_page_of_another_user_creates_nothing_and_sees_nothing(
    browser: httpx.Client, user: User, key: str, stored: httpx.Response
) -> None:
    own = {"Signed-In-As": str(user.pk), "X-CSRFToken": SECRET}
    for other in (str(user.pk + 1), "", f"{user.pk}0", "admin"):
        for each in (key, uuid.uuid4().hex):
            headers = own | {"Idempotency-Key": each, "Signed-In-As": other}
            response = browser.post("/api/funds", json=FUND, headers=headers)
            assert_turned_away(response, 403, "signed_in_as_another", stored)
        listed = browser.get("/api/funds", headers={"Signed-In-As": other})
        assert_problem(listed, 403, "signed_in_as_another")
    assert (funds_of(user), keys_of(user)) == (1, 1)
    assert browser.get("/api/funds", headers=own).status_code == 200
    assert browser.post("/api/funds", json=FUND, headers=own | {"Idempotency-Key": key}).status_code == 200


@pytest.mark.parametrize("csrf", [{}, {"X-CSRFToken": "d" * 32}, {"X-CSRFToken": "short"}])
def test_a_session_without_csrf_creates_nothing_and_sees_nothing(
    browser: httpx.Client, user: User, key: str, stored: httpx.Response, csrf: dict[str, str]
) -> None:
    for each in (key, uuid.uuid4().hex):
        response = browser.post("/api/funds", json=FUND, headers={"Idempotency-Key": each} | csrf)
        assert_turned_away(response, 403, "permission_denied", stored)
        assert "send the value of the cookie 'csrftoken' in X-CSRFToken" in response.json()["detail"]
    assert (funds_of(user), keys_of(user)) == (1, 1)


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_form_of_a_session_is_refused_as_what_it_is(
    browser: httpx.Client, user: User, key: str, content_type: str
) -> None:
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET, "Content-Type": content_type}
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    response = browser.post("/api/funds", content=body, headers=headers)
    assert_problem(response, 415, "unsupported_media_type")
    assert keys_of(user) == 0


def test_a_session_reads_without_csrf(browser: httpx.Client, stored: httpx.Response) -> None:
    assert browser.get(stored.headers["Location"]).json() == stored.json()


def test_what_a_session_reads_is_no_other_session_s(browser: httpx.Client) -> None:
    """A shared cache must not give one user's response to another."""
    answer = browser.get("/api/funds")
    assert answer.status_code == 200
    assert "cookie" in answer.headers["Vary"].lower()


def test_no_cache_keeps_a_fund(api: Api, key: str) -> None:
    """Neither a proxy nor the browser of a shared computer: not the list, a fund, a creation, a replay or a refusal."""
    created, replayed = api.create(key), api.create(key)
    assert replayed.headers["Idempotency-Status"] == "replayed"
    read = [api.get(path) for path in ("/api/funds", created.headers["Location"], "/api/funds/0")]
    for answer in (created, replayed, *read):
        assert answer.headers["Cache-Control"] == "no-store", answer.url


def test_a_changed_password_ends_sessions_and_no_tokens(
    browser: httpx.Client, server: Server, user: User, api: Api
) -> None:
    assert browser.get("/api/funds").status_code == 200
    user.password = "!another"
    user.save()
    assert browser.get("/api/funds").status_code == 401
    assert api.get("/api/funds").status_code == 200


def test_session_and_token_of_one_user_share_their_keys(
    browser: httpx.Client, user: User, key: str, stored: httpx.Response
) -> None:
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET}
    assert browser.post("/api/funds", json=FUND, headers=headers).content == stored.content
    assert funds_of(user) == 1


def test_a_session_of_a_deactivated_user_is_nobody(browser: httpx.Client, user: User, key: str) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET}
    assert_problem(browser.post("/api/funds", json=FUND, headers=headers), 401, "not_authenticated")


def test_a_session_that_has_lost_the_permission_is_refused(
    browser: httpx.Client, user: User, key: str, stored: httpx.Response
) -> None:
    user.user_permissions.clear()
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET}
    response = browser.post("/api/funds", json=FUND, headers=headers)
    assert_turned_away(response, 403, "permission_denied", stored)


def test_a_wrong_token_is_not_made_good_by_a_session(browser: httpx.Client, key: str) -> None:
    headers = {"Idempotency-Key": key, "X-CSRFToken": SECRET, "Authorization": "Bearer wrong"}
    assert_problem(browser.post("/api/funds", json=FUND, headers=headers), 401, "authentication_failed")


# --- Throttle -----------------------------------------------------------------------------------------------


@pytest.fixture
def new_caller(make_user: MakeUser) -> Callable[[], User]:
    """Users whose ids no other test worker has: databases are the workers' own, the counters in Valkey are not."""
    return lambda: make_user(id=10**6 + secrets.randbelow(2**30))


@pytest.fixture
def caller(new_caller: Callable[[], User]) -> User:
    return new_caller()


def test_past_the_rate_the_429_says_when_to_come_back(strict_server: Server, caller: User, key: str) -> None:
    with Api(strict_server, caller) as api:
        assert [api.create().status_code for _ in range(RATE)] == [201] * RATE
        refused = api.create(key)
        assert_problem(refused, 429, "throttled")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "Idempotency-Status" not in refused.headers
    assert (funds_of(caller), keys_of(caller)) == (RATE, RATE)


def test_replays_and_conflicts_count_and_are_refused_like_everything(
    strict_server: Server, server: Server, caller: User, key: str
) -> None:
    with Api(strict_server, caller) as api:
        first = api.create(key)
        assert api.create(key).status_code == 200
        assert api.create(key, FUND | {"size": 1}).status_code == 409
        assert_turned_away(api.create(key), 429, "throttled", first)
    with Api(server, caller) as api:  # whose rate is generous: nothing of the refusal is remembered
        assert api.create(key).content == first.content
    assert funds_of(caller) == 1


def test_the_rate_is_per_user_not_per_token(strict_server: Server, new_caller: Callable[[], User]) -> None:
    busy, calm = new_caller(), new_caller()
    for _ in range(RATE):
        with Api(strict_server, busy) as api:
            assert api.create().status_code == 201
    with Api(strict_server, busy) as api:
        assert_problem(api.create(), 429, "throttled")
    with Api(strict_server, calm) as api:
        assert api.create().status_code == 201


def test_reading_is_not_throttled(strict_server: Server, caller: User) -> None:
    with Api(strict_server, caller) as api:
        assert {api.get("/api/funds").status_code for _ in range(RATE * 3)} == {200}
        assert api.create().status_code == 201


def test_refused_requests_do_not_prolong_the_refusal(strict_server: Server, caller: User) -> None:
    with Api(strict_server, caller) as api:
        for _ in range(RATE):
            api.create()
        waits = [int(api.create().headers["Retry-After"]) for _ in range(5)]
    assert waits == sorted(waits, reverse=True)


# --- create_token -------------------------------------------------------------------------------------------


def created_token(*arguments: str) -> str:
    out = io.StringIO()
    call_command("create_token", *arguments, stdout=out)
    return out.getvalue()


def test_create_token_prints_the_token_alone(server: Server) -> None:
    username = f"made-{uuid.uuid4().hex[:8]}"
    run = manage("create_token", username, "--create")
    assert run.returncode == 0, run.stderr
    assert run.stdout == run.stdout.strip() + "\n"
    assert len(run.stdout.split()) == 1
    headers = {"Authorization": f"Bearer {run.stdout.strip()}", "Idempotency-Key": "first"}
    assert httpx.post(f"{server.url}/api/funds", json=FUND, headers=headers).status_code == 201


def test_create_token_for_an_unknown_user_makes_nobody(database: None) -> None:
    with pytest.raises(CommandError, match=r"no user 'nobody-here'.*--create"):
        created_token("nobody-here")
    assert not User.objects.filter(username="nobody-here").exists()


@pytest.mark.parametrize("username", ["", " ", "two words", "x" * 151, "a\nb"])
def test_create_token_makes_nobody_who_cannot_have_that_name(database: None, username: str) -> None:
    before = User.objects.count()
    with pytest.raises(CommandError, match="No user can be named"):
        created_token(username, "--create")
    assert User.objects.count() == before


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999999999999999"])
def test_a_token_lives_for_a_day_to_a_hundred_years(database: None, days: str) -> None:
    username = f"made-{uuid.uuid4().hex[:8]}"
    with pytest.raises(CommandError, match=rf"--days is {days}: it must be from 1 to 36,500"):
        created_token(username, "--create", f"--days={days}")
    assert not User.objects.filter(username=username).exists()


def test_create_token_with_create_makes_a_user_once(database: None) -> None:
    username = f"made-{uuid.uuid4().hex[:8]}"
    first, second = created_token(username, "--create"), created_token(username, "--create")
    assert first != second
    user = User.objects.get(username=username)
    assert user.has_perm("fundapi.add_fund")
    assert not user.has_usable_password()
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert AuthToken.objects.filter(user=user).count() == 2


def test_create_token_for_a_user_changes_nothing_about_them(server: Server, make_user: MakeUser) -> None:
    user = make_user(may_create=False)
    token = created_token(user.username, "--create").strip()
    assert_problem(post(server, "k", Authorization=f"Bearer {token}"), 403, "permission_denied")


def test_create_token_takes_a_lifetime(user: User) -> None:
    created_token(user.username, "--days", "7")
    left = AuthToken.objects.get(user=user).expiry - timezone.now()
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    with pytest.raises(CommandError, match="from 1 to 36,500"):
        created_token(user.username, "--days", "0")
