"""Whoever follows docs/how-to/install.md in a new project, from the wheels alone, gets what the page promises.

Each Django has a virtualenv, a project of `startproject` and a database of its own. The page says how many lines each
part takes, and here they are counted.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser

from tests.eventually import eventually
from tests.servers import PROJECT, database_url
from tests.wheels import build

PAGE = (PROJECT / "docs/how-to/install.md").read_text()
UV = str(Path(sys.executable).with_name("uv"))
KEPT = ("HOME", "LANG", "PIP_", "SSL_", "UV_", "XDG_")  # variables that say where packages come from
PYTHONS = {"5.2": (3, 11), "6.0": (3, 12)}  # the oldest of each Django
# The project as it is before: a model and its views, and a page.
MODELS = """
from django.db import models


class Order(models.Model):
    item = models.CharField(max_length=100)
"""
VIEWS = """
from django.http import JsonResponse
from django.shortcuts import render
from django.views import View

from shop.models import Order


def created(request):
    order = Order.objects.create(item=request.POST["item"])
    return JsonResponse({"order": order.pk}, status=201)


def create_order(request):
    return created(request)


class Orders(View):
    def post(self, request):
        return created(request)


async def create_later(request):
    order = await Order.objects.acreate(item=request.POST["item"])
    return JsonResponse({"order": order.pk}, status=201)


def checkout(request):
    return render(request, "checkout.html")
"""
URLS = """
from shop import views

urlpatterns += [
    path("orders", views.create_order),
    path("class", views.Orders.as_view()),
    path("later", views.create_later),
    path("checkout", views.checkout),
]
"""
SETTINGS = """
INSTALLED_APPS += ["shop"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "{database}"}}}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
# Operations of django-ninja, beside the views of ``places.py``.
OPERATIONS = """
import uuid

from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.urls import path
from ninja import NinjaAPI, Router, Schema
from ninja.decorators import decorate_view
from ninja.security import HttpBearer

from idempotency import idempotent
from idempotency.contrib.ninja import admit


class Bearer(HttpBearer):
    def authenticate(self, request, token):
        return User.objects.get(username=token)


class Made(Schema):
    id: int


def make():
    return Group.objects.create(name=uuid.uuid4().hex)


api = NinjaAPI(auth=Bearer())
router = Router()


@api.post("/ninja", response={201: Made})
@idempotent(operation="ninja", admit=admit)
def operation(request):
    return 201, make()


@api.post("/ninja-async", response={201: Made})
@idempotent(operation="ninja-async", admit=admit)
async def asynchronous(request):
    return 201, await Group.objects.acreate(name=uuid.uuid4().hex)


@router.post("/ninja-router", response={201: Made})
@idempotent(operation="ninja-router", admit=admit)
def routed(request, response: HttpResponse):
    response["Location"] = "/made"
    return 201, make()


@api.post("/ninja-response")
@idempotent(operation="ninja-response", admit=admit)
def responds(request):
    return api.create_response(request, {"id": make().pk}, status=201)


@api.post("/ninja-decorate", response={201: Made})
@decorate_view(idempotent(operation="ninja-decorate", admit=lambda request, run: "me"))
def decorated(request):
    return 201, make()


api.add_router("", router)
urlpatterns = [path("", api.urls)]
OPERATIONS = "ninja", "ninja-async", "ninja-router", "ninja-response", "ninja-decorate"
ADDRESSES = {name: f"/{name}" for name in OPERATIONS}
"""
PLACES = {"orders": "def create_order", "class": "    def post", "later": "async def create_later"}


