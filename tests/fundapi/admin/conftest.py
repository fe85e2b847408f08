"""Browsers of people who use the admin."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

VIEWS = ["view_fund", "view_idempotencykey", "view_authtoken", "view_user", "view_group"]


@pytest.fixture
def administrator(make_user: Callable[..., User]) -> User:
    return make_user(may_create=False, is_staff=True, is_superuser=True)


@pytest.fixture
def support(administrator: User) -> Client:
    """A browser of a superuser."""
    client = Client()
    client.force_login(administrator)
    return client


@pytest.fixture
def viewer(make_user: Callable[..., User]) -> Client:
    """A browser of staff with view permissions only."""
    user = make_user(may_create=False, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=VIEWS))
    client = Client()
    client.force_login(user)
    return client
