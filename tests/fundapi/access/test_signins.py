"""Sign-ins, lock-outs after failed ones, and their records."""

import runpy
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any, ClassVar
from unittest.mock import patch

import httpx
import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth.hashers import MD5PasswordHasher, make_password
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db.models.functions import Now
from django.test import Client, RequestFactory
from django.utils import timezone
from knox.models import AuthToken
from prometheus_client import REGISTRY

from fundapi.access import signins
from fundapi.access.signins import client_address, purge
from fundapi.tasks import purge_signins
from rollout import store
from tests.clock import travelled
from tests.fundapi.conftest import PASSWORD
from tests.obedience import undeletable
from tests.servers import PROJECT, Server, running_server

pytestmark = pytest.mark.usefixtures("quick_passwords")
LIMIT = 5  # failures of a name from an address


def attempt(username: str, password: str, address: str, path: str = "/admin/login/") -> httpx.Response:
    return Client(REMOTE_ADDR=address).post(path, {"username": username, "password": password})  # type: ignore[return-value]


def text(answer: Any) -> str:
    return str(answer.content.decode())


@pytest.mark.parametrize("path", ["/admin/login/", "/signin"])
def test_the_right_password_does_not_help_after_too_many_wrong_ones(
    staff: User, address: str, path: str
) -> None:
    for _ in range(LIMIT - 1):
        assert attempt(staff.username, "wrong", address, path).status_code == 200
    assert attempt(staff.username, "wrong", address, path).status_code == 429
    locked = attempt(staff.username, PASSWORD, address, path)
    assert locked.status_code == 429
    assert 0 < int(locked.headers["Retry-After"]) <= 900
    assert "Please try again in 15 minutes" in text(locked)
    assert attempt(staff.username, PASSWORD, "198.51.100.7", path).status_code == 302  # the person, elsewhere


def test_a_lock_out_ends_when_the_page_said_and_attempts_do_not_prolong_it(staff: User, address: str) -> None:
    for _ in range(LIMIT):
        attempt(staff.username, "wrong", address)
    AccessAttempt.objects.filter(ip_address=address).update(
        attempt_time=timezone.now() - timedelta(minutes=10)
    )
    said = int(attempt(staff.username, "wrong", address).headers["Retry-After"])
    assert 240 < said <= 300
    AccessAttempt.objects.filter(ip_address=address).update(
        attempt_time=timezone.now() - timedelta(minutes=15)
    )
    assert attempt(staff.username, PASSWORD, address).status_code == 302


@pytest.mark.parametrize("ahead", ["-1 hour", "1 hour"])
def test_a_lock_out_goes_by_the_clock_of_the_database(staff: User, address: str, ahead: str) -> None:
    """A host whose clock is wrong neither forgets failures that others count, nor locks anybody out for longer."""
    with travelled(ahead):
        for _ in range(LIMIT):
            attempt(staff.username, "wrong", address)
        locked = attempt(staff.username, PASSWORD, address)
        assert locked.status_code == 429
        assert 800 < int(locked.headers["Retry-After"]) <= 900
        latest = Now() - timedelta(minutes=1)
        assert AccessAttempt.objects.filter(ip_address=address, attempt_time__gte=latest).exists()


def test_a_lock_out_does_not_tell_whether_there_is_such_a_user(staff: User, address: str) -> None:
    def story(username: str) -> list[tuple[int, bool]]:
        answers = [attempt(username, "wrong", address) for _ in range(LIMIT + 1)]
        return [(answer.status_code, "correct username and password" in text(answer)) for answer in answers]

    assert story(staff.username) == story("nobody-of-this-name")


