"""``pytest --nomigrations`` in another project: tables of models have what only migrations make."""

import json
import os
from pathlib import Path

from django.db import connection

from tests.new_project import run_in
from tests.servers import database_url

ADDED = """
from urllib.parse import parse_qs, urlsplit

url = urlsplit({url!r})
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": parse_qs(url.query).get("host", [url.hostname or ""])[0],
        "PORT": url.port or "",
        "TEST": {{"NAME": "without_migrations_{process}"}},
    }}
}}
INSTALLED_APPS += ["django.contrib.postgres", "rest_framework", "rollout"]
ROOT_URLCONF = "test_shop"
"""
# What the models' tables have, by the database's own words.
SCHEMA = """
SELECT 'sequence', relname, '' FROM pg_class WHERE relkind = 'S' AND relname LIKE 'rollout\\_%'
UNION ALL SELECT 'index', tablename, indexdef FROM pg_indexes WHERE tablename LIKE 'rollout\\_%'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE conrelid::regclass::text LIKE 'rollout\\_%'
UNION ALL SELECT 'column', table_name, concat_ws(' ', column_name, data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_name LIKE 'rollout\\_%'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname
    FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'rollout\\_%'
UNION ALL SELECT 'function', proname, pg_get_functiondef(oid)
    FROM pg_proc WHERE prokind = 'f' AND proname LIKE 'rollout\\_%'
"""
TESTS = """
import json
import uuid
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection
from django.urls import include, path
from django.utils import timezone

from rollout import flag_is_active, operations, store
from rollout.api.telemetry import TelemetryView
from rollout.models import Check, Incident, Rollout
from rollout.purge import purge
from rollout.tick import tick

urlpatterns = [path("", include("rollout.urls")), path("api/telemetry", TelemetryView.as_view())]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("again", [False, True])  # after a flush
def test_a_rollout(client, again):
    assert flag_is_active(None, "NEW_CHECKOUT") is False
    operations.create("NEW_CHECKOUT", reason="first users")
    operations.set_percentage("NEW_CHECKOUT", Decimal(10), reason="first users")
    event = {"id": "1", "event": "heartbeat", "flag": "NEW_CHECKOUT", "variant": "on"}
    batch = {"clientId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4()), "events": [event]}
    answer = client.post("/api/telemetry", batch, content_type="application/json")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    [check] = tick()
    Incident.objects.create(
        rollout=Rollout.objects.get(),
        check_made=check,
        stage=1,
        began_at=timezone.now(),
        tripped_at=timezone.now(),
        percentage=10,
        rolled_back=True,
        reason="",
    )
    Check.objects.update(at=timezone.now() - timedelta(days=400))
    purge()
    assert not Check.objects.exists()
    assert Incident.objects.get().check_made is None


@pytest.mark.django_db
def test_the_schema():
    with connection.cursor() as cursor:
        cursor.execute(Path("schema.sql").read_text())
        Path("schema.json").write_text(json.dumps(cursor.fetchall()))
"""


def test_a_project_without_migrations_has_the_whole_schema(database: None, tmp_path: Path) -> None:
    """Flags are asked, telemetry is stored, a check is made and purged, also after a flush."""
    added = ADDED.format(url=database_url(), process=os.getpid())
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "schema.sql").write_text(SCHEMA)
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--nomigrations", "test_shop.py")
    ended = run_in(tmp_path, *words, settings=added)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        migrated = set(cursor.fetchall())
    made = {tuple(row) for row in json.loads((tmp_path / "schema.json").read_text())}
    assert len(made) > 100
    assert made ^ migrated == set()
