"""A primary and a replica of Valkey on 127.0.0.1, and three sentinels of Debian that make the replica the primary."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks.servers import free_port
from fundapi.embedded.programs import valkey_server
from tests.engines import engine
from tests.eventually import eventually

SERVICE = "mymaster"
PASSWORD, SENTINEL_PASSWORD = "of/the:servers", "of@sentinels"
DOWN_AFTER = 1000  # ms of silence until a sentinel takes a server for dead
WATCH = f"""\
sentinel monitor {SERVICE} 127.0.0.1 {{primary}} 2
sentinel auth-pass {SERVICE} {PASSWORD}
sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}
sentinel failover-timeout {SERVICE} 5000
requirepass {SENTINEL_PASSWORD}
sentinel sentinel-pass {SENTINEL_PASSWORD}
"""


class Cluster:
    """Two servers and their sentinels; with a file of a certificate and its key, they speak only TLS."""

    def __init__(self, directory: Path, certificate: Path | None = None) -> None:
        self.directory = directory
        self.certificate = certificate
        self.ports = [free_port(), free_port()]
        self.sentinels = [free_port() for _ in range(3)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Value for REDIS_URL."""
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        scheme, trust = (
            ("sentinel+tls", f"&ssl_ca_certs={self.certificate}") if self.certificate else ("sentinel", "")
        )
        secrets = "of%2Fthe%3Aservers", "of%40sentinels"
        return f"{scheme}://:{secrets[0]}@{places}/1?service={SERVICE}&sentinel_password={secrets[1]}{trust}"

    def start(self) -> None:
        program = engine("redis-sentinel")
        for port in self.ports:
            self._serve(port)
        self.server(self.ports[1]).replicaof("127.0.0.1", str(self.ports[0]))
        eventually(lambda: self.server(self.ports[0]).info("replication")["connected_slaves"] == 1)
        for port in self.sentinels:
            file = self.directory / f"sentinel-{port}.conf"
            common = "".join(f"{name} {value}\n" for name, value in self._options(port).items())
            file.write_text(common + WATCH.format(primary=self.ports[0]) + f"logfile {file}.log\n")
            self._run(port, program, "redis-sentinel", f"{file}")
        eventually(lambda: all(self._knows_all(port) for port in self.sentinels))

    def _serve(self, port: int) -> None:
        options = self._options(port) | {"save": "", "requirepass": PASSWORD, "masterauth": PASSWORD}
        # The embedded Valkey has no TLS. Debian's sentinel, called by another name, is a server that has.
        program = engine("redis-sentinel") if self.certificate else valkey_server()
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._run(port, program, "redis-server", *words)
        eventually(lambda: self._answers(port))

    def _options(self, port: int) -> dict[str, str]:
        """Return what servers and sentinels have in common."""
        common = {"bind": "127.0.0.1", "dir": f"{self.directory}"}
        if self.certificate is None:
            return common | {"port": f"{port}"}
        files = dict.fromkeys(("tls-cert-file", "tls-key-file", "tls-ca-cert-file"), f"{self.certificate}")
        return (
            common
            | {"port": "0", "tls-port": f"{port}", "tls-replication": "yes", "tls-auth-clients": "no"}
            | files
        )

    def _run(self, port: int, program: str | Path, *command: str) -> None:
        self.processes[port] = subprocess.Popen(command, executable=program, stdout=subprocess.DEVNULL)

    def _answers(self, port: int) -> bool:
        try:
            return bool(self.server(port).ping())
        except redis.RedisError:
            return False

    def _knows_all(self, port: int) -> bool:
        """Return whether a sentinel knows the others and the replica: before that it cannot take part."""
        with self._client(port, password=SENTINEL_PASSWORD) as sentinel:
            try:
                state = sentinel.sentinel_master(SERVICE)
            except redis.RedisError:
                return False
        return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)

    def server(self, port: int) -> redis.Redis:
        return self._client(port, db=1, password=PASSWORD)

    def _client(self, port: int, **options: Any) -> redis.Redis:
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": f"{self.certificate}"} if self.certificate else {}
        return redis.Redis("127.0.0.1", port, **tls, **options)

    def primary(self) -> int:
        """Return the port of the server that takes writes, as the first sentinel that answers knows it."""
        with self._client(self.sentinels[0], password=SENTINEL_PASSWORD) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(SERVICE)[1])

    def kill_machine_of_primary(self) -> None:
        """Kill the primary, and let the sentinel that clients ask first answer nothing any more."""
        self.processes[self.primary()].kill()
        psutil.Process(self.processes[self.sentinels[0]].pid).suspend()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@contextmanager
def guarded_valkey(certificate: Path | None = None) -> Iterator[Cluster]:
    """Start the servers and the sentinels, and stop them when the context ends."""
    with tempfile.TemporaryDirectory(prefix="fundapi-sentinel-", dir="/tmp") as directory:
        cluster = Cluster(Path(directory), certificate)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
