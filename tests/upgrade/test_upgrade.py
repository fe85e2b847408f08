"""A database that an earlier version has used goes on: its keys, tokens, rollouts, checks and pages."""

import html
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from django.conf import settings
from django.db import connections

from fundapi.embedded.programs import postgres_directory
from rollout.judge.decision import Decision
from rollout.judge.policy import Policy
from rollout.models import Alert, Check, Incident, Rollout, TelemetryEvent
from rollout.release.monitor import observe
from rollout.tick import EarlierRules, replay
from tests.servers import PROJECT, Server, database_url, running_server

VERSION = Path(__file__).with_name("6ade8de.sql")
ANSWERS: dict[str, Any] = json.loads(VERSION.with_suffix(".json").read_text())
FEATURE = "USE_FUND_STORE"
# The migrations that an upgrade from 6ade8de runs. Each has to be safe under load: docs/how-to/migrations.md.
MIGRATIONS = {
    ("idempotency", "0003_headers"),
    ("idempotency", "0004_stored_errors"),
    ("idempotency", "0005_origin"),
    ("rollout", "0007_voices"),
    ("rollout", "0008_alert_skipped"),
    ("rollout", "0009_purged_checks"),
    ("rollout", "0010_people"),
    ("rollout", "0011_roles"),
    ("rollout", "0012_words"),
    ("rollout", "0013_notes"),
}
ALIAS = "upgraded"


def applied(url: str) -> set[tuple[str, str]]:
    with psycopg.connect(url) as database:
        return set(database.execute("SELECT app, name FROM django_migrations").fetchall())


class Upgraded:
    """The database of the earlier version after ``migrate``, and a server on it."""

    def __init__(self, server: Server, migrations: set[tuple[str, str]]) -> None:
        self.server = server
        self.migrations = migrations

    def post(self, fund: dict[str, Any], **headers: str) -> httpx.Response:
        always = {"Authorization": f"Bearer {ANSWERS['token']}", "Content-Type": "application/json"}
        content = fund["sent"].encode()
        return httpx.post(
            f"{self.server.url}/api/funds",
            content=content,
            headers=always | {"Idempotency-Key": fund["key"]} | headers,
        )


@pytest.fixture(scope="module")
def admin(upgraded: Upgraded) -> Iterator[httpx.Client]:
    """A browser that has signed in to the admin with the password of then."""
    with httpx.Client(base_url=upgraded.server.url, follow_redirects=True, timeout=30) as browser:
        browser.get("/admin/login/")
        form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "next": "/admin/"}
        page = browser.post(
            "/admin/login/", data=form | {"username": "admin", "password": ANSWERS["password"]}
        )
        assert page.status_code == 200
        assert "sessionid" in browser.cookies
        yield browser


@pytest.fixture(scope="module")
def upgraded(database: None) -> Iterator[Upgraded]:
    name = f"upgrade_{uuid.uuid4().hex[:8]}"
    url = database_url(name)
    with psycopg.connect(database_url(), autocommit=True) as home:
        home.execute(f"CREATE DATABASE {name}")
        psql = [
            str(postgres_directory() / "psql"),
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--file={VERSION}",
            url,
        ]
        subprocess.run(psql, check=True, stdout=subprocess.DEVNULL)
        before = applied(url)
        environment: dict[str, Any] = {"DATABASE_URL": url, "ENVIRONMENT": "dev"}
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity=0"],
            check=True,
            cwd=PROJECT,
            env=os.environ | environment,
        )
        connections.settings[ALIAS] = settings.DATABASES["default"] | {"NAME": name}
        with running_server(workers=1, **environment) as server:
            yield Upgraded(server, applied(url) - before)
        connections[ALIAS].close()
        del connections.settings[ALIAS]
        home.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_upgrade_runs_the_migrations_that_are_named_here(upgraded: Upgraded) -> None:
    assert upgraded.migrations == MIGRATIONS


