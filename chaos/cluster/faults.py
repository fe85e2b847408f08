"""Faults of a cluster's engines, and how soon writes must be back."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from chaos.cluster.deployment import Cluster
from chaos.cluster.engines import Node
from fundapi.embedded.home import PROJECT
from fundapi.embedded.processes import dying_with_parent, leftovers, signal_all

BEFORE, AFTER = 5.0, 25.0  # s
# s; longer than Patroni's ttl (30) and a loop (10), so that another node takes over meanwhile
AWAY = 50.0
STALLED = 5.0  # s in which the standbys of the control fall behind


@dataclass(frozen=True)
class Fault:
    """A fault. ``harm`` yields the seconds to wait; ``within``: s after which writes must be back, or no limit."""

    name: str
    what: str
    harm: Callable[[Cluster], Iterator[float]]
    within: float | None


def _postgres(cluster: Cluster, node: Node) -> list[psutil.Process]:
    return leftovers("postgres", node.data, cluster.account)


def _node(cluster: Cluster, node: Node) -> list[psutil.Process]:
    """Return all processes of a node."""
    return [
        *cluster.processes(f"patroni-{node.name}"),
        *cluster.processes(f"etcd-{node.name}"),
        *_postgres(cluster, node),
    ]


def _kill_postgres(cluster: Cluster) -> Iterator[float]:
    signal_all(_postgres(cluster, cluster.engines.the_leader()), signal.SIGKILL, wait=5)
    yield AFTER


def _kill_patroni(cluster: Cluster) -> Iterator[float]:
    cluster.kill_programs(f"patroni-{cluster.engines.the_leader().name}")
    yield AFTER


def _kill_etcd(cluster: Cluster) -> Iterator[float]:
    cluster.kill_programs(f"etcd-{cluster.engines.the_leader().name}")
    yield AFTER


def _kill_all_etcds(cluster: Cluster) -> Iterator[float]:
    cluster.kill_programs(*(f"etcd-{node.name}" for node in cluster.engines.nodes))
    yield AFTER


def _kill_haproxy(cluster: Cluster) -> Iterator[float]:
    cluster.kill_programs("haproxy")
    yield AFTER


def _kill_pgbouncer(cluster: Cluster) -> Iterator[float]:
    cluster.kill_programs("pgbouncer")
    yield AFTER


def _switch_over(cluster: Cluster) -> Iterator[float]:
    cluster.engines.switch_over()
    yield AFTER


def _pause(cluster: Cluster) -> Iterator[float]:
    leader = cluster.engines.the_leader()
    with _writing(cluster, leader):
        paused = _node(cluster, leader)
        signal_all(paused, signal.SIGSTOP, wait=0)
        yield AWAY
        signal_all(paused, signal.SIGCONT, wait=0)
        yield AFTER


def _cut_off(cluster: Cluster) -> Iterator[float]:
    leader = cluster.engines.the_leader()
    assert leader.network is not None
    with _writing(cluster, leader):
        leader.network.say("stall")
        yield AWAY
        leader.network.say("heal")
        yield AFTER


def _lose(cluster: Cluster) -> Iterator[float]:
    """Keep the standbys from following, then stop the leader's node for good."""
    leader = cluster.engines.the_leader()
    # bytes; behind as they are, the standbys may take over
    cluster.engines.configure({"maximum_lag_on_failover": 2**30})
    access = leader.data / "pg_hba.conf"
    access.write_text(f"host replication all all reject\n{access.read_text()}")
    with cluster.superuser() as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    yield STALLED
    signal_all(_node(cluster, leader), signal.SIGSTOP, wait=0)
    yield AWAY
    signal_all(_node(cluster, leader), signal.SIGCONT, wait=0)
    yield AFTER


@contextmanager
def _writing(cluster: Cluster, node: Node) -> Iterator[None]:
    """Write on a node itself meanwhile, past HAProxy; complain about each row that was acknowledged and is gone."""
    with cluster.superuser() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS probe (number bigint PRIMARY KEY)")
        connection.execute("TRUNCATE probe")
    acknowledged = cluster.home.path / "probe"
    acknowledged.unlink(missing_ok=True)
    writer = subprocess.Popen(
        [sys.executable, "-m", "chaos.cluster.writer", node.url(database="fundapi"), str(acknowledged)],
        cwd=PROJECT,
        preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
    )
    try:
        while writer.poll() is None and not (acknowledged.exists() and acknowledged.stat().st_size):
            cluster.look_after(0.1)
        yield
    finally:
        writer.terminate()
        writer.wait()
    cluster.mend()
    with cluster.superuser() as connection:
        there = {number for (number,) in connection.execute("SELECT number FROM probe")}
    told = {int(line) for line in acknowledged.read_text().split()}
    if lost := told - there:
        cluster.complaints.append(
            f"{len(lost)} of {len(told)} rows that the old leader acknowledged are gone"
        )
    if not told:
        cluster.complaints.append(
            "the writer on the old leader has written nothing, so this run has proved nothing"
        )


FAULTS = [
    Fault("postgres", "kill -9 of the leader's PostgreSQL", _kill_postgres, 15),
    Fault("patroni", "kill -9 of the leader's Patroni, which systemd would start again", _kill_patroni, 15),
    Fault("etcd", "kill -9 of the etcd beside the leader", _kill_etcd, 15),
    Fault("etcds", "kill -9 of all three etcds", _kill_all_etcds, 15),
    Fault("haproxy", "kill -9 of HAProxy", _kill_haproxy, 15),
    Fault("pgbouncer", "kill -9 of PgBouncer", _kill_pgbouncer, 15),
    Fault("switchover", "a planned change of the leader", _switch_over, 3),
    Fault("paused", f"the leader's node stands still for {AWAY:g} s, and goes on", _pause, None),
    Fault(
        "cut-off",
        f"nothing comes or goes between the leader's node and the rest for {AWAY:g} s",
        _cut_off,
        None,
    ),
]
CONTROL = Fault(
    "control", "a leader without synchronous replication dies while its standbys are behind", _lose, None
)
