"""A PostgreSQL server to restart, kill and fail over, made as the embedded services make theirs."""

import signal
import subprocess
import time
from pathlib import Path

import psycopg

from fundapi.embedded.home import Home
from fundapi.embedded.postgres import Postgres as Embedded
from fundapi.embedded.processes import TIDY, Account, leftovers, signal_all


class Postgres(Embedded):
    """A server with its data directory and socket in ``directory``."""

    def __init__(self, directory: Path, account: Account, **settings: str) -> None:
        home = Home.at(directory)
        home.make()
        sockets = directory / "sockets"
        account.make_directory(sockets)
        super().__init__(home, account, sockets, durable=True)
        self.settings = self.settings | {"max_connections": "60", "log_min_messages": "fatal"} | settings

    @property
    def socket(self) -> Path:
        return self.sockets / ".s.PGSQL.5432"

    def superuser(self, database: str = "fundapi") -> psycopg.Connection:
        return psycopg.connect(self.url("postgres", database), autocommit=True, connect_timeout=5)

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL: a power failure, but the kernel keeps what was written."""
        signal_all(leftovers("postgres", self.home.postgres, self.account), signal.SIGKILL, wait=10)
        if self.server is not None:
            self.server.wait(10)
            self.server = None

    def copy_from(self, port: int) -> None:
        """Make a standby of the primary behind a port of 127.0.0.1, by a base backup."""
        self.account.make_directory(self.home.postgres)
        subprocess.run(
            self.account.command(
                self.programs / "pg_basebackup",
                *("--dbname", f"host=127.0.0.1 port={port} user=postgres"),
                *("--pgdata", str(self.home.postgres), "--write-recovery-conf", "--checkpoint=fast"),
            ),
            check=True,
            env=TIDY,
            cwd=self.home.path,
            **self.account.popen_options(),  # type: ignore[call-overload]  # no overload takes ** of a dict
        )
        self.home.postgres.chmod(0o700)

    def wait_for_standby(self) -> None:
        """Return when a standby follows."""
        with self.superuser() as connection:
            while not connection.execute(
                "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
            ).rowcount:
                time.sleep(0.05)

    def promote(self) -> None:
        """Make a standby the primary, and return when it takes writes."""
        with self.superuser("postgres") as connection:
            connection.execute("SELECT pg_promote(wait => true)")
