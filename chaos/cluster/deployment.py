"""Two web servers, workers and beat on a cluster, with one Valkey."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.servers import free_port
from chaos.cluster.engines import ROLE, Engines
from chaos.deployment import Deployment
from fundapi.embedded import run as make_run
from fundapi.embedded.home import EmbeddedError
from fundapi.embedded.manager import Manager, Program
from fundapi.embedded.manager import say as say_on_stderr
from fundapi.embedded.processes import leftovers, signal_all
from fundapi.embedded.reach import temporary_directory
from fundapi.embedded.valkey import Valkey

START_TIMEOUT = 120  # s until all nodes follow a new leader; a busy machine copies slowly
WEB_SERVERS = 2


class Cluster(Deployment):
    """fundapi on a cluster in one directory. ``port`` is HAProxy's, before the web servers."""

    def __init__(
        self,
        directory: Path,
        *,
        synchronous: bool,
        linked: bool,
        port: int | None,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(directory)
        self.say = say
        self.port = port or self.port
        self.web_ports = [free_port() for _ in range(WEB_SERVERS)]
        self.engines = Engines(
            directory,
            self.account,
            synchronous=synchronous,
            linked=linked,
            web_port=self.port,
            web_servers=self.web_ports,
        )
        sockets = directory / "sockets"
        self.account.make_directory(sockets)
        self.valkey = Valkey(self.home, self.account, sockets)

    def start(self) -> Iterator[str]:
        """Start everything, and yield what is being waited for."""
        env = self.environment(self.engines.database_url, self.valkey.url)
        env |= {"DATABASE_TRANSACTION_POOLING": "on", "WEB_CONCURRENCY": "1"}
        self.valkey.start()
        for layer in self.engines.layers():
            self._run(layer, env)
        yield "three nodes of etcd, Patroni and PostgreSQL"
        self.wait_for_nodes()
        yield "the database, through PgBouncer"
        self.engines.make_database()
        self._run(self._applications(), env)
        self.prepare()
        yield "two web servers, workers and beat"
        self.look_after()
        self._wait(lambda: make_run.answers(self.port), "no web server is ready")

    def look_after(self, seconds: float = 0.0) -> None:
        if not self.valkey.running():
            self.say("valkey ended; starting it again")
            self.valkey.start()
        super().look_after(seconds)

    def _run(self, programs: list[Program], env: dict[str, str]) -> None:
        manager = Manager(self.home.path, programs, env=env, pass_fds=())
        manager.say = self.say
        self.managers.append(manager)

    def wait_for_nodes(self) -> None:
        """Return when there is a leader, and all other nodes follow it. Raises EmbeddedError."""
        self._wait(self.engines.complete, "the nodes do not follow a leader")

    def _applications(self) -> list[Program]:
        _, *others = make_run.programs(self.home)
        servers = []
        for number, port in enumerate(self.web_ports, start=1):
            metrics = self.home.run / f"metrics-{number}"
            metrics.mkdir()
            own = (f"PORT={port}", f"PROMETHEUS_MULTIPROC_DIR={metrics}")
            servers.append(
                Program(f"web{number}", ["env", *own, sys.executable, "-m", "fundapi.web.serve"], remind=True)
            )
        return [*servers, *others]

    def _wait(self, done: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not done():
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{complaint} after {START_TIMEOUT} s; see {self.engines.logs}")
            self.look_after(0.1)

    def superuser(self) -> psycopg.Connection:
        leader = self.engines.the_leader()
        return psycopg.connect(leader.url(database=ROLE), autocommit=True, connect_timeout=5)

    def mend(self) -> None:
        for node in self.engines.nodes:
            if node.network:
                node.network.say("heal")
        self.wait_for_nodes()

    def stop(self) -> None:
        """Kill everything: its data is going to be removed. SIGQUIT lets PostgreSQL free its shared memory."""
        self.kill_programs(*(program.name for manager in self.managers for program in manager.programs))
        super().stop()
        self.valkey.stop()
        for node in self.engines.nodes:
            if node.network:
                node.network.stop()
            for number in (signal.SIGQUIT, signal.SIGKILL):
                signal_all(leftovers("postgres", node.data, self.account), number, wait=5)


@contextmanager
def cluster(
    *,
    synchronous: bool = True,
    linked: bool = False,
    port: int | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> Iterator[Cluster]:
    """Make a cluster in a temporary directory; stop and remove it when the context ends.

    Args:
        synchronous: a COMMIT waits for a second node.
        linked: a proxy is between each node and the rest, which can cut it off.
        port: of 127.0.0.1, for HTTP (default: a free one).
        say: is called with what ended, and is started again.
    """
    with temporary_directory("fundapi-cluster-") as directory:
        made = Cluster(directory, synchronous=synchronous, linked=linked, port=port, say=say)
        try:
            yield made
        finally:
            made.stop()
