"""Valkey behind Sentinel: when the primary is killed, its replica counts and carries tasks within seconds."""

import subprocess
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from django.contrib.auth.models import User

from rollout.models import Check
from tests.canary import judged_rollouts
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.sentinels import PASSWORD, SENTINEL_PASSWORD, guarded_valkey
from tests.servers import celery, celery_arguments, database_url, manage, running_server

# s; a second until the sentinels agree, a half for their election, and pauses of Celery: 5 here, and this on a busy day
AWAY_MAX = 20
SLOW = 2.0  # s; a request waits for one time-out of 0.25 s

# Write by the client of the web process and by Celery's, and say what came of it.
STATE = """
from fundapi.web import valkey
print(valkey.state())
"""
# A busy machine may need longer than a request waits for the first connection.
WRITE = """
from fundapi.celery import app
from fundapi.web import valkey
from tests.eventually import eventually
eventually(lambda: valkey.state() == valkey.OK)
app.send_task("rollout.check")
"""


def test_a_killed_primary_costs_no_create_and_seconds_of_checks(user: User, tmp_path: Path) -> None:
    """Its machine has the first sentinel too. Counts of throttles are on the replica."""
    with guarded_valkey() as cluster, ExitStack() as stack:
        canary = stack.enter_context(judged_rollouts())()
        env = {"DATABASE_URL": database_url(), "REDIS_URL": cluster.url, "ROLLOUT_CHECK_INTERVAL": "1"}
        schedule = ("beat", "--schedule", str(tmp_path / "schedule"))
        stack.enter_context(celery(env, tmp_path / "worker.log", *celery_arguments("checks")))
        stack.enter_context(celery(env, tmp_path / "beat.log", *schedule))
        server = stack.enter_context(running_server(workers=1, threads=2, FUND_CREATE_RATE="3/hour", **env))
        api = stack.enter_context(Api(server, user))
        checks = Check.objects.filter(rollout=canary.pk)
        eventually(lambda: checks.count() >= 2)
        eventually(lambda: api.create().status_code, lambda status: status == 429)

        cluster.kill_machine_of_primary()
        killed, answers, took = time.time(), [0], [0.0]
        while answers[-1] != 429:  # meanwhile, nobody counts
            began = time.monotonic()
            answers.append(api.create().status_code)
            took.append(time.monotonic() - began)
            assert time.time() < killed + AWAY_MAX
        eventually(lambda: checks.latest("pk").at.timestamp() > killed + 1)

        times = [at.timestamp() for at in checks.order_by("pk").values_list("at", flat=True)]
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log")) + server.log
    assert set(answers) == {0, 201, 429}
    assert max(took) < SLOW
    assert max(later - earlier for earlier, later in pairwise(times)) < AWAY_MAX
    assert PASSWORD not in logs
    assert SENTINEL_PASSWORD not in logs


def test_sentinels_and_servers_are_asked_by_tls_with_a_verified_certificate(
    database: None, tmp_path: Path
) -> None:
    trusted, other = (certificate(tmp_path / name) for name in ("trusted.pem", "other.pem"))
    with guarded_valkey(trusted) as cluster:
        written = manage("shell", "--command", WRITE, REDIS_URL=cluster.url, WATCHDOG_SECONDS="0")
        assert written.returncode == 0, written.stderr
        assert cluster.server(cluster.ports[0]).llen("test.checks") == 1
        doubted = manage(
            "shell",
            "--command",
            STATE,
            REDIS_URL=cluster.url.replace(str(trusted), str(other)),
        )
        assert doubted.stdout.split()[-1] == "unavailable"


def certificate(file: Path) -> Path:
    """Make a certificate of 127.0.0.1, and put its key into the same file."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=valkey"
    )
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{file}.key", "-out", f"{file}.crt")
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    file.write_text(Path(f"{file}.key").read_text() + Path(f"{file}.crt").read_text())
    return file
