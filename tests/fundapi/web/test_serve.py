"""The server itself refuses some requests, before a line of the application runs."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from benchmarks.servers import free_port
from fundapi.variables import Variables
from fundapi.web.serve import ALLOCATORS, HEADER_TIMEOUT, HEADERS_MAX, command, limits, processes
from tests.eventually import eventually
from tests.servers import PROJECT, database_url

TIMEOUT = 60  # s for a busy machine


@pytest.fixture(scope="module")
def port(database: None) -> Iterator[int]:
    """A server as a deployment runs it, but impatient: a second for a head."""
    port = free_port()
    environ = os.environ | {"DATABASE_URL": database_url(), "PORT": str(port), "WEB_CONCURRENCY": "1"}
    arguments = ["1000" if argument == str(HEADER_TIMEOUT) else argument for argument in command(environ)]
    assert "1000" in arguments
    with subprocess.Popen(arguments, cwd=PROJECT, env=environ) as process:
        try:
            eventually(lambda: _answers(port), timeout=TIMEOUT)
            yield port
        finally:
            process.terminate()


def test_the_server_gets_the_options_of_its_allocators() -> None:
    """An operator's own come first."""
    environ = os.environ | {"PORT": str(free_port()), "WEB_CONCURRENCY": "1", "MALLOC_ARENA_MAX": "3"}
    with subprocess.Popen([sys.executable, "-m", "fundapi.web.serve"], cwd=PROJECT, env=environ) as process:
        try:
            server = psutil.Process(process.pid)
            eventually(lambda: "fundapi.web.granian" in server.cmdline(), timeout=TIMEOUT)
            assert (ALLOCATORS | {"MALLOC_ARENA_MAX": "3"}).items() <= server.environ().items()
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def answer(port: int, request: bytes) -> bytes:
    """Send bytes and return what comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_head_that_does_not_end_is_hung_up_on(port: int) -> None:
    assert answer(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") == b""


def test_an_idle_connection_is_hung_up_on(port: int) -> None:
    assert answer(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"X-Long: " + b"a" * (HEADERS_MAX - 1000) + b"\r\n", b"200"),
        (b"X-Long: " + b"a" * 4 * HEADERS_MAX + b"\r\n", b"431"),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(200)), b"431"),
    ],
    ids=["long", "too long", "too many"],
)
def test_a_head_has_a_limit(port: int, headers: bytes, status: bytes) -> None:
    said = answer(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
    assert said.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        b"Content-Length: +5\r\n",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(port: int, headers: bytes) -> None:
    said = answer(port, b"POST /api/telemetry HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\nhello")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "WEB_THREADS",
            "four",
            "WEB_THREADS is 'four', and should be a whole number from 1 to 1000, such as 4.",
        ),
        ("WEB_THREADS", "0", "WEB_THREADS is '0', and should be a whole number from 1 to 1000, such as 4."),
        ("WEB_QUEUE", "-1", "WEB_QUEUE is '-1', and should be a whole number from 0 to 10000, such as 100."),
        (
            "DATABASE_POOL_SIZE",
            "1.5",
            "DATABASE_POOL_SIZE is '1.5', and should be a whole number from 0 to 10000, such as 0.",
        ),
    ],
)
def test_a_number_that_is_none_is_named_with_what_it_should_be(name: str, text: str, says: str) -> None:
    """Alone, without a traceback, by the server and by every command."""

    def said(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        environ = os.environ | {name: text}
        run = subprocess.run(
            command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert run.returncode == 2
        return run.stderr

    assert said("-m", "fundapi.web.serve") == f"{says}\n"
    assert said("manage.py", "check") == f"{says}\n"


def test_a_server_may_have_no_queue_and_what_is_empty_is_not_set() -> None:
    assert limits(Variables({"WEB_THREADS": " ", "WEB_QUEUE": "0"})) == (4, 0)


@pytest.mark.parametrize(
    ("connections", "working"), [("", 8), ("0", 8), ("2", 1), ("5", 4), ("9", 8), ("99", 8)]
)
def test_no_more_requests_are_worked_on_than_there_are_connections_for(
    connections: str, working: int
) -> None:
    """One is for the probes."""
    assert limits(Variables({"WEB_THREADS": "8", "DATABASE_POOL_SIZE": connections})) == (working, 100)


def test_a_server_starts_where_a_sandbox_does_not_tell_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> set[int]:
        raise PermissionError

    monkeypatch.setattr("os.sched_getaffinity", refuse, raising=False)
    assert processes(Variables({})) == os.cpu_count()


def test_hashes_of_texts_are_another_in_each_process() -> None:
    """Hashes stay random: foreseeable ones would let a client send JSON whose names all collide."""
    files = ["Dockerfile", "Makefile", "docker-compose.yml", ".env.example", "pyproject.toml"]
    texts = [PROJECT / name for name in files]
    texts += (path for app in ("fundapi", "idempotency", "rollout") for path in (PROJECT / app).rglob("*.py"))
    assert [path for path in texts if "PYTHONHASHSEED" in path.read_text()] == []
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    program = [command(environ)[0], "-c", "print(hash('a name'))"]
    assert subprocess.check_output(program, env=environ) != subprocess.check_output(program, env=environ)
