"""Dockerfile and docker-compose.yml, without Docker: their files exist, their commands start, get healthy and end.

The commands run from a copy of exactly what the image holds, with only the packages that the image has.
"""

import ast
import fnmatch
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from benchmarks.servers import free_port
from fundapi.celery import app
from fundapi.embedded.home import Home
from fundapi.embedded.programs import postgres_directory, valkey_server
from fundapi.embedded.run import programs
from rollout.judge.policy import Policy
from tests.fundapi.containers import COMPOSE, SERVICES, image_environment, instructions, real, seconds, stages
from tests.servers import PROJECT

pytestmark = pytest.mark.deployment
OURS = ("migrate", "web", "worker", "checks", "beat")


@pytest.fixture(scope="module")
def environment(image: Path, database: None) -> dict[str, str]:
    """The environment of the application's containers, with an empty database and addresses of this machine."""
    superuser = os.environ["TEST_SUPERUSER_URL"]
    name = f"containers_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER fundapi").format(sql.Identifier(name)))
    before, _, after = os.environ["DATABASE_URL"].partition("?")
    database_url = f"{before.rpartition('/')[0]}/{name}" + (f"?{after}" if after else "")
    values: dict[str, str] = image_environment() | SERVICES["web"]["environment"]
    return values | {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "PYTHONPATH": str(image / "shim"),
        "SECRET_KEY": "only-for-tests-0123456789-abcdefghijklmnopqrstuvwxyz",
        "DATABASE_URL": database_url,
        "REDIS_URL": os.environ["REDIS_URL"],
        "STATIC_ROOT": str(image / "app" / "staticfiles"),
        "PROMETHEUS_MULTIPROC_DIR": str(image / "run" / "fundapi"),
        "WEB_HOST": "127.0.0.1",
        "WEB_CONCURRENCY": "2",
        "PORT": str(free_port()),
    }  # fmt: skip


def health_command(test: list[str], image: Path) -> list[str]:
    kind, *words = test
    return real(words, image) if kind == "CMD" else ["sh", "-c", words[0].replace("$$", "$")]


