"""`make run`, started for real on a free port: what it prints works, what is killed comes back, nothing is left."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import psycopg
import pytest

from benchmarks.servers import free_port
from fundapi.embedded.processes import is_alive
from tests.servers import PROJECT

T = TypeVar("T")
pytestmark = pytest.mark.deployment
FUND = {"name": "Harbor Growth I", "size": 250_000_000}


def environment(home: Path, **more: str) -> dict[str, str]:
    """A developer's shell, without what the test run has set."""
    documented = re.findall(r"^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    kept = {
        name: value for name, value in os.environ.items() if name not in {*documented, "TEST_SUPERUSER_URL"}
    }
    return kept | {"FUNDAPI_HOME": str(home)} | more


class Run:
    """A running `make run`, without make."""

    def __init__(self, home: Path, port: int = 0, /, **more: str) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fundapi.embedded.run"],
                cwd=PROJECT,
                env=environment(home, PORT=str(self.port), **more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> "Run":
        self.until(lambda: "fundapi is ready" in self.printed, within=90)
        return self

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def until(self, look: Callable[[], T], within: float = 60) -> T:
        """Return what ``look`` returns as soon as that is true."""
        deadline = time.monotonic() + within
        while not (seen := look()):
            assert self.process.poll() is None, f"it ended:\n{self.printed}"
            assert time.monotonic() < deadline, f"it did not happen:\n{self.printed}"
            time.sleep(0.05)
        return seen

    def serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def programs(self, words: str) -> list[psutil.Process]:
        """The children whose command line has these words."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        found = []
        for child in children:
            with suppress(psutil.NoSuchProcess):  # it may end between two looks
                if is_alive(child) and words in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def program(self, words: str) -> psutil.Process:
        return self.until(lambda: self.programs(words))[0]

    def token(self) -> str:
        return (self.home / "demo-token").read_text().strip()

    def create(self, key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token()}", "Idempotency-Key": key}
        return httpx.post(f"{self.url}/api/funds", headers=headers, json=FUND, timeout=20)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(60)


def collected(run: Run) -> dict[str, str]:
    """Return the variable that lets another server use the static files of ``run``: to collect its own takes long."""
    return {"STATIC_ROOT": str(run.home / "static")}


def left_by(home: Path) -> list[list[str]]:
    """The command lines of living processes that have to do with a home."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            words = [
                *(process.info["cmdline"] or []),
                process.cwd(),
                process.environ().get("FUNDAPI_HOME", ""),
            ]
        except psutil.Error:
            continue
        if any(word == str(home) or word.startswith(f"{home}/") for word in words):
            found.append(process.info["cmdline"])
    return found


def end(run: Run) -> None:
    """Leave nothing behind, whatever has failed."""
    if run.process.poll() is None:
        run.stop()
    shutil.rmtree(run.home)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def run(directory: Path) -> Iterator[Run]:
    """One server for most tests; ended with Ctrl-C."""
    running = Run(directory / "home")
    try:
        yield running.ready()
    finally:
        end(running)


def test_it_prints_where_everything_is(run: Run) -> None:
    urls = re.findall(rf"^  \w.* ({run.url}\S*)", run.printed.partition("Create a fund")[0], re.MULTILINE)
    assert [url.removeprefix(run.url) for url in urls] == [
        "/fund-setup",
        "/admin/",
        "/api/docs",
        "/api/funds",
        "/health",
        "/metrics",
    ]
    assert run.printed.partition("\nfundapi is ready")[2].partition(" demo_rollout ")[0].count("\n") < 21
    answers = [httpx.get(url, timeout=20).status_code for url in urls]
    assert answers == [302, 302, 200, 401, 200, 200]


def test_its_files_have_hashed_names_and_are_kept_for_ever(run: Run) -> None:
    (style,) = re.findall(r'href="(/static/[^"]+\.css)"', httpx.get(f"{run.url}/signin").text)
    assert re.fullmatch(r"/static/fundapi/page\.[0-9a-f]{12}\.css", style)
    answer = httpx.get(run.url + style)
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl: apt-get install curl")
def test_the_printed_curl_creates_a_fund_and_then_replays(run: Run) -> None:
    command = run.printed.partition("  curl ")[2].partition("\n\n")[0]
    answers = [subprocess.check_output(f"curl --silent {command}", shell=True, text=True) for _ in range(2)]
    assert [answer.split()[1] for answer in answers] == ["201", "200"]
    assert "idempotency-status: replayed" in answers[1].lower()
    assert answers[0].splitlines()[-1] == answers[1].splitlines()[-1]


