from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from knox.crypto import hash_token
from knox.models import AuthToken

from fundapi.access.tokens import bearer, may_create_funds
from rollout import store
from tests.clock import travelled
from tests.conftest import token_of


@pytest.mark.parametrize(
    "attributes", [{}, {"is_staff": True}, {"is_superuser": True}, {"is_staff": True, "is_superuser": True}]
)
def test_the_holder_of_a_token_is_the_user_in_the_database(
    make_user: Callable[..., User], attributes: dict[str, bool]
) -> None:
    user = make_user(**attributes)
    found = bearer(hash_token(token_of(user)))
    assert found is not None
    for name in ("pk", "username", "is_active", "is_staff", "is_superuser", "email", "password"):
        assert getattr(found.user, name) == getattr(user, name)


def test_the_permission_is_the_one_that_django_knows(make_user: Callable[..., User]) -> None:
    permission = Permission.objects.get(codename="add_fund")
    group = Group.objects.create(name=f"group of {make_user().username}")
    group.permissions.add(permission)
    nobody, direct, member, admin = (make_user(may_create=False) for _ in range(4))
    direct.user_permissions.add(permission)
    member.groups.add(group)
    User.objects.filter(pk=admin.pk).update(is_superuser=True)
    for user, allowed in ((nobody, False), (direct, True), (member, True), (admin, True)):
        fresh = User.objects.get(pk=user.pk)
        found = bearer(hash_token(token_of(user)))
        assert found is not None
        assert fresh.has_perm("fundapi.add_fund") is allowed
        assert found.may_create_funds is may_create_funds(user.pk) is allowed
    User.objects.filter(pk=admin.pk).update(is_active=False)
    assert not may_create_funds(admin.pk)


@pytest.mark.parametrize("ahead", ["-40 days", "40 days"])
def test_the_database_s_clock_says_when_a_new_token_expires(user: User, ahead: str) -> None:
    """A host whose clock is slow must not make tokens that have expired already."""
    with travelled(ahead):
        call_command("create_token", user.username, days=30, stdout=StringIO())
        made = AuthToken.objects.get(user=user)
        assert made.expiry - store.clock() == pytest.approx(timedelta(days=30), abs=timedelta(seconds=5))
