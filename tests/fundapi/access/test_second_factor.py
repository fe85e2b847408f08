"""The second factor: asked of users with an authenticator, counted when wrong, required by a setting."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test import Client
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from prometheus_client import REGISTRY

from fundapi.access.second_factor import WRONG_CODES_MAX, unconfirmed
from tests.fundapi.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("quick_passwords")

PAGE = "/admin/two-factor/"


def code_of(user: User) -> str:
    """Return a valid code, even if the current one was used."""
    device = TOTPDevice.objects.get(user=user)
    TOTPDevice.objects.filter(pk=device.pk).update(last_t=-1)
    return f"{totp(device.bin_key):06}"


def wrong_code_of(user: User) -> str:
    """Return a code that is not valid now."""
    return f"{(int(code_of(user)) + 500_000) % 1_000_000:06}"


def set_up(client: Client, user: User) -> list[str]:
    """Set up an authenticator as a person does; return the backup codes."""
    client.get(PAGE)
    page = client.post(PAGE, {"code": code_of(user), "password": PASSWORD})
    return re.findall(r"<li><code>(\w+)</code></li>", page.content.decode())


@pytest.fixture
def codes(staff: User) -> list[str]:
    """The backup codes of ``staff``, who has an authenticator."""
    client = Client()
    client.force_login(staff)
    return set_up(client, staff)


def sign_in(user: User, code: str, path: str = "/admin/login/", address: str = "127.0.0.1") -> Client:
    client = Client(REMOTE_ADDR=address)
    client.post(path, {"username": user.username, "password": PASSWORD, "otp_token": code})
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


@pytest.mark.parametrize("path", ["/admin/login/", "/signin"])
def test_a_user_with_an_authenticator_needs_its_code(staff: User, codes: list[str], path: str) -> None:
    assert not is_in(sign_in(staff, "", path))
    assert not is_in(sign_in(staff, wrong_code_of(staff), path))
    code = code_of(staff)
    assert is_in(sign_in(staff, f" {code[:3]} {code[3:]} ", path))
    assert not is_in(sign_in(staff, code, path))  # it was used


def test_each_backup_code_lets_in_once(staff: User, codes: list[str]) -> None:
    assert len({*codes}) == 10
    assert is_in(sign_in(staff, codes[0].upper()))
    assert not is_in(sign_in(staff, codes[0]))
    assert is_in(sign_in(staff, codes[1]))


def test_wrong_codes_lock_out_as_wrong_passwords_do(staff: User, codes: list[str], address: str) -> None:
    for _ in range(5):
        sign_in(staff, wrong_code_of(staff), address=address)
    assert AccessAttempt.objects.get(ip_address=address).failures_since_start == 5
    assert not is_in(sign_in(staff, code_of(staff), address=address))
    assert "otp_token=****" in AccessAttempt.objects.get(ip_address=address).post_data


@pytest.fixture
def attacked(staff: User, codes: list[str]) -> None:
    """Somebody who knows the password of ``staff`` has sent as many wrong codes as count, from many networks."""
    sign_in(staff, wrong_code_of(staff), address="198.51.100.1")
    TOTPDevice.objects.filter(user=staff).update(throttling_failure_count=WRONG_CODES_MAX)


def test_wrong_codes_do_not_stop_the_next_right_one(staff: User, codes: list[str]) -> None:
    """django-otp would close the authenticator for everybody, for longer with each wrong code."""
    for number in range(3):
        assert not is_in(sign_in(staff, wrong_code_of(staff), address=f"198.51.100.{number}"))
    devices = TOTPDevice.objects.filter(user=staff)
    assert devices.get().throttling_failure_count == 3
    devices.update(throttling_failure_count=WRONG_CODES_MAX - 1)
    assert is_in(sign_in(staff, code_of(staff), address="203.0.113.5"))
    assert devices.get().throttling_failure_count == 0


@pytest.mark.parametrize("path", ["/admin/login/", "/signin"])
def test_after_many_wrong_codes_a_new_network_gets_no_try(staff: User, attacked: None, path: str) -> None:
    client = Client(REMOTE_ADDR="203.0.113.6")
    form = {"username": staff.username, "password": PASSWORD, "otp_token": code_of(staff)}
    answer = client.post(path, form)
    assert "Sign in with a backup code" in answer.content.decode()
    assert not is_in(client)


def test_after_many_wrong_codes_their_owner_gets_in_from_a_known_network(
    staff: User, codes: list[str], attacked: None
) -> None:
    TOTPDevice.objects.filter(user=staff).update(throttling_failure_count=0)
    assert is_in(sign_in(staff, code_of(staff), address="203.0.113.7"))
    for _ in range(2):  # the attack goes on
        TOTPDevice.objects.filter(user=staff).update(
            throttling_failure_count=WRONG_CODES_MAX, throttling_failure_timestamp=timezone.now()
        )
        assert not is_in(sign_in(staff, code_of(staff), address="203.0.113.8"))
        assert is_in(sign_in(staff, code_of(staff), address="203.0.113.7"))


def test_after_many_wrong_codes_a_backup_code_lets_in_from_anywhere(
    staff: User, codes: list[str], attacked: None
) -> None:
    for wrong in ("a" * 8, "b" * 8, "c" * 8):
        assert not is_in(sign_in(staff, wrong, address="203.0.113.9"))
    assert is_in(sign_in(staff, codes[0], address="203.0.113.9"))


def test_a_day_after_the_last_wrong_code_every_network_gets_a_try(staff: User, attacked: None) -> None:
    devices = TOTPDevice.objects.filter(user=staff)
    devices.update(throttling_failure_timestamp=F("throttling_failure_timestamp") - timedelta(days=1))
    assert is_in(sign_in(staff, code_of(staff), address="203.0.113.10"))


def test_no_code_that_was_typed_is_kept(staff: User, codes: list[str], address: str) -> None:
    client = Client(REMOTE_ADDR=address)
    client.force_login(staff)
    TOTPDevice.objects.filter(user=staff).update(confirmed=False)
    client.post(PAGE, {"code": "123456", "password": "wrong"})
    assert "code=****" in AccessAttempt.objects.get(ip_address=address).post_data
    assert "123456" not in AccessAttempt.objects.get(ip_address=address).post_data


def test_a_right_password_without_a_code_leaves_a_trace_and_locks_nobody_out(
    staff: User, codes: list[str], address: str, written: list[str]
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("signins_total", {"outcome": "code_missing"}) or 0

    before = counted()
    for _ in range(6):
        sign_in(staff, "", address=address)
    traces = [line for line in written if "signin_code_missing" in line]
    assert len(traces) == 6
    assert all(address in trace and str(staff.pk) in trace for trace in traces)
    assert counted() == before + 6
    assert not AccessAttempt.objects.filter(ip_address=address).exists()
    assert is_in(sign_in(staff, code_of(staff), address=address))


def test_another_persons_code_is_worth_nothing(staff: User, codes: list[str], make_user) -> None:
    other = make_user(password=PASSWORD, is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(other)
    theirs = set_up(client, other)
    assert not is_in(sign_in(staff, code_of(other)))
    assert not is_in(sign_in(staff, theirs[0]))


def test_a_session_from_before_does_not_pass_any_more(staff: User) -> None:
    before = Client()
    before.force_login(staff)
    assert is_in(before)
    here = Client()
    here.force_login(staff)
    set_up(here, staff)
    assert is_in(here)
    assert not is_in(before)


@pytest.mark.parametrize("wrong", ["code", "password"])
def test_setting_up_takes_a_code_and_the_password(staff: User, wrong: str) -> None:
    client = Client()
    client.force_login(staff)
    client.get(PAGE)
    form = {"code": code_of(staff), "password": PASSWORD}
    page = client.post(PAGE, form | {wrong: "000000" if wrong == "password" else wrong_code_of(staff)})
    assert f'id="{wrong}_error"' in page.content.decode()
    assert not TOTPDevice.objects.get(user=staff).confirmed
    assert is_in(sign_in(staff, ""))


def test_required_leads_whoever_has_none_to_set_one_up(staff: User, settings) -> None:
    settings.ADMIN_OTP_REQUIRED = True
    client = Client()
    client.force_login(staff)
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == PAGE
    assert "no-store" in answer.headers["Cache-Control"]
    assert client.get("/admin/fundapi/fund/").status_code == 302
    set_up(client, staff)
    assert is_in(client)


@pytest.mark.parametrize("name", ["nobody", "somebody"])
def test_only_staff_sets_one_up(make_user: Callable[..., User], name: str) -> None:
    client = Client()
    if name == "somebody":
        client.force_login(make_user())
    assert client.get(PAGE).status_code == 302


def test_a_secret_is_shown_until_it_is_confirmed_and_never_again(staff: User, make_user) -> None:
    client = Client()
    client.force_login(staff)
    first = client.get(PAGE).content.decode()
    assert "<svg" in first
    secret = re.search(r'id="secret">(\w+)<', first)
    assert secret is not None
    assert secret[1] in client.get(PAGE).content.decode()
    set_up(client, staff)
    device = TOTPDevice.objects.get(user=staff)
    for path in (PAGE, "/admin/otp_totp/totpdevice/", f"/admin/otp_totp/totpdevice/{device.pk}/change/"):
        page = client.get(path)
        assert page.status_code == 200
        assert secret[1] not in page.content.decode()
        assert device.key not in page.content.decode()


def test_first_visits_at_once_see_one_secret(staff: User) -> None:
    together = threading.Barrier(4)

    def visit() -> int:
        try:
            connection.ensure_connection()
            together.wait(60)
            return int(unconfirmed(staff).pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        seen = [visit.result(60) for visit in [pool.submit(visit) for _ in range(4)]]
    assert len({*seen}) == TOTPDevice.objects.filter(user=staff).count() == 1


def test_two_secrets_that_were_never_confirmed_stop_nobody(staff: User) -> None:
    for _ in range(2):
        TOTPDevice.objects.create(user=staff, name="authenticator", confirmed=False)
    client = Client()
    client.force_login(staff)
    assert client.get(PAGE).status_code == 200
    output = StringIO()
    call_command("remove_two_factor", staff.username, stdout=output)
    assert "Removed: 2 authenticators, 0 backup codes." in output.getvalue()


def test_an_administrator_removes_a_lost_authenticator(staff: User, codes: list[str], make_user) -> None:
    administrator = make_user(is_staff=True)
    administrator.groups.add(Group.objects.get(name="Administrator"))
    client = Client()
    client.force_login(administrator)
    device = TOTPDevice.objects.get(user=staff)
    assert client.post(f"/admin/otp_totp/totpdevice/{device.pk}/delete/", {"post": "yes"}).status_code == 302
    assert is_in(sign_in(staff, ""))


def test_a_command_removes_a_lost_authenticator(staff: User, codes: list[str]) -> None:
    output = StringIO()
    call_command("remove_two_factor", staff.username, stdout=output)
    assert "Removed: 1 authenticators, 10 backup codes." in output.getvalue()
    assert is_in(sign_in(staff, ""))
    with pytest.raises(CommandError, match="has no authenticator"):
        call_command("remove_two_factor", staff.username)
    with pytest.raises(CommandError, match="There is no user"):
        call_command("remove_two_factor", "nobody-of-this-name")
