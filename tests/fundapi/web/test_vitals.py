"""A web process that cannot work any more says so, ends and is replaced; many connections stop nobody."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import httpx
import psutil
import pytest

from benchmarks.servers import free_port, workers_of
from fundapi.web.answers import KEEPALIVE, READING_TIMEOUT, limit_reading_time
from fundapi.web.overload import OverloadControl
from fundapi.web.serve import CONNECTIONS, command
from fundapi.web.vitals import DESCRIPTORS
from tests.eventually import eventually
from tests.servers import PROJECT, database_url

# The server as a deployment runs it; its watch looks more often, and it shares no cores with other tests' servers.
IMPATIENT = """
import multiprocessing, os
from fundapi.web import affinity, granian
multiprocessing.set_start_method("fork", force=True)  # workers inherit these
granian.INTERVAL = 0.05
affinity.CLAIM = f"\\0test/{os.getpid()}/{{}}"
granian.main()
"""


class Deployed:
    """A server with one worker."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "log"
        metrics = directory / "metrics"
        metrics.mkdir()
        environ = os.environ | {
            "DATABASE_URL": database_url(),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        python, _, _, *arguments = command(environ)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-c", IMPATIENT, *arguments, "--respawn-interval", "0.1"],
                cwd=PROJECT,
                env=environ,
                stdout=log,
                stderr=log,
            )
        eventually(self.answers, timeout=60)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def worker(self) -> psutil.Process:
        (worker,) = workers_of(self.process.pid)
        return worker

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])

    def wait_for_another_worker(self, old: psutil.Process) -> None:
        eventually(lambda: not old.is_running() and self.answers(), timeout=60)
        assert self.worker().pid != old.pid


