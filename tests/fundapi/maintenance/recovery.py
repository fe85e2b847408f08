"""Databases to lose and recover, and the keys that show whether one has come back whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from chaos.postgres import Postgres
from fundapi.embedded.processes import Account
from tests.conftest import FUND, token_of

RATE = "100000/minute"


@dataclass
class Deployment:
    """A PostgreSQL of our own, with fundapi's tables; a user who may create funds."""

    directory: Path
    account: Account
    postgres: Postgres
    token: str = ""

    def url(self) -> str:
        return self.postgres.url("fundapi", "fundapi")

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def migrate(self) -> None:
        """Make the tables and the user."""
        with connected(self.postgres, "fundapi"):
            run_command("migrate", "--verbosity", "0")
            user = User.objects.create_user("somebody")
            user.user_permissions.add(Permission.objects.get(codename="add_fund"))
            self.token = token_of(user)

    def send(self, key: str) -> Any:
        """POST the fund of a key to this process, on whatever database it is connected to."""
        headers = self.authorization | {"Idempotency-Key": key}
        return Client().post(
            "/api/funds", data=request(key), content_type="application/json", headers=headers
        )


@contextmanager
def connected(postgres: Postgres, database: str) -> Iterator[None]:
    """Let this process work on another database, as a process with another ``DATABASE_URL`` does."""
    connection.close()
    before = connection.settings_dict
    there = {"NAME": database, "HOST": str(postgres.sockets), "PORT": "", "USER": "fundapi", "PASSWORD": ""}
    connection.settings_dict = before | there
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = before


def run_command(*arguments: str) -> str:
    said = StringIO()
    call_command(*arguments, stdout=said)
    return said.getvalue().strip()


def request(key: str) -> dict[str, Any]:
    return FUND | {"name": key, "engineResults": {"irr": 0.10, "by": {"year": [1, 2.50]}}}
