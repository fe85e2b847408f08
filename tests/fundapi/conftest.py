import uuid
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from django.contrib.auth.models import User

import fundapi.admin.urls  # noqa: F401 - imports the pages, which only their addresses do otherwise
from tests.fundapi.containers import image
from tests.obedience import hold, obedience

__all__ = ["hold", "image", "obedience", "quick_passwords"]

PASSWORD = "correct horse battery staple"


@pytest.fixture
def quick_passwords(settings: Any) -> None:
    """Hash passwords of this process quickly, for tests that sign in often."""
    quick = "django.contrib.auth.hashers.MD5PasswordHasher"
    settings.PASSWORD_HASHERS = [quick, "django.contrib.auth.hashers.ScryptPasswordHasher"]


@pytest.fixture
def address() -> str:
    """An address that no other test comes from: the first of its /64."""
    number = uuid.uuid4().hex
    return str(ip_address(f"2001:db8:{number[:4]}:{number[4:8]}::"))


@pytest.fixture
def staff(make_user: Callable[..., User]) -> User:
    return make_user(password=PASSWORD, is_staff=True, is_superuser=True)
