"""Several hosts in DATABASE_URL: the server moves to the one that takes writes, and nothing is lost or doubled."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from chaos.postgres import Postgres
from chaos.proxy import Proxy
from fundapi.embedded.processes import service_account
from fundapi.embedded.programs import postgres_directory
from fundapi.embedded.reach import temporary_directory
from tests.conftest import FUND
from tests.eventually import eventually
from tests.servers import manage, running_server

BACK_WITHIN = 10  # s; 0.2 on an idle machine
SILENT_MAX = 6  # s for a connection while the first host is silent: its time-out of 2 s, and a busy day
CONNECT = """
import time
from django.db import connection
from fundapi.models import Fund
began = time.monotonic()
connection.ensure_connection()
print(time.monotonic() - began, Fund.objects.count())
"""


class Hosts:
    """Servers at ports of 127.0.0.1. ``url`` names all of them: each new standby comes first."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self.stack = directory, stack
        self.servers = [
            Postgres(directory / name, service_account()) for name in ("first", "second", "third")
        ]
        self.proxies = [stack.enter_context(Proxy(str(server.socket))) for server in self.servers]
        places = ",".join(f"127.0.0.1:{proxy.port}" for proxy in reversed(self.proxies))
        self.url = f"postgres://fundapi@{places}/fundapi?sslmode=disable"

    def start(self, number: int, primary: int | None = None) -> None:
        if primary is not None:
            self.servers[number].copy_from(self.proxies[primary].port)
        self.stack.callback(self.servers[number].stop)
        self.servers[number].start()
        if primary is not None:
            self.servers[primary].wait_for_standby()

    def configure(self, number: int, name: str, value: str) -> None:
        with self.servers[number].superuser("postgres") as administrator:
            administrator.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            administrator.execute("SELECT pg_reload_conf()")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with temporary_directory("fundapi-hosts-") as directory, ExitStack() as stack:
        yield Hosts(directory, stack)


def printed(hosts: Hosts, *arguments: str, **env: str) -> str:
    run = manage(*arguments, DATABASE_URL=hosts.url, **env)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


class Client:
    """A client that retries each key until it has an answer, and keeps what was answered first."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.answers: dict[str, bytes] = {}

    def create(self) -> float:
        """Create a fund, and return how long that took in seconds."""
        key, began = uuid.uuid4().hex, time.monotonic()
        answer = eventually(lambda: self.send(key), lambda found: found.status_code < 300)
        self.answers[key] = answer.content
        return time.monotonic() - began

    def send(self, key: str) -> httpx.Response:
        answer = self.http.post("/api/funds", json=FUND, headers={"Idempotency-Key": key})
        assert answer.status_code in {200, 201, 503}, answer.text
        return answer

    def sees_what_it_saw(self) -> bool:
        """Return whether each key replays what was answered first."""
        found = {key: self.send(key) for key in self.answers}
        return all((found[key].status_code, found[key].content) == (200, self.answers[key]) for key in found)


def test_the_server_moves_to_the_host_that_takes_writes(hosts: Hosts) -> None:
    """When the primary dies, and when it is made read-only in favour of a standby. A silent host costs seconds."""
    hosts.start(0)
    assert "fundapi.W005" in printed(hosts, "migrate", "--verbosity", "0")
    token = printed(hosts, "create_token", "somebody", "--create").split()[-1]
    hosts.start(1, primary=0)
    hosts.configure(0, "synchronous_standby_names", "*")
    eventually(lambda: "W005" not in printed(hosts, "check", "--database", "default"))
    with running_server(
        workers=1, threads=2, DATABASE_URL=hosts.url, FUND_CREATE_RATE="1000000/second"
    ) as server:
        client = Client(server.url, token)
        hosts.stack.callback(client.http.close)
        for _ in range(20):
            client.create()

        hosts.servers[0].kill()
        hosts.servers[1].promote()
        assert client.create() < BACK_WITHIN
        assert client.sees_what_it_saw()

        hosts.start(2, primary=1)
        client.create()
        hosts.configure(1, "default_transaction_read_only", "on")
        eventually(lambda: client.http.get("/readyz").status_code == 503)
        hosts.servers[2].promote()
        eventually(lambda: client.http.get("/readyz").status_code == 200, timeout=BACK_WITHIN)
        assert client.create() < BACK_WITHIN

        assert client.sees_what_it_saw()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts.url = hosts.url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},")
        seconds, funds = printed(hosts, "shell", "--no-imports", "--command", CONNECT).split()
        assert float(seconds) < SILENT_MAX
        assert int(funds) == len(client.answers)
        path = f"{postgres_directory()}:{os.environ['PATH']}"
        command = ("--no-align", "--tuples-only", "--command", "SHOW transaction_read_only")
        assert printed(hosts, "dbshell", "--", *command, PATH=path).strip() == "off"
        file = str(hosts.directory / "fundapi.dump")
        assert "verified" in printed(hosts, "backup", file, PATH=path)
