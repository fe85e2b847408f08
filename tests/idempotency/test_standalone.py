"""Another Django project installs the app by itself: no fundapi, no DRF, no users, no sessions."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory

from idempotency.admission import signed_in_user
from tests.servers import PROJECT, database_url

SHOP = '''
"""A whole Django project in one file: orders, known by a header who sends them."""

import json
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from django.views import View

from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])


def admit(request, view):
    caller = request.headers.get("X-Caller")
    return caller or HttpResponse("Who are you?", status=401)


settings.configure(
    SECRET_KEY="a shop",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["idempotency"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", "idempotency.middleware.IdempotencyMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": sys.argv[2], "USER": url.username or "",
                           "PASSWORD": url.password or "", "HOST": sys.argv[3], "PORT": url.port or "",
                           "OPTIONS": {"server_side_binding": True}}},
    IDEMPOTENCY_ENVIRONMENT="shop",
    IDEMPOTENCY_ADMIT=f"{__name__}.admit",
    USE_TZ=True,
)
django.setup()

from idempotency import idempotent  # noqa: E402


@idempotent(operation="order")
def order(request):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (body) VALUES (%s) RETURNING id", [request.body.decode()])
        number = cursor.fetchone()[0]
    if b"fail" in request.body:
        raise RuntimeError("told to fail")
    if b"refuse" in request.body:
        return HttpResponse("no", status=422)
    return HttpResponse(f"order {number}", status=201, content_type="text/plain",
                        headers={"Location": f"/orders/{number}", "ETag": '"v1"', "Set-Cookie": "secret=1"})


@idempotent(operation="refund", methods=["POST", "PUT"])
class Refund(View):
    def post(self, request):
        return HttpResponse(f"refund of {len(request.body)} bytes", status=202)

    put = get = post


urlpatterns = [path("orders", order), path("refunds", Refund.as_view())]

if __name__ == "__main__":
    from django.test import Client

    call_command("check", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, body text)")
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "c" * 32
    answers = []
    for method, address, key, body, content_type, caller in json.load(sys.stdin):
        headers = {"X-CSRFToken": "c" * 32, "Idempotency-Key": key, "X-Caller": caller}
        headers = {name: value for name, value in headers.items() if value}
        answer = client.generic(method, address, body, content_type=content_type, headers=headers)
        answers.append([answer.status_code, dict(answer.headers), answer.content.decode(),
                        sorted(answer.cookies)])
    call_command("purge_idempotency_keys", dry_run=True, stdout=sys.stderr)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        orders = cursor.fetchone()[0]
    foreign = {"fundapi", "rollout", "rest_framework", "knox", "structlog", "unfold", "msgspec", "redis"}
    print(json.dumps({"answers": answers, "orders": orders,
                      "foreign": sorted(foreign & {name.partition(".")[0] for name in sys.modules})}))
'''

TEXT, FORM, JSON = "text/plain", "application/x-www-form-urlencoded", "application/json"
PARTS = '--x\r\nContent-Disposition: form-data; name="apples"\r\n\r\n2\r\n--x--\r\n'
REQUESTS = [
    ("POST", "/orders", "k1", "two apples", TEXT, "ann"),  # 0: created
    ("POST", "/orders", "k1", "two apples", TEXT, "ann"),  # 1: replayed
    ("POST", "/orders", "k1", "two  apples", TEXT, "ann"),  # 2: raw bodies compare byte for byte
    ("POST", "/orders", "k1", "two apples", TEXT, "bob"),  # 3: another caller
    ("POST", "/orders", "k1", "two apples", TEXT, None),  # 4: nobody
    ("POST", "/orders", None, "two apples", TEXT, "ann"),  # 5: no key
    ("POST", "/orders", "k2", "fail", TEXT, "ann"),  # 6: raises
    ("POST", "/orders", "k2", "refuse", TEXT, "ann"),  # 7: refuses
    ("POST", "/orders", "k2", "works", TEXT, "ann"),  # 8: the key is free
    ("POST", "/refunds", "k1", "two apples", TEXT, "ann"),  # 9: another operation
    ("PUT", "/refunds", "k3", "abc", TEXT, "ann"),  # 10: another method that is guarded
    ("POST", "/refunds", "k3", "abc", TEXT, "ann"),  # 11: the method is part of the request
    ("GET", "/refunds", None, "", TEXT, None),  # 12: a method that is not
    ("POST", "/orders", "k4", '{"a": 1, "b": 2}', JSON, "ann"),  # 13: created
    ("POST", "/orders", "k4", '{"b":2.0,"a":1}', JSON, "ann"),  # 14: replayed
    ("POST", "/orders", "k5", "apples=2", FORM, "ann"),  # 15: a form, which the CSRF check reads first
    ("POST", "/orders", "k5", "apples=2", FORM, "ann"),  # 16: replayed
    ("POST", "/orders", "k7", PARTS, "multipart/form-data; boundary=x", "ann"),  # 17: created, the same
    ("POST", "/orders", "k7", PARTS, "multipart/form-data; boundary=x", "ann"),  # 18: replayed
    ("POST", "/orders", "shop|refund|k6", "x", TEXT, "ann"),  # 19: another operation's key
]


@pytest.fixture(scope="module")
def shop(database: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory: Path = tmp_path_factory.mktemp("shop")
    shutil.copytree(
        PROJECT / "idempotency", directory / "idempotency", ignore=shutil.ignore_patterns("__pycache__")
    )
    (directory / "shop.py").write_text(SHOP)
    name = f"shop_{uuid.uuid4().hex}"
    with psycopg.connect(database_url(), autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
        host = owner.info.host
    tidy = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
    run = subprocess.run(
        [sys.executable, "shop.py", database_url(), name, host],
        cwd=directory,
        env=tidy,
        input=json.dumps(REQUESTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def status(shop: Any, number: int) -> tuple[int, str | None]:
    code, headers, _, _ = shop["answers"][number]
    return code, headers.get("Idempotency-Status")


def test_it_needs_nothing_of_fundapi(shop: Any) -> None:
    assert shop["foreign"] == []


def test_a_plain_function_view_creates_and_replays(shop: Any) -> None:
    first, again = shop["answers"][0], shop["answers"][1]
    assert status(shop, 0) == (201, "created")
    assert status(shop, 1) == (200, "replayed")
    assert again[2] == first[2]
    for name in ("Location", "ETag", "Content-Type"):
        assert again[1][name] == first[1][name]


def test_a_cookie_is_never_replayed(shop: Any) -> None:
    assert "Set-Cookie" not in shop["answers"][1][1]
    assert shop["answers"][1][3] == []


def test_raw_bodies_compare_byte_for_byte_and_json_by_value(shop: Any) -> None:
    assert status(shop, 2) == (409, "conflict")
    assert status(shop, 13) == (201, "created")
    assert status(shop, 14) == (200, "replayed")


def test_forms_work_beside_the_csrf_check(shop: Any) -> None:
    for first in (15, 17):
        assert status(shop, first) == (201, "created")
        assert status(shop, first + 1) == (200, "replayed")


def test_the_projects_own_admit_decides_who_calls(shop: Any) -> None:
    assert status(shop, 3) == (201, "created")
    assert status(shop, 4) == (401, None)
    assert shop["answers"][4][2] == "Who are you?"
    headers = shop["answers"][4][1]
    assert headers["Idempotency-Key"] == REQUESTS[4][2]  # so a client knows whose answer it is


def test_failures_leave_nothing_and_free_the_key(shop: Any) -> None:
    assert status(shop, 6) == (500, None)
    assert status(shop, 7) == (422, None)
    assert status(shop, 8) == (201, "created")
    assert shop["orders"] == 6  # requests 0, 3, 8, 13, 15, 17


def test_operations_never_meet(shop: Any) -> None:
    assert status(shop, 9) == (202, "created")
    code, _, body, _ = shop["answers"][19]
    assert (code, json.loads(body)["code"]) == (400, "idempotency_key_operation_mismatch")


def test_methods_are_guarded_as_marked(shop: Any) -> None:
    assert status(shop, 10) == (202, "created")
    assert status(shop, 11) == (409, "conflict")
    assert status(shop, 12) == (202, None)


def test_problems_have_no_type_of_another_project(shop: Any) -> None:
    code, headers, body, _ = shop["answers"][5]
    problem = json.loads(body)
    assert (code, headers["Content-Type"]) == (400, "application/problem+json")
    assert problem["code"] == "idempotency_key_missing"
    assert problem["type"] == "about:blank"


def test_by_default_the_signed_in_user_is_the_principal() -> None:
    request = RequestFactory().post("/")
    request.user = SimpleNamespace(is_authenticated=True, pk=7)  # type: ignore[assignment]
    assert signed_in_user(request, lambda: None) == "7"
    request.user = AnonymousUser()
    refused = signed_in_user(request, lambda: None)
    assert isinstance(refused, HttpResponse)
    assert refused.status_code == 401