def test_a_limit_of_0_locks_nobody_out_and_leaves_that_of_an_address(
    staff: User, address: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNIN_FAILURES_MAX", "0")
    asked = runpy.run_path(str(PROJECT / "fundapi" / "settings.py"))
    settings.AXES_FAILURE_LIMIT = asked["AXES_FAILURE_LIMIT"]
    for _ in range(LIMIT + 1):
        assert attempt(staff.username, "wrong", address).status_code == 200
    assert attempt(staff.username, PASSWORD, address).status_code == 302
    AccessAttempt.objects.create(username="sprayed", ip_address=address, failures_since_start=50)
    assert attempt(staff.username, PASSWORD, address).status_code == 429


def test_all_addresses_of_an_ipv6_line_count_as_one(staff: User, address: str) -> None:
    for number in range(1, LIMIT):
        assert attempt(staff.username, "wrong", f"{address}{number}").status_code == 200
    assert attempt(staff.username, "wrong", f"{address[:-1]}a:b:c:d").status_code == 429
    assert attempt(staff.username, PASSWORD, f"{address}9").status_code == 429
    client = Client()
    client.force_login(staff)
    assert "locked out" in text(client.get(f"/admin/axes/accessattempt/?q={address}9"))


def test_success_begins_anew(staff: User, address: str) -> None:
    for _ in range(LIMIT - 1):
        attempt(staff.username, "wrong", address)
    assert attempt(staff.username, PASSWORD, address).status_code == 302
    assert attempt(staff.username, "wrong", address).status_code == 200


def test_many_names_from_one_address_are_locked_out_too(staff: User, address: str) -> None:
    AccessAttempt.objects.create(username="sprayed", ip_address=address, failures_since_start=49)
    assert attempt("another", "wrong", address).status_code == 429
    assert attempt(staff.username, PASSWORD, address).status_code == 429
    assert int(attempt(staff.username, PASSWORD, address).headers["Retry-After"]) <= 900


@pytest.mark.parametrize(
    ("proxies", "header", "found"),
    [
        (0, "203.0.113.9", "198.51.100.1"),  # nobody's word is taken
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "192.0.2.1, 203.0.113.9", "203.0.113.9"),  # what the client itself had sent stands before
        (2, "192.0.2.1, 203.0.113.9", "192.0.2.1"),
        (1, "unknown", "198.51.100.1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "2001:db8::1:2", "2001:db8::1:2"),
        (1, "203.0.113.9:4711", "203.0.113.9"),
        (1, "[2001:db8::1:2]:4711", "2001:db8::1:2"),
        (1, "[::ffff:203.0.113.9]:4711", "203.0.113.9"),
    ],
)
def test_the_address_is_the_one_that_throttles_count(settings, proxies: int, header: str, found: str) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    request = RequestFactory().get("/", REMOTE_ADDR="198.51.100.1", HTTP_X_FORWARDED_FOR=header)
    assert client_address(request) == found


def test_a_client_without_an_address_can_sign_in(staff: User) -> None:
    assert attempt(staff.username, "wrong", "").status_code == 200
    assert attempt(staff.username, PASSWORD, "").status_code == 302


def test_a_person_is_let_in_again_by_a_command(staff: User, address: str) -> None:
    for _ in range(LIMIT):
        attempt(staff.username, "wrong", address)
    call_command("axes_reset_username", staff.username, stdout=StringIO())
    assert attempt(staff.username, PASSWORD, address).status_code == 302


@pytest.fixture
def own_server(database: None) -> Iterator[Server]:
    with running_server(workers=1, TRUSTED_PROXIES="1") as server:
        yield server


def test_logs_and_metrics_tell_what_happened_and_no_secret(
    own_server: Server, staff: User, address: str
) -> None:
    staff.password = make_password(PASSWORD, hasher="scrypt")  # as the server makes them
    staff.save()
    secret = uuid.uuid4().hex
    headers = {"X-Forwarded-For": f"{address}7"}
    with httpx.Client(base_url=own_server.url, headers=headers, timeout=30) as client:
        for username, password in [(staff.username, secret), (secret, "x"), (staff.username, PASSWORD)]:
            client.get("/signin")
            form = {
                "username": username,
                "password": password,
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
            }
            client.post("/signin", data=form)
        client.post("/signout", data={"csrfmiddlewaretoken": client.cookies["csrftoken"]})
        metrics = client.get("/metrics").text
    assert 'signins_total{outcome="failed"} 2.0' in metrics
    assert 'signins_total{outcome="succeeded"} 1.0' in metrics
    lines = [line for line in own_server.log.splitlines() if f'"{address}7"' in line]
    assert [line.count("signin_failed") for line in lines] == [1, 1, 0, 0]
    assert '"signin_succeeded"' in lines[2]
    assert '"signout"' in lines[3]
    assert f'"user_id":{staff.pk}' in lines[0]
    assert '"user_id":null' in lines[1]
    assert secret not in own_server.log
    kept = AccessAttempt.objects.filter(ip_address=address).values_list("get_data", "post_data")
    assert PASSWORD not in str(list(kept))


def test_old_records_are_deleted_and_young_ones_are_not(database: None, address: str) -> None:
    now = timezone.now()
    for model, keep in ((AccessLog, 90 * 24 * 60), (AccessFailureLog, 90 * 24 * 60), (AccessAttempt, 15)):
        for name, minutes in (("old", keep + 1), ("young", keep - 5)):
            extra = {"failures_since_start": 1} if model is AccessAttempt else {}
            row = model.objects.create(username=name, ip_address=address, **extra)
            model.objects.filter(pk=row.pk).update(attempt_time=now - timedelta(minutes=minutes))
    purge_signins()
    for model in (AccessLog, AccessFailureLog, AccessAttempt):
        assert [row.username for row in model.objects.filter(ip_address=address)] == ["young"]


def test_sessions_go_when_they_have_expired_and_tokens_a_retention_later(user: User) -> None:
    """In batches, also where more rows than one batch have the same time."""
    now = timezone.now()
    expired = [Session(session_key=uuid.uuid4().hex, expire_date=now - timedelta(hours=1)) for _ in range(7)]
    older = [Session(session_key=uuid.uuid4().hex, expire_date=now - timedelta(days=n)) for n in range(1, 6)]
    live = Session(session_key=uuid.uuid4().hex, expire_date=now + timedelta(minutes=1))
    Session.objects.bulk_create([*expired, *older, live])
    for days in (91, 89, -1):
        token, _ = AuthToken.objects.create(user)
        AuthToken.objects.filter(pk=token.pk).update(expiry=now - timedelta(days=days))
    endless, _ = AuthToken.objects.create(user, expiry=None)
    with patch.object(signins, "BATCH", 3):
        deleted = purge()
    assert deleted["session"] >= 12
    keys = [session.session_key for session in [*expired, *older, live]]
    assert [row.pk for row in Session.objects.filter(pk__in=keys)] == [live.pk]
    kept = AuthToken.objects.filter(user=user)
    assert sorted(round((now - token.expiry).days) for token in kept if token.expiry) == [-1, 89]
    assert endless in kept


def test_a_table_of_sign_ins_that_cannot_be_purged_stops_no_other(database: None) -> None:
    def sample(name: str, table: str) -> float:
        return REGISTRY.get_sample_value(f"signins_purge_{name}", {"table": table}) or 0

    failures = sample("failures_total", "accesslog")
    began = store.clock().timestamp()
    with undeletable("axes_accesslog"):
        assert set(purge()) == {"accessfailurelog", "accessattempt", "authtoken", "session"}
    assert sample("failures_total", "accesslog") == failures + 1
    assert sample("last_success_timestamp_seconds", "accesslog") < began
    assert sample("last_success_timestamp_seconds", "accessattempt") >= began


def test_a_worker_whose_clock_is_ahead_deletes_no_record(database: None, address: str) -> None:
    with travelled("-91 days"):
        for model in (AccessLog, AccessFailureLog, AccessAttempt):
            extra = {"failures_since_start": 1} if model is AccessAttempt else {}
            row = model.objects.create(username="young", ip_address=address, **extra)
            model.objects.filter(pk=row.pk).update(attempt_time=Now() - timedelta(minutes=10))
        purge_signins()
        for model in (AccessLog, AccessFailureLog, AccessAttempt):
            assert model.objects.filter(ip_address=address).exists()


@pytest.mark.parametrize("password", ["short-one-x", "password1234", "314159265358979", "harbor.growth.fund"])
def test_a_weak_password_is_refused(make_user: Callable[..., User], password: str) -> None:
    user = make_user(is_staff=True, is_superuser=True, email="harbor.growth.fund@example.com")
    client = Client()
    client.force_login(user)
    form = {"password1": password, "password2": password, "usable_password": "true"}
    assert client.post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 200
    user.refresh_from_db()
    assert not user.has_usable_password() or not user.check_password(password)


@pytest.mark.parametrize("path", ["/admin/login/", "/signin"])
def test_another_site_cannot_sign_anybody_in(staff: User, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, {"username": staff.username, "password": PASSWORD}).status_code == 403
    assert "sessionid" not in client.cookies


class Counting(MD5PasswordHasher):
    """Hasher that records its passwords; with scrypt, hashing takes most of a sign-in's time."""

    algorithm = "counting"
    hashed: ClassVar[list[str]] = []

    def encode(self, password: str, salt: str) -> str:
        self.hashed.append(password)
        return super().encode(password, salt)


def test_a_name_that_nobody_has_takes_as_long_as_one_that_somebody_has(
    settings: Any, make_user: Callable[..., User], address: str
) -> None:
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]
    user = make_user(password=PASSWORD)
    guess = uuid.uuid4().hex
    counts = []
    for username in (user.username, "nobody-of-this-name"):
        attempt(username, guess, address, "/signin")
        counts.append(Counting.hashed.count(guess))
    assert counts == [1, 2]
