"""Three nodes of etcd, Patroni and PostgreSQL, HAProxy before them, and PgBouncer between it and the web servers."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from string import Template
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.servers import free_port
from chaos.proxied import Proxied
from fundapi.embedded.home import PROJECT, EmbeddedError
from fundapi.embedded.manager import Program
from fundapi.embedded.processes import Account
from fundapi.embedded.programs import postgres_directory

CONFIGURATION = PROJECT / "deploy" / "cluster"
# Debian keeps servers where only root's PATH looks.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
PACKAGES = {"etcd": "etcd-server", "haproxy": "haproxy", "pgbouncer": "pgbouncer"}
NODES = 3
ROLE = "fundapi"
API_TIMEOUT = 2  # s for an answer of Patroni
CHANGE_TIMEOUT = 60  # s for an answer that waits for a change
# A transaction pooler refuses start-up options, so the time-outs of sessions belong to the role.
ROLE_SETTINGS = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "client_min_messages": "warning",
    "log_parameter_max_length_on_error": "0",
}


class MissingEngine(EmbeddedError):
    """An engine is not installed."""


def require_programs() -> None:
    """Raise MissingEngine, with the command that installs them, unless every engine is there."""
    missing = [package for name, package in PACKAGES.items() if shutil.which(name, path=PATH) is None]
    if missing:
        raise MissingEngine(
            f"the cluster needs {', '.join(missing)}: apt-get install --no-install-recommends {' '.join(missing)}"
        )


@dataclass(frozen=True)
class Node:
    """A node: etcd, Patroni and its PostgreSQL. A *link* is a port behind which the rest of the cluster is reached.

    ``link`` and ``api_link``: of its PostgreSQL and Patroni, for the others. ``etcd_links``: of all etcds, for itself.
    """

    name: str
    directory: Path
    etcd: int
    etcd_peers: int
    api: int
    port: int
    link: int
    api_link: int
    etcd_links: Sequence[int]
    network: Proxied | None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def url(self, role: str = "postgres", database: str = "postgres") -> str:
        """Return the address of its PostgreSQL, through the socket that no proxy and no fault reaches."""
        return f"postgres://{role}@/{database}?host={self.directory}&port={self.port}"


@dataclass(frozen=True)
class Member:
    """A node as Patroni sees it: ``role`` is leader, sync_standby or replica; ``lag`` in bytes."""

    name: str
    role: str
    state: str
    lag: int | str

    @property
    def follows(self) -> bool:
        return self.state in {"streaming", "running"} and self.role != "leader"


class Engines:
    """The engines of a cluster in a directory, as programs to keep running."""

    def __init__(
        self,
        directory: Path,
        account: Account,
        *,
        synchronous: bool,
        linked: bool,
        web_port: int,
        web_servers: Sequence[int],
    ) -> None:
        require_programs()
        self.directory = directory
        self.account = account
        self.logs = directory / "logs"
        self.logs.mkdir(exist_ok=True)
        self.synchronous = synchronous
        self.password = secrets.token_urlsafe(24)
        self.leader_port, self.pool_port = free_port(), free_port()
        self.nodes = list(self._nodes(linked=linked))
        self._configure(web_port, web_servers)

    def _nodes(self, *, linked: bool) -> Iterator[Node]:
        etcds = [free_port() for _ in range(NODES)]
        for number, etcd in enumerate(etcds, start=1):
            directory = self.directory / f"node{number}"
            self.account.make_directory(directory)
            port, api = free_port(), free_port()
            ports = [port, api, *etcds]
            network = Proxied(*(f"127.0.0.1:{each}" for each in ports)) if linked else None
            link, api_link, *etcd_links = network.ports if network else ports
            yield Node(
                directory.name, directory, etcd, free_port(), api, port, link, api_link, etcd_links, network
            )

    def _configure(self, web_port: int, web_servers: Sequence[int]) -> None:
        common = {
            "synchronous": str(self.synchronous).lower(),
            "programs": postgres_directory(self.account),
            "password": self.password,
        }
        for node in self.nodes:
            etcd = ", ".join(f"127.0.0.1:{port}" for port in node.etcd_links)
            own = {"etcd": etcd, "linked": str(node.network is not None).lower()}
            self._write("patroni.yml", node.directory, vars(node) | common | own)
        check = "    server {} 127.0.0.1:{} check port {}"
        self._write(
            "haproxy.cfg",
            self.directory,
            {
                "leader": self.leader_port,
                "web": web_port,
                "nodes": "\n".join(check.format(node.name, node.link, node.api_link) for node in self.nodes),
                "servers": "\n".join(f"    server web{port} 127.0.0.1:{port} check" for port in web_servers),
            },
        )
        pooler = self.directory / "pgbouncer"
        self.account.make_directory(pooler)
        self._write(
            "pgbouncer.ini",
            pooler,
            {"leader": self.leader_port, "port": self.pool_port, "directory": pooler},
        )
        self._keep(pooler / "users", f'"{ROLE}" "{self.password}"\n')

    def _write(self, name: str, directory: Path, values: dict[str, Any]) -> None:
        self._keep(directory / name, Template((CONFIGURATION / name).read_text()).substitute(values))

    def _keep(self, path: Path, text: str) -> None:
        """Write a file that only the services' account may read: it holds a password."""
        path.touch(mode=0o600)
        path.write_text(text)
        if self.account.borrowed:
            os.chown(path, self.account.uid, self.account.gid)

    @property
    def database_url(self) -> str:
        """Address of the database for fundapi: PgBouncer."""
        return f"postgres://{ROLE}:{self.password}@127.0.0.1:{self.pool_port}/{ROLE}"

    def layers(self) -> list[list[Program]]:
        """Return the programs, in the order in which they start; to be stopped the other way round."""
        haproxy = self._logged(
            "haproxy", [_program("haproxy"), "-db", "-f", str(self.directory / "haproxy.cfg")]
        )
        pooler = self.account.reading_all(
            _program("pgbouncer"), "-q", str(self.directory / "pgbouncer/pgbouncer.ini")
        )
        return [
            [self._logged(f"etcd-{node.name}", self._etcd(node)) for node in self.nodes],
            [self._logged(f"patroni-{node.name}", self._patroni(node)) for node in self.nodes],
            [haproxy, self._logged("pgbouncer", pooler)],
        ]

    def _logged(self, name: str, command: Sequence[str]) -> Program:
        """Return a program that writes to a file of its own."""
        log = self.logs / f"{name}.log"
        return Program(name, ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(log), *command])

    def _etcd(self, node: Node) -> list[str]:
        reached, peers = f"http://127.0.0.1:{node.etcd}", f"http://127.0.0.1:{node.etcd_peers}"
        members = ",".join(f"{each.name}=http://127.0.0.1:{each.etcd_peers}" for each in self.nodes)
        options = {
            "name": node.name,
            "data-dir": str(self.directory / f"etcd-{node.name}"),
            "listen-client-urls": reached,
            "advertise-client-urls": reached,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": members,
            "logger": "zap",
            "log-level": "error",
        }
        return [_program("etcd"), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _patroni(self, node: Node) -> list[str]:
        return self.account.reading_all(sys.executable, "-m", "patroni", str(node.directory / "patroni.yml"))

    def members(self) -> list[Member]:
        """Return the nodes, as the first Patroni that answers sees them; none if no Patroni answers."""
        for node in self.nodes:
            with suppress(OSError, HTTPException, ValueError):
                return [
                    Member(each["name"], each["role"], each["state"], each.get("lag", 0))
                    for each in json.loads(_answer(node.api, "/cluster"))["members"]
                ]
        return []

    def leader(self) -> Node | None:
        """Return the node whose Patroni holds the leader's lock, if any."""
        for node in self.nodes:
            with suppress(OSError, HTTPException, ValueError):
                _answer(node.api, "/primary")
                return node
        return None

    def switch_over(self) -> None:
        """Ask Patroni for another leader, in an orderly way."""
        leader = self.the_leader()
        _answer(leader.api, "/switchover", method="POST", body={"leader": leader.name})

    def configure(self, values: dict[str, Any]) -> None:
        """Change settings that all nodes share."""
        _answer(self.the_leader().api, "/config", method="PATCH", body=values)

    def the_leader(self) -> Node:
        """Return the leader. Raises EmbeddedError when there is none."""
        if (leader := self.leader()) is None:
            raise EmbeddedError(f"the cluster has no leader; see {self.logs}")
        return leader

    def complete(self) -> bool:
        """Return whether there is a leader, and every other node follows it, one of them synchronously."""
        roles = [member.role for member in self.members() if member.role == "leader" or member.follows]
        return len(roles) == NODES and "leader" in roles and (not self.synchronous or "sync_standby" in roles)

    def make_database(self) -> None:
        """Make fundapi's role and database on the leader, where they are missing."""
        role = sql.Identifier(ROLE)
        with psycopg.connect(self.the_leader().url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, sql.Literal(self.password))
            )
            for name, value in ROLE_SETTINGS.items():
                connection.execute(
                    sql.SQL("ALTER ROLE {} SET {} = {}").format(
                        role, sql.Identifier(name), sql.Literal(value)
                    )
                )
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))


def _program(name: str) -> str:
    return shutil.which(name, path=PATH) or name


def _answer(port: int, path: str, *, method: str = "GET", body: dict[str, Any] | None = None) -> str:
    """Return what Patroni answers with 200. Raises OSError, HTTPException or ValueError."""
    timeout = API_TIMEOUT if method == "GET" else CHANGE_TIMEOUT
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body=json.dumps(body) if body else None)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise ValueError(f"{method} {path}: {response.status} {text}")
        return text
    finally:
        connection.close()