@pytest.fixture(scope="module")
def deployed(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    server = Deployed(tmp_path_factory.mktemp("deployed"))
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


def test_silent_connections_stop_nobody_and_are_counted(deployed: Deployed) -> None:
    """1,100 stopped two processes for as long as a head may take."""
    assert deployed.metric("http_connections_max") == CONNECTIONS
    with ExitStack() as silent:
        for number in range(600):
            client = silent.enter_context(socket.create_connection(("127.0.0.1", deployed.port)))
            if number % 2:
                client.sendall(b"POST /api/funds HTTP/1.1\r\nHost: localhost\r\nX-Half: ")
        assert deployed.answers()
        assert eventually(lambda: deployed.metric("http_connections"), lambda count: count >= 600)
    assert eventually(lambda: deployed.metric("http_connections"), lambda count: count < 50) >= 0


def test_clients_that_read_nothing_hold_few_threads(deployed: Deployed) -> None:
    """500 that asked for a large file stopped two processes until they went away."""
    large = f"{deployed.url}/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    small = f"{deployed.url}/static/rollout/rollout.js"
    head = f"GET {httpx.URL(large).path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def ask(slow: ExitStack) -> None:
        client = slow.enter_context(socket.create_connection(("127.0.0.1", deployed.port)))
        client.sendall(8 * head)  # more than the kernel takes for a client that does not read

    def one_more(slow: ExitStack) -> httpx.Response:
        ask(slow)
        return httpx.get(large, timeout=30)

    with ExitStack() as slow:
        refused = eventually(lambda: one_more(slow), lambda answer: "large files" in answer.text[:99])
        assert "Retry-After" in refused.headers
        for _ in range(200):
            ask(slow)
        assert deployed.answers()
        assert "window.__rollouts" in httpx.get(small, timeout=30).text
    assert len(eventually(lambda: httpx.get(large), lambda answer: answer.status_code == 200).content) > 10**6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the option")
def test_the_kernel_hangs_up_on_clients_that_read_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        assert limit_reading_time(DESCRIPTORS)
        client.connect(server.getsockname())
        with server.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == READING_TIMEOUT
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE
    assert not limit_reading_time(DESCRIPTORS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_the_threads_of_a_worker_share_a_core(deployed: Deployed) -> None:
    assert deployed.answers()
    cores = [os.sched_getaffinity(thread.id) for thread in deployed.worker().threads()]
    assert len(cores) > 3  # Granian's, which answer, too
    assert len(set.union(*cores)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a process is stopped")
def test_a_worker_that_is_stopped_is_killed_and_replaced(deployed: Deployed) -> None:
    frozen = deployed.worker()
    frozen.send_signal(signal.SIGSTOP)
    deployed.wait_for_another_worker(frozen)
    assert f"Killing the worker with PID {frozen.pid}: it was stopped" in deployed.log.read_text()


def run(program: str, *, descriptors: int = 0) -> "subprocess.CompletedProcess[str]":
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=limit if descriptors else None,
    )


VITALS = """
import ctypes, os, time, django
django.setup()
from fundapi.web import vitals
def make(held=0.0, most=4096):
    return vitals.Vitals(lambda: held, hung=60, connections_max=most, affinity=None)
"""


def test_a_process_whose_slots_hang_says_where_and_ends() -> None:
    ended = run(
        f"{VITALS}make(held=59).look(); print('lives', flush=True); make(held=61).look(); print('lives')"
    )
    assert (ended.returncode, ended.stdout) == (1, "lives\n")
    assert '"event":"slots_hung"' in ended.stderr
    assert "most recent call first" in ended.stderr


def test_a_process_that_keeps_the_interpreters_lock_says_where_and_ends() -> None:
    """A library that hangs in C: no other thread runs, that of the vital signs neither."""
    ended = run(f"{VITALS}vitals.FROZEN = 1; make().start(); time.sleep(0.1); ctypes.PyDLL(None).sleep(30)")
    assert ended.returncode == 1
    assert "most recent call first" in ended.stderr


def test_a_process_with_many_connections_says_so_once() -> None:
    ended = run(
        f"{VITALS}it = make(most=10)\n"
        "files = [os.dup(1) for _ in range(9)]; it.look(); it.look()\n"
        "for file in files: os.close(file)\n"
        "it.look()"
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count('"event":"connections_exhausted"') == 1


def test_slots_are_held_while_none_is_free() -> None:
    control = OverloadControl(lambda _environ, _start: [])
    both, go_on = Barrier(2, timeout=30), Barrier(2, timeout=30)
    *others, last = control._slots

    def hold() -> None:
        with last:
            both.wait()
            go_on.wait()

    with ThreadPoolExecutor(1) as other, ExitStack() as held:
        for slot in others:
            slot.since = 1.0  # as if taken long ago
        assert control.held() == 0
        holds = other.submit(hold)
        both.wait()
        assert 0 < control.held() < 30
        held.callback(go_on.wait)
    holds.result()
    assert control.held() == 0


# --- The limit of open files --------------------------------------------------------------------------------

RAISE = """
import resource
from fundapi.variables import Variables, exit_in_one_sentence
from fundapi.web import serve
with exit_in_one_sentence():
    serve.raise_descriptor_limit(Variables({}))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], serve.connection_limit(Variables({})))
"""


def test_a_limit_of_open_files_that_is_too_low_is_refused_in_one_sentence() -> None:
    refused = run(RAISE, descriptors=100)
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert refused.stderr.startswith("The limit of open files (ulimit -n) is 100, and should be ")
    assert refused.stderr.count("\n") == 1


def test_a_low_limit_of_open_files_bounds_the_connections_and_says_so() -> None:
    started = run(RAISE, descriptors=1024)
    limit, connections = map(int, started.stdout.split())
    assert limit == 1024
    assert 64 <= connections < 1024
    assert f"each web process may have {connections} connections instead of {CONNECTIONS}" in started.stderr


def test_a_limit_that_may_be_raised_is_raised() -> None:
    enough = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 8000))"
    started = run(enough + RAISE)
    limit, connections = map(int, started.stdout.split())
    assert (connections, started.stderr) == (CONNECTIONS, "")
    assert CONNECTIONS < limit < 8000


# --- Last, because its worker has to be some seconds old ------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limit of another process")
def test_a_worker_without_descriptors_says_so_and_is_replaced(deployed: Deployed) -> None:
    worker = deployed.worker()
    # Granian gives up when a worker that it has replaced ends within 5.5 s.
    eventually(lambda: time.time() - worker.create_time() > 6)
    _, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (10, hard))
    deployed.wait_for_another_worker(worker)
    assert '"event":"descriptors_exhausted"' in deployed.log.read_text()