def section(title: str) -> list[tuple[str, str]]:
    """Return the blocks of a section of the page, each with its language."""
    text = re.split(r"^## ", PAGE.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```(sh|python|html)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def python_for(django: str) -> str:
    """Return an interpreter that is new enough; skip without one."""
    if sys.version_info >= PYTHONS[django]:
        return sys.executable
    installed = Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3.*[0-9]")
    names = ("python3.14", "python3.13", "python3.12")
    found = [*filter(None, map(shutil.which, names)), *map(str, sorted(installed))]
    for python in found:
        asked = [python, "-c", f"import sys, venv, ensurepip; sys.exit(sys.version_info < {PYTHONS[django]})"]
        if subprocess.run(asked, check=False, capture_output=True).returncode == 0:
            return python
    pytest.skip(
        f"no Python for Django {django}: install Python {'.'.join(map(str, PYTHONS[django]))} or newer"
    )


def is_up(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/checkout").status_code == 200
    return False


class Adopter:
    """A new project in a virtualenv with nothing but Django, and whoever adds the lines of the page to it."""

    def __init__(self, folder: Path, django: str, wheels: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.bin = folder / "venv" / "bin"
        url = urlsplit(database_url("postgres"))
        self.database = f"shop_{django.replace('.', '_')}"
        self.env = {
            **{
                name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME", "LANG"))
            },
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "UV_NATIVE_TLS": "1",  # trust what the machine trusts, as pip does
            "VIRTUAL_ENV": str(self.bin.parent),
            "UV_FIND_LINKS": f"{wheels},{os.environ.get('UV_FIND_LINKS', '')}".strip(","),
            "DJANGO_SUPERUSER_PASSWORD": "owner",
            "PGUSER": url.username or "",
            "PGPASSWORD": url.password or "",
            "PGHOST": url.hostname or parse_qs(url.query)["host"][0],
            "PGPORT": str(url.port or ""),
        }
        self.lines: dict[str, int] = {}
        with psycopg.connect(database_url("postgres"), autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.database}")
            server.execute(f"CREATE DATABASE {self.database}")
        self.run(f"{UV} venv --quiet --python {python_for(django)} {self.bin.parent}")
        self.run(f"pip install 'django~={django}.0' 'psycopg[binary]'")
        self.run("django-admin startproject shop .")
        shop = self.folder / "shop"
        (shop / "models.py").write_text(MODELS)
        (shop / "views.py").write_text(VIEWS)
        (shop / "templates").mkdir()
        (shop / "templates" / "checkout.html").write_text(
            "<!doctype html><title>Checkout</title><body data-view={{ new }}>\n"
        )
        self.append("shop/urls.py", URLS)
        self.append("shop/settings.py", SETTINGS.format(database=self.database))
        self.run("python manage.py makemigrations shop")

    def run(self, command: str, **options: Any) -> str:
        words = shlex.split(command)
        if words[0] == "pip":  # by uv, which does the same in a tenth of the time
            words[:1] = [UV, "pip"]
        ended = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == options.get("returncode", 0), f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def follow(self, title: str) -> None:
        """Do what a section says, and count its lines of code: neither comments nor blank ones."""
        added = 0
        for language, block in section(title):
            if language == "sh":
                for command in block.splitlines():
                    self.run(command)
                continue
            added += self._add(block)
        self.lines[title] = added

    def _add(self, block: str) -> int:
        first, _, rest = block.partition("\n")
        name = first.strip("<!-#> ")
        if "@idempotent" in rest:
            return self._mark(rest)
        self.append(name, "\n" + rest)
        return sum(bool(line.strip()) for line in rest.splitlines())

    def _mark(self, rest: str) -> int:
        """Put the mark of the page on every place, each under an operation of its own."""
        imported, mark = (line for line in rest.splitlines() if line.startswith(("from", "@")))
        path = self.folder / "shop/views.py"
        text = f"{imported}\n{path.read_text()}"
        for place, above in PLACES.items():
            indent = " " * (len(above) - len(above.lstrip()))
            marked = mark.replace("order-create", f"order-{place}")
            assert f"\n{above}" in text
            text = text.replace(f"\n{above}", f"\n{indent}{marked}\n{above}")
        path.write_text(text)
        return 2

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        """Serve the project as `runserver` does, and return a browser that has signed in."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(self.bin / "python"), "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=30) as client,
        ):
            try:
                eventually(partial(is_up, client))
                page = client.get("/admin/login/")
                form = {
                    "username": "owner",
                    "password": "owner",
                    "csrfmiddlewaretoken": client.cookies["csrftoken"],
                }
                page = client.post("/admin/login/", data=form)
                assert "sessionid" in client.cookies, page.text
                client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
                yield client
            finally:
                process.terminate()

    def places(self, mode: str) -> dict[str, Any]:
        """Return what each place of a mark did, in a project with Django REST framework and django-ninja."""
        self.run("pip install 'fundapi-idempotency[drf]' 'psycopg[binary]' django-ninja")
        shutil.copy(PROJECT / "tests/idempotency/places.py", self.folder)
        (self.folder / "operations.py").write_text(OPERATIONS)
        url = urlsplit(database_url(self.database))._replace(query="").geturl()
        return json.loads(  # type: ignore[no-any-return]
            self.run(f"python -W ignore places.py {url} {self.env['PGHOST']} {mode} operations").splitlines()[
                -1
            ]
        )

    def rows(self) -> int:
        with psycopg.connect(database_url(self.database)) as database:
            [count] = database.execute("SELECT count(*) FROM shop_order").fetchone() or ()
            return int(count)

    def tables(self, prefix: str) -> list[str]:
        with psycopg.connect(database_url(self.database)) as database:
            names = database.execute(
                "SELECT tablename FROM pg_tables WHERE starts_with(tablename, %s)", [prefix]
            )
            return [name for (name,) in names]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of each app."""
    folder = tmp_path_factory.mktemp("wheels")
    for app in ("idempotency", "rollout"):
        wheel = build(PROJECT / app, tmp_path_factory.mktemp(app))
        shutil.copy(wheel, folder)
    return folder


@pytest.fixture(scope="module", params=PYTHONS)
def adopter(
    request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Adopter:
    return Adopter(tmp_path_factory.mktemp("project"), request.param, wheels)


def test_every_line_of_the_page(adopter: Adopter, browser: Browser) -> None:
    """Two POSTs make one row, wherever the mark stands; a flag is on in a browser; missing extras are named."""
    adopter.follow("Idempotency keys")
    adopter.run("python manage.py createsuperuser --noinput --username owner --email owner@example.com")
    with adopter.served() as client:
        for number, place in enumerate(PLACES, 1):
            answers = [
                client.post(f"/{place}", data={"item": "lamp"}, headers={"Idempotency-Key": "k1"})
                for _ in "12"
            ]
            assert [answer.status_code for answer in answers] == [201, 200], answers[0].text
            assert answers[0].content == answers[1].content
            assert adopter.rows() == number
        assert client.get("/admin/idempotency/idempotencykey/").status_code == 200

    adopter.follow("Rollouts")
    assert "pip install 'fundapi-rollout[judge]'" in adopter.run(
        "python manage.py check_rollouts", returncode=2
    )
    with adopter.served() as client:
        assert client.get("/admin/rollout/rollout/").status_code == 200
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{client.base_url}/checkout")
            page.wait_for_selector("body[data-view=True][data-checkout=new] p:text('The new checkout')")

    adopter.follow("The judge")
    adopter.follow("The look of the admin")
    with adopter.served() as client:
        form = client.get("/admin/rollout/rollout/add/")
        assert form.status_code == 200
        assert "unfold/css" in form.text
        assert client.get("/admin/rollout/rollout/").status_code == 200
    for title, lines in adopter.lines.items():
        slug = title.lower().replace(" ", "-")
        assert f"- [{title}](#{slug}): {lines} line{'s' * (lines > 1)} of code\n" in PAGE, adopter.lines

    adopter.follow("Remove an app")
    assert not adopter.tables("idempotency_") + adopter.tables("rollout_")


@pytest.mark.parametrize("mode", ["wsgi", "asgi"])
def test_two_requests_make_one_row_wherever_a_mark_stands(adopter: Adopter, mode: str) -> None:
    """And the second gets the first one's answer; a third with other content is a conflict."""
    tried = adopter.places(mode)
    assert {"ViewSet.create", "above action", "below api_view", "partial", "ninja-router"} <= set(tried)
    for place in set(tried) - {"nobody", "unguarded", "/raises", "/api-raises"}:
        outcome = tried[place]
        assert (outcome["statuses"], outcome["rows"], outcome["same"]) == ([201, 200, 409], 1, True), place
