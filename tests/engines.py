"""Debian programs that some tests run for real. Without them tests are skipped; REQUIRE_ENGINES=1: they fail."""

import os
import shutil

import pytest

# Debian keeps servers where only root's PATH looks, and PostgreSQL's by version.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/lib/postgresql/15/bin"
PACKAGES = {
    "check_pgbackrest": "check-pgbackrest",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "initdb": "postgresql-15",
    "kubectl": "kubernetes-client",
    "pgbackrest": "pgbackrest",
    "pgbouncer": "pgbouncer",
    "redis-sentinel": "redis-sentinel",
    "systemd-analyze": "systemd",
}


def engine(name: str) -> str:
    """Return the path of a program, or skip the test with the command that installs it."""
    program = shutil.which(name, path=PATH)
    if program is None:
        missing = f"there is no {name}: apt-get install {PACKAGES[name]}"
        if os.environ.get("REQUIRE_ENGINES") == "1":
            pytest.fail(f"REQUIRE_ENGINES=1, and {missing}")
        pytest.skip(missing)
    return program