def test_the_printed_demo_is_rolled_back(run: Run) -> None:
    (command,) = re.findall(r"^  (.* demo_rollout .*)$", run.printed, re.MULTILINE)
    printed = subprocess.check_output(
        f"{command} --fast", shell=True, text=True, cwd=PROJECT, env=environment(Path())
    )
    assert f"Its incident: {run.url}/admin/rollout/incident/" in printed


def test_the_printed_password_opens_the_admin(run: Run) -> None:
    found = re.search(r"(\S+) / (\S+)$", run.printed, re.MULTILINE)
    assert found
    kept = run.home / "admin-password"
    assert f"Password     kept in {kept}\n" in run.printed
    assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (found[2], 0o600)
    with httpx.Client(base_url=run.url, timeout=20) as client:
        client.get("/admin/login/")
        form = {
            "username": found[1],
            "password": found[2],
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
        }
        answer = client.post("/admin/login/?next=/admin/", data=form, headers={"Referer": run.url})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def test_manage_py_finds_the_running_services(run: Run) -> None:
    output = subprocess.check_output(
        [sys.executable, "manage.py", "create_token", "demo"],
        cwd=PROJECT,
        env=environment(run.home),
        text=True,
    )
    headers = {"Authorization": f"Bearer {output.strip()}"}
    assert httpx.get(f"{run.url}/api/funds", headers=headers).status_code == 200


def test_dbshell_opens_the_embedded_psql(run: Run) -> None:
    """On a machine without any psql: none is in this PATH."""
    shell = subprocess.run(
        [sys.executable, "manage.py", "dbshell", "--", "--no-align", "--tuples-only"],
        check=True, cwd=PROJECT, env={**environment(run.home), "PATH": "/nonexistent"}, capture_output=True,
        text=True, input="SHOW application_name; SELECT count(*) FROM django_migrations WHERE app = 'rollout'",
    )  # fmt: skip
    name, migrations = shell.stdout.split()
    assert name == "psql"
    assert int(migrations) > 0


@pytest.mark.parametrize(
    ("more", "mode"), [({}, "full"), ({"ROLLOUT_UNSIGNED_TELEMETRY": "network"}, "network")]
)
def test_every_browser_counts_unless_the_environment_says_otherwise(
    run: Run, more: dict[str, str], mode: str
) -> None:
    """One person has one address, and wants to try a whole rollout."""
    assert "ROLLOUT_UNSIGNED_TELEMETRY=full" in run.printed
    for program in ("granian", "--queues celery", "--queues checks", "beat --schedule"):
        assert run.program(program).environ()["ROLLOUT_UNSIGNED_TELEMETRY"] == "full"
    command = "from rollout.conf import conf; print(conf.policy.unsigned_telemetry)"
    printed = subprocess.check_output(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", command],
        cwd=PROJECT,
        env=environment(run.home, **more),
        text=True,
    )
    assert printed.strip() == mode


def test_a_killed_web_process_is_replaced_while_others_serve(run: Run) -> None:
    web = run.program("granian")
    before = [child for child in web.children() if "resource_tracker" not in " ".join(child.cmdline())]
    before[0].kill()
    run.until(run.serves)
    run.until(lambda: len([child for child in web.children() if child not in before]) >= 1)
    assert web.is_running()


@pytest.mark.parametrize("words", ["granian", "--queues celery", "--queues checks", "beat --schedule"])
def test_a_killed_program_is_started_again(run: Run, words: str) -> None:
    """The web server leaves processes that go on serving; they have to go before the new one is alone."""
    victim = run.program(words)
    family = victim.children(recursive=True)
    victim.kill()
    run.until(lambda: not any(map(is_alive, family)))
    run.until(lambda: run.program(words) != victim)
    run.until(run.serves)
    assert run.create(f"after-{victim.pid}").status_code == 201


def test_killed_services_come_back_without_a_restart(run: Run) -> None:
    [keeper] = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
        and process.info["cmdline"][1:4] == ["-m", "fundapi.embedded.keeper", str(run.home)]
        and process.status() != psutil.STATUS_ZOMBIE
    ]
    web = run.program("granian")
    assert run.create("before-the-keeper-died").status_code == 201
    keeper.kill()
    run.until(lambda: not run.serves())
    run.until(run.serves)
    assert run.create("before-the-keeper-died").status_code == 200
    assert web.is_running()


