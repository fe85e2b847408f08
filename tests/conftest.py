"""Shared fixtures. Rule of the house: each test makes its own users and keys, and counts only its own rows.

So tests share one real, committing database per xdist worker; there is no rollback and no flush between them.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import setup_databases
from knox.models import AuthToken

from fundapi.embedded.home import Home, lock
from fundapi.web.logs import Lines
from tests.canary import Judged, judged_rollouts
from tests.servers import UNHURRIED, Server, manage, running_server

ORIGIN = "https://app.example"  # of a frontend elsewhere, which the shared server allows
FUND = {"name": "Harbor Growth I", "size": 250_000_000, "vintageYear": 2025}


@pytest.fixture(scope="session")
def database(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: Any
) -> Iterator[None]:
    """This worker's migrated database, open to the test process, in autocommit like production."""
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False, aliases={"default": None})
        yield
        connection.close()  # the database goes with its home


@pytest.fixture
def make_user(database: None) -> Callable[..., User]:
    def make(*, may_create: bool = True, **attributes: Any) -> User:
        user: User = User.objects.create_user(f"user-{uuid.uuid4().hex[:12]}", **attributes)
        if may_create:
            user.user_permissions.add(Permission.objects.get(codename="add_fund"))
        return user

    return make


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    """A user who may create funds."""
    return make_user()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that fundapi's own loggers write in this process, where ``caplog`` has those of everybody else."""
    lines: list[str] = []
    for level in ("debug", "info", "warning", "error", "critical"):
        monkeypatch.setattr(Lines, level, lambda _, line: lines.append(line.decode()))
    return lines


def token_of(user: User) -> str:
    _, token = AuthToken.objects.create(user)
    return str(token)


class Api(httpx.Client):
    """A client of a running server, signed in by token; each key it makes up is new."""

    def __init__(self, server: Server, user: User | None = None, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {token_of(user)}"} if user else {}
        super().__init__(base_url=server.url, headers=headers, timeout=30, **options)

    def create(self, key: str | None = None, body: Any = None, **headers: str) -> httpx.Response:
        """POST a fund; without ``key`` under a new one."""
        key_header = {"Idempotency-Key": key or uuid.uuid4().hex}
        content = {"content": body} if isinstance(body, bytes | str) else {"json": body or FUND}
        content_type = {"Content-Type": "application/json"}
        return self.post("/api/funds", headers=key_header | content_type | headers, **content)


@pytest.fixture(scope="session")
def static_root() -> Path:
    """The collected static files, which the workers of a run share."""
    home = Home.from_environment()
    with lock(home.run / "static.lock") as collecting:
        collecting.exclusive()
        if not home.static.exists():
            done = manage("collectstatic", "--no-input", STATIC_ROOT=str(home.static))
            assert done.returncode == 0, done.stderr
    return home.static


@pytest.fixture(scope="session")
def server(database: None, static_root: Path) -> Iterator[Server]:
    """One running web server for all tests of this worker: two processes, four threads each."""
    # All clients of a test run share one address.
    rates: dict[str, Any] = {"FUND_CREATE_RATE": "100000/minute", "TELEMETRY_RATE": "100000/minute"}
    with running_server(
        CORS_ALLOWED_ORIGINS=ORIGIN, STATIC_ROOT=str(static_root), **rates, **UNHURRIED
    ) as running:
        yield running


@pytest.fixture
def traffic(server: Server) -> Iterator[Judged]:
    """Make a rollout that is judged, with browsers that report about it."""
    with judged_rollouts(server) as make:
        yield make


@pytest.fixture
def api(server: Server, user: User) -> Iterator[Api]:
    """A client of the shared server for a new user."""
    with Api(server, user) as client:
        yield client


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex
