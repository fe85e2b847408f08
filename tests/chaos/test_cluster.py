"""`make cluster`: fundapi on Patroni, etcd, HAProxy and PgBouncer, while the leader is killed."""

import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from chaos.cluster import engines
from chaos.cluster.__main__ import announce, state_of
from chaos.cluster.deployment import Cluster, cluster
from chaos.cluster.engines import Member, MissingEngine
from chaos.deployment import Deployment
from fundapi.embedded.processes import leftovers, signal_all
from tests.engines import engine

FUND = {"name": "Fund I", "size": 50_000_000}


@pytest.fixture(scope="module")
def served() -> Iterator[Cluster]:
    for name in ("etcd", "haproxy", "pgbouncer"):
        engine(name)
    with cluster() as made:
        for _ in made.start():
            pass
        yield made
        directory, account, nodes = made.home.path, made.account, made.engines.nodes
    assert not directory.exists()
    assert not [process for node in nodes for process in leftovers("postgres", node.data, account)]


def create(deployment: Deployment, key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {deployment.token}", "Idempotency-Key": key}
    return httpx.post(f"http://127.0.0.1:{deployment.port}/api/funds", json=FUND, headers=headers, timeout=30)


def insisted(deployment: Deployment, key: str) -> httpx.Response:
    """Send a create again until it is answered, as a client does."""
    deadline = time.monotonic() + 60
    while (answer := create(deployment, key)).status_code == 503 and time.monotonic() < deadline:
        deployment.look_after(0.2)
    return answer


@pytest.mark.timeout(240)
def test_another_node_answers_with_what_a_killed_leader_has_stored(served: Cluster) -> None:
    key = uuid.uuid4().hex
    first = create(served, key)
    assert first.status_code == 201
    before = served.engines.the_leader()
    signal_all(leftovers("postgres", before.data, served.account), signal.SIGKILL, wait=5)
    deadline = time.monotonic() + 60
    while served.engines.leader() in (None, before):
        assert time.monotonic() < deadline, "no other node took over"
        served.look_after(0.2)
    again = insisted(served, key)
    assert (again.status_code, again.content) == (200, first.content)
    assert insisted(served, uuid.uuid4().hex).status_code == 201


def test_the_printed_command_shows_the_nodes(served: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    announce(served)
    (command,) = (line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("Nodes "))
    shown = subprocess.run(command.split()[1:], capture_output=True, text=True, check=True).stdout
    assert [shown.count(word) for word in ("Leader", "node1", "node2", "node3")] == [1, 1, 1, 1]


def test_a_fault_kills_the_program_that_it_names_and_it_comes_back(served: Cluster) -> None:
    for name in ("pgbouncer", "etcd-node1", "patroni-node1"):
        assert served.processes(name)
    with pytest.raises(KeyError):
        served.kill_programs("haproxies")
    killed = served.program("haproxy").process
    served.kill_programs("haproxy")
    assert killed is not None
    assert killed.wait(5) == -signal.SIGKILL
    assert served.valkey.server is not None
    served.valkey.server.kill()
    served.valkey.server.wait(5)
    served.look_after()
    assert served.processes("haproxy")
    assert served.valkey.running()


def test_the_password_of_the_nodes_is_in_files_that_others_cannot_read(served: Cluster) -> None:
    holding = [
        path
        for path in served.home.path.rglob("*")
        if path.is_file()
        and path.stat().st_size < 1_000_000
        and served.engines.password in path.read_text(errors="replace")
    ]
    assert {path.name for path in holding} >= {"patroni.yml", "users", "pgpass"}
    assert not [path for path in holding if path.stat().st_mode & 0o077]
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if served.engines.password in command]


def test_an_engine_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pgbouncer").symlink_to("/bin/true")
    monkeypatch.setattr(engines, "PATH", str(tmp_path))
    with pytest.raises(MissingEngine) as refused:
        engines.require_programs()
    assert str(refused.value) == (
        "the cluster needs etcd-server, haproxy: apt-get install --no-install-recommends etcd-server haproxy"
    )


@pytest.mark.parametrize(
    ("member", "shown"),
    [
        (Member("node1", "leader", "running", 0), "node1 leads"),
        (Member("node2", "sync_standby", "streaming", 0), "node2 follows in sync"),
        (Member("node3", "replica", "streaming", 1_048_576), "node3 follows (1,048,576 bytes behind)"),
        (Member("node3", "replica", "stopped", "unknown"), "node3 is stopped"),
    ],
)
def test_the_status_line_says_in_words_what_a_node_does(member: Member, shown: str) -> None:
    assert state_of(member) == shown
