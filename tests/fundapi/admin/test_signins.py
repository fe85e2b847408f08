"""Sign-ins in the admin: on record, summed up as lock-outs are, ended by an administrator."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.fundapi.access.test_signins import LIMIT, attempt, text
from tests.fundapi.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("quick_passwords")


def test_a_person_is_let_in_again_in_the_admin(staff: User, address: str, make_user) -> None:
    for _ in range(LIMIT):
        attempt(staff.username, "wrong", address)
    administrator = make_user(password=PASSWORD, is_staff=True)
    administrator.groups.add(Group.objects.get(name="Administrator"))
    client = Client()
    client.force_login(administrator)
    row = AccessAttempt.objects.get(ip_address=address)
    page = f"/admin/axes/accessattempt/{row.pk}"
    assert "locked out" in client.get(f"{page}/change/").content.decode()
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 302
    assert attempt(staff.username, PASSWORD, address).status_code == 302


def states(client: Client, address: str) -> dict[str, str]:
    """Return the state of each name from an address in the list of lock-outs."""
    page = text(client.get(f"/admin/axes/accessattempt/?q={address}"))
    found = re.findall(r">\s*([\w-]+-of-\w+)\s*<.*?(address locked out|locked out|may try)", page, re.DOTALL)
    return dict(found)


def test_the_list_of_lock_outs_sums_up_as_lock_outs_do(staff: User, address: str) -> None:
    def failed(name: str, times: int, browser: str, address: str | None = address, minutes: int = 0) -> None:
        row = AccessAttempt.objects.create(
            username=name, ip_address=address, user_agent=browser, failures_since_start=times
        )
        AccessAttempt.objects.filter(pk=row.pk).update(
            attempt_time=timezone.now() - timedelta(minutes=minutes)
        )

    client = Client()
    client.force_login(staff)
    failed("two-of-three", 3, "one")
    failed("two-of-three", 2, "another")
    failed("old-of-them", 4, "one")
    failed("old-of-them", 4, "another", minutes=16)
    failed("elsewhere-of-them", 4, "one")
    failed("elsewhere-of-them", 4, "one", "198.51.100.9")
    with CaptureQueriesContext(connection) as few:
        assert states(client, address) == {
            "two-of-three": "locked out",
            "old-of-them": "may try",
            "elsewhere-of-them": "may try",
        }
    for number in range(8):
        failed(f"name{number}-of-spray", 5, "one")
    with CaptureQueriesContext(connection) as many:
        assert {*states(client, address).values()} == {"address locked out"}
    assert len(many) == len(few)
    nowhere = f"nowhere-of-{uuid.uuid4().hex}"
    failed(nowhere, 3, "one", None)
    failed(nowhere, 3, "another", None)
    assert states(client, nowhere) == {nowhere: "locked out"}


def test_sign_ins_sign_outs_and_failures_are_on_record_and_read_only(staff: User, address: str) -> None:
    attempt(staff.username, "a-wrong-password", address)
    client = Client(REMOTE_ADDR=address)
    client.post("/admin/login/", {"username": staff.username, "password": PASSWORD})
    found = AccessLog.objects.get(ip_address=address)
    failed = AccessFailureLog.objects.get(ip_address=address)
    for model, row in (("accesslog", found), ("accessfailurelog", failed)):
        listed = client.get(f"/admin/axes/{model}/?q={address}").content.decode()
        assert staff.username in listed
        assert address in listed
        assert address in client.get(f"/admin/axes/{model}/{row.pk}/change/").content.decode()
        assert client.post(f"/admin/axes/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post("/admin/logout/")
    found.refresh_from_db()
    assert found.logout_time is not None


@pytest.mark.parametrize("role", ["Viewer", "Operator"])
def test_only_administrators_see_who_signed_in(make_user: Callable[..., User], role: str) -> None:
    user = make_user(is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    for model in ("accesslog", "accessfailurelog", "accessattempt"):
        assert client.get(f"/admin/axes/{model}/").status_code == 403