def test_every_service_is_hardened_bounded_and_watched() -> None:
    assert set(SERVICES) == {"postgres", "valkey", *OURS}
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert seconds(service["stop_grace_period"]) >= 10, name
        assert ("healthcheck" in service) == (name != "migrate"), name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
    assert SERVICES["web"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert set(COMPOSE["volumes"]) == {"postgres"}


def test_only_the_web_is_published_on_the_loopback_with_a_port_for_each_replica() -> None:
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["web"]
    assert SERVICES["web"]["ports"] == ["127.0.0.1:${WEB_PORTS:-8000-8009}:8000"]
    assert SERVICES["web"]["environment"]["PORT"] == "8000"
    assert not any("container_name" in service or "hostname" in service for service in SERVICES.values())


def test_a_secret_has_no_default() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD"):
        uses = re.findall(rf"\$\{{{name}[^}}]*\}}", text)
        assert uses, name
        assert all(use.startswith(f"${{{name}:?") for use in uses)


def test_the_image_is_small_and_runs_as_nobody_special() -> None:
    assert instructions()[0] == ("ARG", "PYTHON=3.13")
    build, final = stages()
    assert all(
        rest.startswith("python:${PYTHON}-slim") for word, rest in (build[0], final[0]) if word == "FROM"
    )
    words = dict(final)
    assert words["USER"] not in ("root", "0")
    assert words["CMD"].startswith("[")  # the server itself gets the signals, not a shell
    assert any("--require-hashes" in rest and "image.txt" in rest for word, rest in build if word == "RUN")
    assert not any("pip" in rest for word, rest in final if word == "RUN")
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            assert (PROJECT / rest.split()[0]).exists()


def test_the_image_gets_every_package_of_the_project() -> None:
    """And nothing that it does not need, secrets first."""
    patterns = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    configuration = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    for package in configuration["tool"]["importlinter"]["root_packages"]:
        assert f"!{package}/" in patterns
    let_in = [pattern.lstrip("!").rstrip("/") for pattern in patterns if pattern.startswith("!")]
    for secret in (".env", ".fundapi", ".git", "tests"):
        assert not any(fnmatch.fnmatch(secret, pattern) for pattern in let_in)


def test_web_workers_and_beat_start_after_migrate_get_healthy_and_end_in_time(
    image: Path, environment: dict[str, str]
) -> None:
    subprocess.run(
        real(SERVICES["migrate"]["command"], image), check=True, cwd=image / "app", env=environment,
        stdout=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    checks = {name: SERVICES[name]["healthcheck"] for name in OURS if name != "migrate"}
    assert not healthy(checks["web"], image, environment)
    assert not healthy(checks["beat"], image, environment)
    with ExitStack() as stack:
        running = {}
        for name in checks:
            process = subprocess.Popen(
                real(SERVICES[name]["command"], image),
                cwd=image / "app",
                env=environment
                | (
                    {"WORKER_METRICS_PORT": str(free_port())} if "worker" in SERVICES[name]["command"] else {}
                ),
                stdout=subprocess.DEVNULL,
            )
            running[name] = process
            stack.callback(process.wait)
            stack.callback(process.kill)
        for name, check in checks.items():
            deadline = time.monotonic() + seconds(check["start_period"])
            while not healthy(check, image, environment):
                assert time.monotonic() < deadline, name
                assert running[name].poll() is None, name
                time.sleep(0.1)
        assert healthy({"test": image_health(), "timeout": "3s"}, image, environment)
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in running.items():
            assert process.wait(seconds(SERVICES[name]["stop_grace_period"])) == 0, name
        assert not healthy(checks["web"], image, environment)


def healthy(check: dict[str, Any], image: Path, environment: dict[str, str]) -> bool:
    """Return whether a health check passes within its time."""
    command = health_command(check["test"], image)
    try:
        return subprocess.run(
            command, check=False, cwd=image / "app", env=environment, capture_output=True,
            timeout=seconds(check["timeout"]),
        ).returncode == 0  # fmt: skip
    except subprocess.TimeoutExpired:
        return False


def image_health() -> list[str]:
    [rest] = [rest for word, rest in stages()[-1] if word == "HEALTHCHECK"]
    command: list[str] = ast.literal_eval(rest.partition("CMD ")[2])
    return ["CMD", *command]


def test_the_image_starts_the_web_by_default() -> None:
    [rest] = [rest for word, rest in stages()[-1] if word == "CMD"]
    assert ast.literal_eval(rest) == SERVICES["web"]["command"]


def test_postgresql_and_valkey_know_their_options(image: Path) -> None:
    """The commands of the compose file, on the servers that come with the project."""
    program, *options = SERVICES["postgres"]["command"]
    assert program == "postgres"
    data = Path(os.environ["FUNDAPI_HOME"]) / "postgres"
    shown = {
        name: subprocess.check_output(
            [postgres_directory() / "postgres", "-C", name, "-D", str(data), *options], text=True
        ).strip()
        for name in ("client_connection_check_interval", "max_connections")
    }
    assert shown == {"client_connection_check_interval": "1000", "max_connections": "200"}
    _, ready, *flags = SERVICES["postgres"]["healthcheck"]["test"]
    socket = re.search(r"host=(.+)", os.environ["TEST_SUPERUSER_URL"])
    flags = [f"--host={socket[1]}" if socket and flag.startswith("--host") else flag for flag in flags]
    assert subprocess.run([postgres_directory() / ready, *flags], check=False).returncode == 0

    program, *options = SERVICES["valkey"]["command"]
    assert program == "valkey-server"
    here = ["--port", "0", "--unixsocket", str(image / "tmp" / "valkey.sock")]
    with subprocess.Popen([valkey_server(), *options, *here], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert any("Ready to accept connections" in line for line in server.stdout)
        server.terminate()
    assert server.returncode == 0


def test_env_example_names_every_default_of_the_judge() -> None:
    """A value that is commented out there is the default."""
    examples = dict(
        re.findall(r"^#(ROLLOUT_[A-Z_]+)=(.+)$", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )
    code = "from rollout.conf import conf; print(repr(conf.policy))"
    names = {f"ROLLOUT_{field.name.upper()}" for field in fields(Policy)}
    assert names <= set(examples)
    said = subprocess.check_output(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "fundapi.settings"}
        | {name: examples[name] for name in names},
        text=True,
    )
    assert said.strip() == repr(Policy())


def test_the_worker_gets_what_alerts_need_and_can_reach_the_world() -> None:
    worker = SERVICES["worker"]
    assert worker["env_file"] == [{"path": ".env", "required": False}]
    assert not any(name.startswith(("ROLLOUT_", "EMAIL")) for name in worker["environment"])  # .env's holds
    assert "default" in worker["networks"]  # `data` alone reaches nobody


def test_checks_have_a_worker_of_their_own_and_every_queue_has_one() -> None:
    """In the compose file and in `make run`; beat, which sends the checks, starts after their worker."""
    commands = {name: service["command"] for name, service in SERVICES.items() if name in OURS}
    queues = {
        name: command[command.index("--queues") + 1]
        for name, command in commands.items()
        if "worker" in command
    }
    assert queues == {"worker": "celery", "checks": "checks"}
    assert sorted(f"test.{queue}" for queue in queues.values()) == sorted(app.amqp.queues)
    assert SERVICES["beat"]["depends_on"]["checks"] == {"condition": "service_started"}
    started = [program.command for program in programs(Home.at(Path("/nowhere")))]
    assert [command[command.index("--queues") + 1] for command in started if "worker" in command] == [
        *("celery", "checks")
    ]
