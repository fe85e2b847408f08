"""A project for tests: the real addresses, and guarded views under ``/api/lab`` that go wrong in one way each.

What a view writes is a ``Group`` with the name that the request carries, so that each test counts its own.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from fundapi import urls
from idempotency import idempotent
from idempotency.contrib import drf
from tests.reliability.gates import pass_gate

handler500 = urls.handler500


def admit(request: HttpRequest, view: Callable[..., Any]) -> str | HttpResponseBase:
    """The real admission for the real views; everybody may use the lab."""
    return "lab" if request.path.startswith("/api/lab/") else drf.admit(request, view)


class StopAfterCommit:
    """The outermost middleware: with ``X-Stop: <number>`` the answer waits at that gate, long after COMMIT."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if gate := request.headers.get("X-Stop"):
            url = os.environ["DATABASE_URL"]
            with psycopg.connect(url, application_name=f"lab-{os.getpid()}", autocommit=True) as session:
                pass_gate(session, int(gate))
        return response


def write(request: HttpRequest, suffix: str = "") -> Group:
    group: Group = Group.objects.create(name=request.GET["name"] + suffix)
    return group


def created(group: Group) -> JsonResponse:
    return JsonResponse({"id": group.pk, "name": group.name}, status=201)


def raises(request: HttpRequest) -> HttpResponse:
    write(request)
    raise RuntimeError("a bug")


def answers(request: HttpRequest) -> HttpResponse:
    """Writes, then answers with ``?status=``."""
    write(request)
    return JsonResponse({}, status=int(request.GET["status"]))


def raises_after_a_savepoint(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        write(request)
    raise RuntimeError("a bug")


def undoes_a_savepoint(request: HttpRequest) -> HttpResponse:
    """A handled failure inside; the rest of the work counts."""
    with suppress(RuntimeError), transaction.atomic():
        write(request, suffix=" undone")
        raise RuntimeError("handled")
    return created(write(request))


def swallows_a_database_error(request: HttpRequest) -> HttpResponse:
    """Answer 201 although PostgreSQL has aborted the transaction."""
    group = write(request)
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT 1/0")
    return created(group)


def swallows_an_inner_failure(request: HttpRequest) -> HttpResponse:
    """Answer 201 although Django has marked the transaction for rollback."""
    group = write(request)
    with suppress(RuntimeError), transaction.atomic(savepoint=False):
        raise RuntimeError("swallowed")
    return created(group)


def sleeps_in_a_statement(request: HttpRequest) -> HttpResponse:
    group = write(request)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    return created(group)


def sleeps_between_statements(request: HttpRequest) -> HttpResponse:
    group = write(request)
    time.sleep(float(os.environ["LAB_IDLE_TIMEOUT"]) + 1)
    return created(group)


def waits_for_a_table_lock(request: HttpRequest) -> HttpResponse:
    group = write(request)
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE lab_locked IN ACCESS EXCLUSIVE MODE")
    return created(group)


def writes_to_a_read_only_database(request: HttpRequest) -> HttpResponse:
    """Write on a read-only connection, such as one to a server that has become a standby."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    return created(write(request))


def loses_its_connection(request: HttpRequest) -> HttpResponse:
    group = write(request)
    with connection.cursor() as cursor, suppress(DatabaseError):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    return created(group)


def closes_its_connection(request: HttpRequest) -> HttpResponse:
    group = write(request)
    connection.close()
    return created(group)


def breaks_a_deferred_constraint(request: HttpRequest) -> HttpResponse:
    """Break a foreign key. Django's are checked at COMMIT, so nothing fails earlier."""
    group = write(request)
    User.groups.through.objects.create(user_id=-1, group_id=group.pk)
    return created(group)


def has_an_effect_after_commit(request: HttpRequest) -> HttpResponse:
    """Work, or fail with ``?fail=1``; record an effect only on commit."""
    transaction.on_commit(lambda: write(request, suffix=" effect") and None)
    group = write(request)
    return created(group) if "fail" not in request.GET else JsonResponse({}, status=422)


def fails_after_commit(request: HttpRequest) -> HttpResponse:
    def effect() -> None:
        raise RuntimeError("the mail server is away")

    transaction.on_commit(effect)
    return created(write(request))


def works(request: HttpRequest) -> HttpResponse:
    return created(write(request))


VIEWS = [
    raises,
    answers,
    raises_after_a_savepoint,
    undoes_a_savepoint,
    swallows_a_database_error,
    swallows_an_inner_failure,
    sleeps_in_a_statement,
    sleeps_between_statements,
    waits_for_a_table_lock,
    writes_to_a_read_only_database,
    loses_its_connection,
    closes_its_connection,
    breaks_a_deferred_constraint,
    has_an_effect_after_commit,
    fails_after_commit,
    works,
]
urlpatterns = [
    *urls.urlpatterns,
    *(
        path(f"api/lab/{view.__name__}", idempotent(operation="lab")(csrf_exempt(view)))  # no browser here
        for view in VIEWS
    ),
]
