from typing import Any

import pytest

from tests.obedience import hold, obedience

__all__ = ["hold", "obedience", "quick_passwords"]


@pytest.fixture
def quick_passwords(settings: Any) -> None:
    """Passwords of this process take no time: for tests that sign in again and again."""
    quick = "django.contrib.auth.hashers.MD5PasswordHasher"
    settings.PASSWORD_HASHERS = [quick, "django.contrib.auth.hashers.ScryptPasswordHasher"]
