"""Keys of several tenants in one table, and in another database than the project's first one."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, router
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from idempotency import idempotent, store
from idempotency.checks import check_tenants, check_types
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware
from idempotency.models import IdempotencyKey
from tests.fundapi.admin.pages import KEYS, rows, text


@pytest.fixture
def create() -> Iterator[Any]:
    """A marked view that answers with what nobody else gets, as a server has it."""

    @idempotent(operation="fund-create")
    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(uuid.uuid4().hex, status=201)

    before = set(marks)
    yield IdempotencyMiddleware(view)
    marks.intersection_update(before)


@pytest.fixture
def support(make_user: Callable[..., User]) -> Client:
    """A browser of a superuser."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def posted(create: Any, user: User, key: str, host: str) -> tuple[str, bytes]:
    request = RequestFactory().post("/", b"", "text/plain", headers={"Idempotency-Key": key, "Host": host})
    request.user = user
    answer = create(request)
    return answer.headers["Idempotency-Status"], answer.content


# --- Tenants ----------------------------------------------------------------------------------------------------


def test_hosts_have_keys_of_their_own_where_the_setting_says_so(create: Any, user: User, key: str) -> None:
    """Tenants with users of their own have the same user ids."""
    with override_settings(IDEMPOTENCY_SCOPE_BY_HOST=True, ALLOWED_HOSTS=["*"]):
        one, two = (posted(create, user, key, host) for host in ("one.example", "two.example"))
        assert (one[0], two[0]) == ("created", "created")
        assert posted(create, user, key, "ONE.example:8443") == ("replayed", one[1])
        assert posted(create, user, key, "two.example") == ("replayed", two[1])


def test_all_hosts_share_keys_otherwise(create: Any, user: User, key: str) -> None:
    with override_settings(ALLOWED_HOSTS=["*"]):
        _, first = posted(create, user, key, "one.example")
        assert posted(create, user, key, "two.example") == ("replayed", first)
    assert IdempotencyKey.objects.get(token=key).principal == str(user.pk)


def test_the_admin_of_a_host_shows_the_keys_of_that_host(
    create: Any, support: Client, user: User, key: str
) -> None:
    with override_settings(IDEMPOTENCY_SCOPE_BY_HOST=True, ALLOWED_HOSTS=["*"]):
        posted(create, user, key, "testserver")
        posted(create, user, other := uuid.uuid4().hex, "two.example")
        for term in (key, user.username):
            (row,) = rows(support, KEYS, q=term)
            assert key in row
            assert user.username in row
        assert "No stored key matches" in text(support, KEYS, q=other)
        elsewhere = IdempotencyKey.objects.get(token=other)
        assert support.get(f"{KEYS}{elsewhere.pk}/change/").status_code == 302


@pytest.mark.parametrize(
    ("apps", "warned"),
    [
        ({"SHARED_APPS": ["idempotency"], "TENANT_APPS": ["shop"]}, ["idempotency.W001"]),
        ({"SHARED_APPS": ["idempotency.apps.IdempotencyConfig"]}, ["idempotency.W001"]),
        ({"SHARED_APPS": ["idempotency"], "TENANT_APPS": ["idempotency"]}, []),
        ({"SHARED_APPS": ["idempotency"], "IDEMPOTENCY_SCOPE_BY_HOST": True}, []),
        ({}, []),
    ],
)
def test_tenants_that_share_keys_are_warned_of(apps: dict[str, Any], warned: list[str]) -> None:
    with override_settings(**apps):
        assert [warning.id for warning in check_tenants()] == warned


def test_the_setting_is_a_boolean() -> None:
    with override_settings(IDEMPOTENCY_SCOPE_BY_HOST=1):
        assert [error.id for error in check_types()] == ["idempotency.E011"]


# --- Another database -------------------------------------------------------------------------------------------


