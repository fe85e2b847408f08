"""SIGTERM: the server answers every request that it has accepted, then ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User

from benchmarks.servers import end, free_port
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.conftest import fund, funds_of
from tests.reliability.gates import Gate
from tests.servers import PROJECT, UNHURRIED, database_url


class Served:
    """The web server with the very command that `make run` and the container use."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        metrics = directory / "metrics"
        metrics.mkdir()
        env = {
            "DATABASE_URL": database_url(),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": "2",
            **UNHURRIED,
            "GRANIAN_LOG_LEVEL": "info",
        }
        command = [sys.executable, "-m", "fundapi.web.serve"]
        self.process = subprocess.Popen(command, cwd=PROJECT, env=os.environ | env)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def served(triggers: None, tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    try:
        eventually(server.answers, timeout=90)
        yield server
    finally:
        end(server.process)


def test_requests_in_flight_finish_and_nobody_is_cut_off(
    served: Served, user: User, make_gate: Callable[[], Gate]
) -> None:
    """Two processes with two threads each: some requests run when the signal comes, others may wait behind them."""
    gate = make_gate()
    body = fund(name=gate.marker("inserted"))
    with Api(served, user) as api, ThreadPoolExecutor(4) as pool:  # type: ignore[arg-type]  # has a url
        requests = [pool.submit(api.create, uuid.uuid4().hex, body) for _ in range(4)]
        eventually(gate.stopped, lambda stopped: len(stopped) >= 2)
        time.sleep(1)  # until all are accepted: what meets a closing listener gets an answer from nobody
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: not served.listens())
        assert served.process.poll() is None  # it waits for them
        gate.open()
        answers = [request.result(60) for request in requests]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert served.process.wait(30) == 0
    assert funds_of(user) == 4
