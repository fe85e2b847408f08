import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from rollout import configuration
from rollout.models import Rollout
from tests.obedience import obedience

__all__ = ["obedience"]


class Person(Client):
    """A browser with a signed-in user."""

    def __init__(self, user: User, **options: Any) -> None:
        super().__init__(**options)
        self.force_login(user)
        self.user = user


Sign = Callable[[str], Person]
MakeRollout = Callable[..., Rollout]


@pytest.fixture
def sign_in(make_user: Callable[..., User]) -> Sign:
    """A browser of a staff user with a role; ``""`` is no role."""

    def sign_in(role: str) -> Person:
        user = make_user(may_create=False, is_staff=True)
        if role:
            user.groups.add(Group.objects.get(name=role))
        return Person(user)

    return sign_in


@pytest.fixture
def make_rollout(database: None) -> MakeRollout:
    """Make a rollout for the test; browsers see it at once."""

    def make(**fields: Any) -> Rollout:
        rollout = Rollout.objects.create(feature=f"FEATURE_{uuid.uuid4().hex[:12].upper()}", **fields)
        configuration.forget()
        return Rollout.objects.get(pk=rollout.pk)

    return make


@pytest.fixture
def viewer(sign_in: Sign) -> Person:
    return sign_in("Viewer")