def test_a_second_one_in_the_same_home_is_refused(run: Run) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "fundapi.embedded.run"], check=False, cwd=PROJECT,
        env=environment(run.home, PORT=str(free_port())), capture_output=True, text=True,
    )  # fmt: skip
    assert (second.returncode, second.stdout) == (1, "")
    assert f"is being served already, at {run.url}" in second.stderr
    assert run.serves()


def test_a_taken_port_is_refused_before_anything_is_started(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, "-m", "fundapi.embedded.run"], check=False, cwd=PROJECT,
            env=environment(directory / "unused", PORT=str(port)), capture_output=True, text=True,
        )  # fmt: skip
    assert refused.returncode == 1
    assert f"port {port} is taken" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (directory / "unused" / "postgres").exists()


def test_at_a_terminal_it_says_what_it_does(run: Run, directory: Path) -> None:
    """Elsewhere a start that fails is one sentence (test_bad_homes)."""
    reading, writing = pty.openpty()
    home = directory / "terminal"
    away = {
        "DATABASE_URL": f"postgres://nobody@127.0.0.1:{free_port()}/none",
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    refused = subprocess.run(
        [sys.executable, "-m", "fundapi.embedded.run"], check=False, cwd=PROJECT, stderr=writing,
        env=environment(home, PORT=str(free_port()), **away, **collected(run)),
    )  # fmt: skip
    said = os.read(reading, 65536).decode().splitlines()
    for end_of_it in (reading, writing):
        os.close(end_of_it)
    assert refused.returncode == 1
    assert said[:2] == [
        f"make run: starting the services in {home}",
        "make run: preparing the database and the static files",
    ]
    assert len(said) == 3


def test_two_homes_serve_side_by_side_under_any_environment(run: Run, directory: Path) -> None:
    """The second is "production" with an operator of its own, over plain HTTP, and ends with its terminal."""
    operator = {"DJANGO_SUPERUSER_USERNAME": "night-shift", "DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    other = Run(directory / "other", ENVIRONMENT="production", **collected(run), **operator)
    try:
        other.ready()
        assert "night-shift / correct horse" in other.printed
        assert "Password     set by DJANGO_SUPERUSER_PASSWORD\n" in other.printed
        assert other.create("same-key").status_code == 201
        assert run.create("same-key").status_code == 201
        assert httpx.get(f"{other.url}/health").json()["environment"] == "production"
        assert other.stop(signal.SIGHUP) == 0
        assert left_by(other.home) == []
        assert run.serves()
    finally:
        end(other)


def test_it_ends_cleanly_and_a_second_start_finds_its_data(run: Run) -> None:
    """Ctrl-C lets a request in flight finish; a second start has the same token, fund and password."""
    assert run.create("kept").status_code == 201
    url = f"postgres://postgres@/fundapi?host={run.home}/sockets"
    with psycopg.connect(url) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("LOCK TABLE fundapi_fund")
        in_flight = pool.submit(run.create, "in-flight")
        waiting = "SELECT FROM pg_locks WHERE NOT granted"
        run.until(lambda: connection.execute(waiting).rowcount == 1)
        run.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert run.process.poll() is None
        connection.rollback()
        assert in_flight.result().status_code == 201
    assert run.process.wait(60) == 0
    assert left_by(run.home) == []
    assert sorted(path.name for path in (run.home / "sockets").iterdir()) == []

    started = time.monotonic()
    again = Run(run.home, run.port).ready()
    assert time.monotonic() - started < 30  # under ten seconds on a machine that does nothing else
    assert again.create("kept").status_code == 200
    assert again.create("in-flight").status_code == 200

    # Killed, it takes its programs along, and nothing is in the way of a third start.
    again.process.kill()
    again.process.wait()
    third = Run(run.home, run.port).ready()
    assert third.create("kept").status_code == 200
    assert third.stop(signal.SIGTERM) == 0
    assert left_by(run.home) == []


def test_it_can_be_stopped_while_it_starts(run: Run, directory: Path) -> None:
    """At any moment, and at once: not after the time a busy server would get."""
    early = Run(directory / "early")
    try:
        early.until((early.home / "postgres.incomplete").exists)
        assert early.stop(signal.SIGINT) == 0
        assert left_by(early.home) == []
        again = Run(early.home, **collected(run))
        again.until(lambda: again.programs("granian"))
        started = time.monotonic()
        assert again.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 15  # Celery, just born, takes a few seconds
        assert left_by(early.home) == []
    finally:
        end(early)
