"""A Valkey that hangs, dribbles, answers nonsense or refuses: requests are answered at once, and /health says it."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.contrib.auth.models import User

from fundapi.schema.plain import HEALTH
from rollout.models import Rollout
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.valkey import Valkey, private_valkey
from tests.servers import Server, running_server

Answer = Callable[[socket.socket, bytes, bytes], None]


def honest(client: socket.socket, _asked: bytes, answer: bytes) -> None:
    client.sendall(answer)


def silent(_client: socket.socket, _asked: bytes, _answer: bytes) -> None:
    pass


def half(client: socket.socket, _asked: bytes, answer: bytes) -> None:
    client.sendall(answer[: len(answer) // 2])


def in_drops(client: socket.socket, _asked: bytes, answer: bytes) -> None:
    for byte in answer:
        client.sendall(bytes([byte]))
        time.sleep(0.1)


def closing(client: socket.socket, _asked: bytes, _answer: bytes) -> None:
    client.shutdown(socket.SHUT_RDWR)


def saying(line: str) -> Answer:
    """Answer every command with one line."""

    def answer(client: socket.socket, asked: bytes, _answer: bytes) -> None:
        commands = asked.startswith(b"*") + asked.count(b"\r\n*")
        client.sendall(line.encode() * commands)

    return answer


class Liar:
    """A TCP server in front of a Valkey that may change the answers."""

    def __init__(self, valkey: Valkey) -> None:
        self.valkey = valkey
        self.answer: Answer = honest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self.valkey.socket))
            while asked := client.recv(65536):
                server.sendall(asked)
                self.answer(client, asked, server.recv(65536))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    with private_valkey() as valkey:
        running = Liar(valkey)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(liar: Liar, database: None) -> Iterator[Server]:
    with running_server(workers=1, threads=2, REDIS_URL=liar.url, TRUSTED_PROXIES="0") as running:
        yield running


ANSWERS: dict[str, tuple[Answer, str]] = {
    "silent": (silent, "unavailable"),
    "half": (half, "unavailable"),
    "in drops": (in_drops, "unavailable"),
    "closing": (closing, "unavailable"),
    "HTTP": (saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "unavailable"),
    "no number": (saying(":nonsense\r\n"), "unavailable"),
    "wrong type": (saying(":1\r\n"), "unavailable"),
    "loading": (saying("-LOADING Valkey is loading the dataset in memory\r\n"), "unavailable"),
    "no password": (saying("-NOAUTH Authentication required.\r\n"), "unavailable"),
    "crowded": (saying("-ERR max number of clients reached\r\n"), "unavailable"),
    "cluster": (saying("-CLUSTERDOWN Hash slot not served\r\n"), "unavailable"),
    "moved": (saying("-MOVED 3999 127.0.0.1:6381\r\n"), "unavailable"),
    "full": (saying("-OOM command not allowed when used memory > 'maxmemory'.\r\n"), "full"),
    "replica": (saying("-READONLY You can't write against a read only replica.\r\n"), "read-only"),
    "disk": (saying("-MISCONF Valkey is configured to save RDB snapshots, but cannot.\r\n"), "read-only"),
    "alone": (saying("-NOREPLICAS Not enough good replicas to write.\r\n"), "read-only"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_answer_of_valkey_delays_or_fails_a_request(
    server: Server, liar: Liar, user: User, kind: str
) -> None:
    Rollout.objects.update(percentage=0)
    answer, state = ANSWERS[kind]
    with Api(server, user) as api:
        eventually(lambda: api.get("/health").json()["checks"]["valkey"] == "ok")
        polled = api.get("/api/rollouts")
        began, logged = time.monotonic(), server.log.count("valkey_not_usable")
        liar.answer = answer
        try:
            assert [api.create().status_code for _ in range(5)] == [201] * 5
            for _ in range(5):
                assert api.get("/api/rollouts").content == polled.content
            assert time.monotonic() - began < 3
            health = api.get("/health")
            assert health.status_code == 200
            assert health.json()["status"] == "degraded"
            assert health.json()["checks"]["valkey"] == state
            jsonschema.validate(health.json(), HEALTH)
            assert server.log.count("valkey_not_usable") == logged + 1
        finally:
            liar.answer = honest


def test_a_name_whose_look_up_hangs_delays_no_request(database: None, user: User, tmp_path: Path) -> None:
    """``getaddrinfo`` has no time-out; a resolver that is away takes it ten seconds and more."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\n"
        "find = socket.getaddrinfo\n"
        "def hang(host, *rest, **options):\n"
        "    time.sleep(20 if host == 'valkey.example' else 0)\n"
        "    return find(host, *rest, **options)\n"
        "socket.getaddrinfo = hang\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    Rollout.objects.update(percentage=0)
    env = {"REDIS_URL": "redis://valkey.example:6379/0", "PYTHONPATH": path}
    with running_server(workers=1, threads=2, **env) as running, Api(running, user) as api:
        began = time.monotonic()
        assert [api.create().status_code for _ in range(5)] == [201] * 5
        assert api.get("/health").json()["checks"]["valkey"] == "unavailable"
        assert time.monotonic() - began < 3
