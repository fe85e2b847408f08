"""Users and groups in the admin, and what their permissions let them see and change."""

import secrets
import uuid
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client
from knox.models import AuthToken

from tests.conftest import Api
from tests.fundapi.admin.pages import FUNDS, KEYS, TOKENS, page_of, stored


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
def test_only_an_administrator_grants_rights_passwords_and_tokens(
    make_user: Callable[..., User], role: str
) -> None:
    """Nobody else does, not even for themselves."""
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


def test_a_group_has_a_name_that_can_be_seen(make_user: Callable[..., User]) -> None:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    for name in ("\u200b", "\u3164", "\u2800"):
        page = client.post("/admin/auth/group/add/", {"name": name})
        assert "at least one visible character" in page.text
    seen = f"Night \N{SPARKLES} {uuid.uuid4().hex}"
    assert client.post("/admin/auth/group/add/", {"name": seen}).status_code == 302
    Group.objects.get(name=seen).delete()


def test_a_user_has_a_name_that_can_be_seen(make_user: Callable[..., User]) -> None:
    """Django takes the fillers of Hangul for letters."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    # Not of the letters of the names: Django compares them.
    secret = secrets.token_urlsafe().translate({ord(digit): "z" for digit in "0123456789abcdef"})
    form = {"password1": secret, "password2": secret, "usable_password": "true"}
    for name in ("\u3164", "\u115f\uffa0", "ad\u3164min"):
        page = client.post("/admin/auth/user/add/", form | {"username": name})
        assert "whose characters are all visible" in page.text
        with pytest.raises(CommandError, match="a character of it is invisible"):
            call_command("create_token", name, "--create")
    seen = f"한{uuid.uuid4().hex}"
    assert client.post("/admin/auth/user/add/", form | {"username": seen}).status_code == 302
    User.objects.get(username=seen).delete()
