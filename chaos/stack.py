"""A whole deployment to break: PostgreSQL, Valkey, web, workers and beat, and a proxy for the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from chaos.deployment import Deployment
from chaos.postgres import Postgres
from chaos.proxied import Proxied
from fundapi.embedded import run as make_run
from fundapi.embedded.manager import Manager
from fundapi.embedded.reach import temporary_directory
from fundapi.embedded.valkey import Valkey


class Stack(Deployment):
    """A deployment on the embedded services."""

    def __init__(self, directory: Path, database: Path, *, proxied: bool, **env: str) -> None:
        super().__init__(directory)
        self.postgres = Postgres(database, self.account)
        self.postgres.start()
        sockets = directory / "sockets"
        self.account.make_directory(sockets)
        self.valkey = Valkey(self.home, self.account, sockets)
        self.valkey.start()
        self.proxy, self.valkey_proxy = Proxied(self.postgres.socket), Proxied(self.valkey.socket)
        address, broker = self.postgres.url("fundapi", "fundapi"), self.valkey.url
        if proxied:
            address = f"postgres://fundapi@127.0.0.1:{self.proxy.port}/fundapi"
            broker = f"redis://127.0.0.1:{self.valkey_proxy.port}/0"
        # The storm `frozen` does not wait longer than 15 s.
        served = self.environment(address, broker) | {"WATCHDOG_SECONDS": "15"} | env
        self.managers = [Manager(self.home.path, make_run.programs(self.home), env=served, pass_fds=())]
        self.prepare()

    def superuser(self) -> psycopg.Connection:
        return self.postgres.superuser()

    def mend(self) -> None:
        if not self.postgres.running():
            self.postgres.start()
        if not self.valkey.running():
            self.valkey.start()
        self.proxy.say("heal", str(self.postgres.socket))
        self.valkey_proxy.say("heal", str(self.valkey.socket))

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running PostgreSQL."""
        with self.postgres.superuser() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")

    def kill_valkey(self) -> None:
        if self.valkey.server is not None:
            self.valkey.server.kill()
            self.valkey.server.wait()

    def stop(self) -> None:
        super().stop()
        self.proxy.stop()
        self.valkey_proxy.stop()
        self.valkey.stop()
        self.postgres.stop()


@contextmanager
def running(database: Path | None = None, *, proxied: bool = True, **env: str) -> Iterator[Stack]:
    """Start a deployment, and stop it when the context ends.

    Args:
        database: a directory for PostgreSQL alone.
        proxied: the programs reach it through the proxy, which hides the kernel's errors of a lost connection.
        env: more environment variables for the programs.
    """
    with temporary_directory("fundapi-chaos-") as directory:
        stack = Stack(directory, database or directory / "primary", proxied=proxied, **env)
        try:
            stack.heal()
            yield stack
        finally:
            stack.stop()
