"""Allowed imports, and the places of modules (design §1)."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.servers import PROJECT

CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def lint_imports(directory: Path, config: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(config)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_imports_point_the_allowed_way() -> None:
    run = lint_imports(PROJECT, PROJECT / "pyproject.toml")
    assert run.returncode == 0, run.stdout
    assert " 0 broken" in run.stdout


def test_the_contracts_forbid_what_the_design_forbids() -> None:
    forbidden = {
        (source, target)
        for contract in CONFIG["tool"]["importlinter"]["contracts"]
        if contract["type"] == "forbidden"
        for source in contract["source_modules"]
        for target in contract["forbidden_modules"]
    }
    assert {("idempotency", "fundapi"), ("idempotency", "rest_framework")} <= forbidden
    pure = {"idempotency.keys", "idempotency.fingerprint", "idempotency.preferences"}
    assert {(module, "django") for module in pure} <= forbidden
    if (PROJECT / "rollout").is_dir():
        assert {("idempotency", "rollout"), ("rollout", "idempotency"), ("rollout", "fundapi")} <= forbidden


@pytest.mark.parametrize(
    "place", ["manage.py", "pyproject.toml", "fundapi", "idempotency", "tests", "docker-compose.yml"]
)
def test_the_top_level_is_as_agreed(place: str) -> None:
    assert (PROJECT / place).exists()


def test_sql_of_the_app_lives_in_its_store_and_its_migrations() -> None:
    """The middleware, the protocol and the rest call functions; they hold no statement."""
    words = ("SELECT ", "INSERT INTO", "DELETE FROM", "UPDATE idempotency", ".cursor(", ".raw(", "RunSQL")
    for path in (PROJECT / "idempotency").glob("*.py"):
        if path.name != "store.py":
            text = path.read_text()
            found = [word for word in words if word in text]
            assert found == ([".cursor("] if path.name == "wire.py" else []), path


def test_only_settings_read_the_environment() -> None:
    allowed = {
        "fundapi/metric_files.py",  # prometheus-client's own switch
        "fundapi/variables.py",  # reads all of it for the settings
        "fundapi/watchdog.py",  # systemd's NOTIFY_SOCKET
        "fundapi/web/serve.py",  # becomes the server; runs before Django
        "fundapi/maintenance/backup.py",  # hands PATH and libpq's variables on to pg_dump, and nothing else
        "fundapi/management/commands/dbshell.py",  # hands libpq's variables on to psql
        "fundapi/web/tracing.py",  # hands variables on to OpenTelemetry's SDK
    }
    for package in ("fundapi", "idempotency"):
        for path in (PROJECT / package).rglob("*.py"):
            name = str(path.relative_to(PROJECT))
            if name not in allowed and not name.startswith("fundapi/embedded/"):
                text = path.read_text()
                assert "os.environ" not in text, name
                assert "getenv" not in text, name


def test_the_app_brings_its_own_migrations_and_no_other_app_has_its_tables() -> None:
    assert (PROJECT / "idempotency" / "migrations" / "0001_initial.py").is_file()
    for path in (PROJECT / "fundapi" / "migrations").glob("*.py"):
        assert "idempotency_store" not in path.read_text()
