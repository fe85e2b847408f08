"""The services of a measurement: a private PostgreSQL and Valkey, a migrated database, a user's token."""

import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import sql

from fundapi.embedded import services
from fundapi.embedded.programs import postgres_directory, valkey_server
from fundapi.embedded.reach import temporary_directory
from fundapi.variables import exit_with

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent
PACKAGES = ("django", "djangorestframework", "django-rest-knox", "granian", "psycopg", "msgspec")


@dataclass(frozen=True)
class Stack:
    """The running services, and the environment in which a program finds them."""

    home: Path
    environ: Mapping[str, str]
    database_url: str
    superuser_url: str  # of the same database
    redis_url: str

    def manage(self, *arguments: str) -> str:
        """Run a management command of the project and return what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environ, check=False, capture_output=True, text=True
        )
        exit_with(done)
        done.check_returncode()
        return done.stdout.strip()

    def token(self, username: str = "bench") -> str:
        """Return a new token of a user who may create funds."""
        return self.manage("create_token", username, "--create")

    def copied(self, name: str) -> "Stack":
        """Return the same services with a copy of the database, which must have no other connection."""
        source = urlsplit(self.superuser_url).path[1:]
        copy = sql.Identifier(name)
        with psycopg.connect(_in_database(self.superuser_url, "postgres"), autocommit=True) as connection:
            made = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER fundapi")
            connection.execute(made.format(copy, sql.Identifier(source)))
            connection.execute(sql.SQL("ALTER DATABASE {} SET pg_stat_statements.track = none").format(copy))
        database_url = _in_database(self.database_url, name)
        return replace(
            self,
            environ={**self.environ, "DATABASE_URL": database_url},
            database_url=database_url,
            superuser_url=_in_database(self.superuser_url, name),
        )

    def behind(self, *, postgres: int, valkey: int) -> "Stack":
        """Return the same services as programs reach them at these ports of 127.0.0.1."""
        database_url = f"postgres://fundapi@127.0.0.1:{postgres}/fundapi"
        addresses = {"DATABASE_URL": database_url, "REDIS_URL": f"redis://127.0.0.1:{valkey}/0"}
        return replace(self, environ={**self.environ, **addresses}, database_url=database_url)

    def sockets(self) -> tuple[Path, Path]:
        """Return the sockets of PostgreSQL and Valkey."""
        return self.home / "sockets/.s.PGSQL.5432", self.home / "sockets/valkey.sock"

    def drop(self) -> None:
        """Drop this copy of the database, and end its connections."""
        name = sql.Identifier(urlsplit(self.superuser_url).path[1:])
        with psycopg.connect(_in_database(self.superuser_url, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def postmaster(self) -> int:
        """Return the process id of PostgreSQL, whose children serve the connections."""
        with self.superuser() as connection:
            return psutil.Process(connection.info.backend_pid).ppid()

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """Open a superuser's connection, each statement a transaction of its own."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            yield connection


@contextmanager
def stack(settings: str = "benchmarks.settings") -> Iterator[Stack]:
    """Start everything for Django's `settings`, and leave nothing behind.

    The services are always private, whatever DATABASE_URL says: some measurements write millions of rows.
    """
    with temporary_directory("fundapi-bench-") as home:
        with services(home, environ={}) as found:
            _preload_statistics(str(found.superuser_url))
        with services(home, environ={}) as found:
            made = Stack(
                home,
                _environment(home, settings, found.database_url, found.redis_url),
                found.database_url,
                _in_database(str(found.superuser_url), "fundapi"),
                found.redis_url,
            )
            with made.superuser() as connection:
                connection.execute("CREATE EXTENSION pg_stat_statements")
                connection.execute("ALTER DATABASE fundapi SET pg_stat_statements.track = none")
            made.manage("migrate", "--verbosity", "0")
            yield made


def _in_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _preload_statistics(superuser_url: str) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")


def _environment(home: Path, settings: str, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRANIAN_")},
        "FUNDAPI_HOME": str(home),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DJANGO_SETTINGS_MODULE": settings,
        "LOG_LEVEL": "INFO",
    }


def machine() -> dict[str, str]:
    """Return the machine and the versions of the measurement."""
    memory = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    commit = _git("describe", "--always")
    # Not for the reports of runs before this one.
    if _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/*.md", ":!benchmarks/*.json"
    ):
        commit += "-dirty"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}",
        "load before (1, 5, 15 min)": load,
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "postgresql": _said_by(postgres_directory() / "postgres", "--version"),
        "valkey": _said_by(valkey_server(), "--version"),
        **{package: version(package) for package in PACKAGES},
    }


def _git(*arguments: str) -> str:
    """Return what git prints; nothing where there is no git, or no repository."""
    with suppress(OSError):
        return subprocess.run(
            ["git", *arguments], cwd=PROJECT, check=False, capture_output=True, text=True
        ).stdout.strip()
    return ""


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _said_by(program: Path, argument: str) -> str:
    return subprocess.check_output([program, argument], text=True).strip()