@pytest.mark.parametrize("fund", ANSWERS["funds"], ids=lambda fund: fund["key"])
def test_a_key_of_the_earlier_version_replays_byte_for_byte(upgraded: Upgraded, fund: dict[str, Any]) -> None:
    answer = upgraded.post(fund)
    assert (answer.status_code, answer.headers["Idempotency-Status"]) == (200, "replayed")
    assert answer.content == fund["body"].encode()
    assert answer.headers["Location"] == fund["location"]
    assert httpx.get(upgraded.server.url + fund["location"]).status_code == 401


def test_a_used_key_still_refuses_other_content(upgraded: Upgraded) -> None:
    first, other = ANSWERS["funds"][:2]
    answer = upgraded.post(other, **{"Idempotency-Key": first["key"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_a_new_fund_comes_after_those_that_are_there(upgraded: Upgraded) -> None:
    answer = upgraded.post(ANSWERS["funds"][0], **{"Idempotency-Key": uuid.uuid4().hex})
    assert answer.status_code == 201
    assert answer.json()["id"] > len(ANSWERS["funds"])


def test_browsers_read_the_same_configuration(upgraded: Upgraded) -> None:
    assert httpx.get(f"{upgraded.server.url}/api/rollouts").json() == ANSWERS["rollouts"]


def test_each_check_is_read_and_not_decided_again_by_other_rules(upgraded: Upgraded) -> None:
    checks = list(Check.objects.using(ALIAS).exclude(decision__has_key="thresholds").order_by("pk"))
    assert [check.signal for check in checks] == ["green", "red", "red", "red", "hold", "yellow"]
    for check in checks:
        stored = msgspec.convert(check.decision, Decision, strict=False)
        assert (stored.signal, stored.action, len(stored.cells)) == (check.signal, check.action, 4)
        with pytest.raises(EarlierRules):
            replay(check)
        seen = observe(check, Policy(error_threshold=1))
        assert (seen.signal, seen.says, seen.silent) == (check.signal, check.decision["reason"], False)


@pytest.mark.parametrize("model", [Rollout, Check, Incident, Alert, TelemetryEvent])
def test_each_page_of_the_admin_shows_what_was_recorded(
    upgraded: Upgraded, admin: httpx.Client, model: Any
) -> None:
    label = model._meta.label_lower.replace(".", "/")
    assert admin.get(f"/admin/{label}/").status_code == 200
    records = model.objects.using(ALIAS).all()[:10]
    assert records
    for record in records:
        page = admin.get(f"/admin/{label}/{record.pk}/change/")
        assert page.status_code == 200
        assert "Another version stored" not in page.text


def test_a_check_of_the_earlier_version_is_shown_in_its_own_words_and_says_so(
    upgraded: Upgraded, admin: httpx.Client
) -> None:
    checks = Check.objects.using(ALIAS).exclude(decision__has_key="thresholds")
    assert checks
    for check in checks:
        page = html.unescape(admin.get(f"/admin/rollout/check/{check.pk}/change/").text)
        assert "Decided by the rules of an earlier version." in page
        for cell in check.decision["cells"]:
            assert f'<span class="value">{cell["says"]}</span>' in page


def test_the_history_of_the_rollout_says_who_did_what(upgraded: Upgraded, admin: httpx.Client) -> None:
    rollout = Rollout.objects.using(ALIAS).get(feature=FEATURE)
    history = admin.get(f"/admin/rollout/rollout/{rollout.pk}/history/").text
    assert "once more" in history
    assert "the judge" in history


def test_the_judge_goes_on_with_the_stage(upgraded: Upgraded) -> None:
    before = Check.objects.using(ALIAS).count()
    subprocess.run(
        [sys.executable, "manage.py", "check_rollouts"],
        check=True,
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": database_url(str(connections[ALIAS].settings_dict["NAME"]))},
    )
    check = Check.objects.using(ALIAS).latest("pk")
    assert Check.objects.using(ALIAS).count() == before + 1
    assert check.decision["carry"]["totals"]["succeeded"] == 24