@pytest.fixture
def other_alias(database: None, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Another alias: of an SQLite in a file (Django closes none in memory), or of the database that there is."""
    file = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "other")}}
    sqlite = connections.configure_settings(file)["default"]
    connections.settings["other"] = sqlite if request.param == "sqlite" else connections.settings["default"]
    yield "other"
    connections["other"].close()
    del connections["other"]
    del connections.settings["other"]


@pytest.mark.parametrize("other_alias", ["sqlite"], indirect=True)
def test_another_kind_of_database_is_migrated_without_keys(other_alias: str) -> None:
    call_command("migrate", "idempotency", database=other_alias, verbosity=0)
    assert connections[other_alias].introspection.table_names() == ["django_migrations"]
    call_command("migrate", "idempotency", "zero", database=other_alias, verbosity=0)


@pytest.mark.parametrize("other_alias", ["sqlite"], indirect=True)
def test_a_router_keeps_the_table_out_of_every_other_database(other_alias: str) -> None:
    """Otherwise ``dumpdata`` would ask each for it."""
    with override_settings(DATABASE_ROUTERS=["idempotency.router.KeyRouter"]):
        call_command("migrate", "idempotency", database=other_alias, verbosity=0)
        call_command("dumpdata", "idempotency", database=other_alias, stdout=(dumped := StringIO()))
        assert router.allow_migrate_model("default", IdempotencyKey)
        assert router.allow_migrate(other_alias, "auth")
    assert dumped.getvalue().strip() == "[]"


@pytest.mark.parametrize("other_alias", ["sqlite"], indirect=True)
def test_another_database_keeps_its_atomic_requests(other_alias: str, key: str) -> None:
    """A marked view that fails leaves no row there either."""
    other = connections[other_alias]

    def view(_request: HttpRequest) -> HttpResponse:
        other.cursor().execute("INSERT INTO made VALUES (1)")
        raise ZeroDivisionError

    guarded = idempotent(operation="elsewhere", admit=lambda _request, _view: "me")(view)
    middleware = ["idempotency.middleware.IdempotencyMiddleware"]
    with (
        override_settings(ROOT_URLCONF=(path("fails", guarded),), MIDDLEWARE=middleware),
        atomic_requests("default"),
        atomic_requests(other_alias),
    ):
        other.cursor().execute("CREATE TABLE made (number integer)")
        failed = Client(raise_request_exception=False).post("/fails", headers={"Idempotency-Key": key})
        assert other.cursor().execute("SELECT count(*) FROM made").fetchone() == (0,)
    assert failed.status_code == 500
    marks.discard(guarded.idempotent)  # type: ignore[attr-defined]  # the mark, which no URL of other tests reaches


@contextmanager
def atomic_requests(alias: str) -> Iterator[None]:
    settings = connections[alias].settings_dict
    settings["ATOMIC_REQUESTS"] = True
    try:
        yield
    finally:
        settings["ATOMIC_REQUESTS"] = False


@pytest.mark.parametrize("other_alias", ["postgresql"], indirect=True)
def test_everything_asks_the_database_of_the_keys(
    create: Any, other_alias: str, support: Client, user: User, key: str
) -> None:
    with override_settings(IDEMPOTENCY_DATABASE=other_alias):
        posted(create, user, key, "testserver")
        assert posted(create, user, key, "testserver")[0] == "replayed"
        elsewhere = CaptureQueriesContext(connections["default"])
        with CaptureQueriesContext(connections[other_alias]) as captured, elsewhere:
            assert key in rows(support, KEYS, q=key)[0]
            stored = IdempotencyKey.objects.using(other_alias).get(token=key)
            assert "succeeded with 201" in text(support, f"{KEYS}{stored.pk}/change/")
            call_command("purge_idempotency_keys", verbosity=0)
            assert store.count_active() > 0
    assert len(captured) >= 7
    assert not [query["sql"] for query in elsewhere if 'FROM "idempotency_store"' in query["sql"]]
