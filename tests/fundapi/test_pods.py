"""The pods of deploy/kubernetes/ without Kubernetes: they migrate, get ready, serve, and end in their time.

With the variables, secrets, volumes, users and probes of their manifests, on a read-only file system, behind PgBouncer
in transaction mode; PostgreSQL, PgBouncer and Valkey with the settings of theirs.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaos.postgres import Postgres
from fundapi.embedded.processes import service_account
from fundapi.embedded.programs import valkey_server
from tests.conftest import FUND
from tests.engines import engine
from tests.eventually import eventually
from tests.fundapi.containers import image_environment
from tests.fundapi.kubernetes import (
    PAGE,
    PROCESSES,
    container,
    objects,
    of_kind,
    ours,
    secrets_of,
    the,
    variables,
)
from tests.pods import Pod, require_root, running

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(300)]
PGBOUNCER = """
[databases]
* = host={sockets}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {sockets}
auth_type = trust
auth_file = {sockets}/users
ignore_startup_parameters = extra_float_digits,options
pool_mode = {poolMode}
{parameters}
"""
POST = """
import http.client, sys, json
port, body, headers = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
connection.request("POST", "/api/funds", body, json.loads(headers))
answer = connection.getresponse()
print(answer.status, answer.headers["Idempotency-Status"], answer.read().decode())
"""
# Several command lines of manage.py in one process: most of the time of each would go into imports.
COMMANDS = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout
done = []
for sys.argv in json.loads(sys.argv[1]):
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    status = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path("manage.py", run_name="__main__")
        except SystemExit as end:
            status = end.code
    done.append((status, out, err))
print(json.dumps([[status, *(each.buffer.getvalue().decode() for each in both)] for status, *both in done]))
"""


class Deployment:
    """The overlay `production`, with its database and Valkey, and a pod of each kind."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.found = objects("production")
        self.directory = directory
        self.sockets = directory / "postgres" / "sockets"
        address = f"?host={self.sockets}"
        self.secrets = {
            "secret_key": os.urandom(32).hex(),
            "redis_url": f"unix://{self.sockets}/valkey.sock?db=0",
            "uri": f"postgresql://fundapi@/fundapi{address}",
            "database_url_web": f"postgres://fundapi_web@/fundapi{address}&port=6432",
            "database_url_worker": f"postgres://fundapi_worker@/fundapi{address}&port=6432",
            "ca.crt": "a certificate, which no unix socket needs",
        }
        self.pods = {name: self._pod(name, image) for name in ours(self.found)}

    def _pod(self, name: str, image: Path) -> Pod:
        each = ours(self.found)[name]
        files: dict[str, Path] = {}
        mounts = {mount["mountPath"]: mount["name"] for mount in container(each)["volumeMounts"]}
        user = each["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        for _, key, path in secrets_of(each):
            place, _, file = path.rpartition("/")
            volume = self.directory / f"{name}-{mounts[place]}"
            volume.mkdir(exist_ok=True)
            (volume / file).write_text(self.secrets[key])
            os.chown(volume / file, 0, user)
            (volume / file).chmod(0o440)
            files[mounts[place]] = volume
        values = image_environment() | variables(self.found, name)
        values |= {"PATH": f"{sys.prefix}/bin:{os.defpath}", "PYTHONPATH": "/shim"}
        return Pod(each, image=image, variables=values, files=files, sockets=self.sockets)

    def start_database(self, stack: ExitStack) -> None:
        """Start PostgreSQL and PgBouncer as the manifests of their operator say."""
        cluster, pooler = (
            the(self.found, kind, name)["spec"]
            for kind, name in (("Cluster", "fundapi-database"), ("Pooler", "fundapi-pooler"))
        )
        account = service_account()
        postgres = Postgres(self.directory / "postgres", account, **cluster["postgresql"]["parameters"])
        postgres.start()
        stack.callback(postgres.stop)
        self.sockets.chmod(0o777)
        with postgres.superuser("postgres") as server:
            for statement in cluster["bootstrap"]["initdb"]["postInitSQL"]:
                server.execute(statement)
        roles = [role["name"] for role in cluster["managed"]["roles"]]
        (self.sockets / "users").write_text("".join(f'"{role}" ""\n' for role in roles))
        parameters = "\n".join(f"{key} = {value}" for key, value in pooler["pgbouncer"]["parameters"].items())
        ini = self.sockets / "pgbouncer.ini"
        ini.write_text(
            PGBOUNCER.format(
                sockets=self.sockets, parameters=parameters, poolMode=pooler["pgbouncer"]["poolMode"]
            )
        )
        self._start(
            stack,
            account.command(engine("pgbouncer"), "-q", str(ini)),
            self.sockets / ".s.PGSQL.6432",
            **account.popen_options(),
        )

    def start_valkey(self, stack: ExitStack) -> None:
        _, *options = container(the(self.found, "Deployment", "fundapi-valkey"))["args"]
        socket = self.sockets / "valkey.sock"
        here = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "777"]
        self._start(stack, [str(valkey_server()), *options, *here], socket)

    def _start(self, stack: ExitStack, command: list[str], socket: Path, **options: Any) -> None:
        process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, **options)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        eventually(lambda: socket.exists() or process.poll() is not None)
        assert process.poll() is None, command


@pytest.fixture(scope="module")
def deployment(image: Path) -> Iterator[Deployment]:
    """A deployment in the order of the page: migrations, then the processes; all of them ready."""
    require_root()
    engine("pgbouncer")
    with ExitStack() as stack:
        made = Deployment(image, image)
        made.start_database(stack)
        made.start_valkey(stack)
        log = stack.enter_context((image / "log").open("wb"))
        web = stack.enter_context(running(made.pods["web"], log))
        web.wait_for("http")
        eventually(lambda: web.passes(probes_of(web)["startupProbe"]) or web.process.poll() is not None)
        assert web.process.poll() is None, (image / "log").read_text()
        early = eventually(
            lambda: web.get(web.port("http"), "/readyz", 30), lambda seen: "unmigrated" in seen.stdout
        )
        assert early.returncode == 1
        migrate = stack.enter_context(running(made.pods["migrate"], log))
        assert migrate.process.wait(120) == 0, (image / "log").read_text()
        for name in PROCESSES[1:]:
            stack.enter_context(running(made.pods[name], log))
        for name in ("worker", "checks"):
            made.pods[name].wait_for("metrics")  # a probe of these starts a Python
        for name in PROCESSES:
            eventually(partial(is_ready, made.pods[name]), timeout=120)
        yield made


def probes_of(each: Pod) -> dict[str, Any]:
    return {kind: probe for kind, probe in each.container.items() if kind.endswith("Probe")}


def is_ready(each: Pod) -> bool:
    """Return whether every probe of a pod succeeds. One that has ended will never be ready."""
    assert each.process.poll() is None, each.component
    return all(each.passes(probe) for probe in probes_of(each).values())


def test_every_pod_got_ready_and_lives(deployment: Deployment) -> None:
    assert {name: deployment.pods[name].process.poll() for name in PROCESSES} == dict.fromkeys(PROCESSES)


@dataclass
class Printed:
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def printed(deployment: Deployment) -> dict[str, Printed]:
    """Run the page's commands, in a pod of the kind that the page names, and return what they printed."""
    commands = re.findall(r"exec (?:-it )?deployment/fundapi-(\w+) -- python (manage\.py .*)", PAGE)
    assert {name for name, _ in commands} == {"web"}
    lines = [shlex.split(command) for _, command in commands]
    for words in lines:
        if "createsuperuser" in words:  # which asks for the rest at a terminal
            words += ["--no-input", "--username=admin", "--email=admin@example.com"]
    run = deployment.pods["web"].run("python", "-c", COMMANDS, json.dumps(lines))
    assert run.returncode == 0, run.stderr
    done = dict(zip((words[1] for words in lines), starmap(Printed, json.loads(run.stdout)), strict=True))
    assert {name: each for name, each in done.items() if each.status} == {}
    return done


def test_the_commands_of_the_page_work_with_the_roles_of_their_pods(printed: dict[str, Printed]) -> None:
    assert set(printed) == {"createsuperuser", "create_token", "rollout", "check", "check_consistency"}
    assert "stop" in printed["rollout"].stdout.lower()
    # The roles and the server have the settings that fundapi looks for.
    assert "fundapi.W" not in printed["check"].stderr, printed["check"].stderr


def test_a_fund_is_created_and_replayed(deployment: Deployment, printed: dict[str, Printed]) -> None:
    """As a proxy that ends TLS asks for it."""
    web = deployment.pods["web"]
    token = printed["create_token"].stdout.strip()
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "a-key", "X-Forwarded-Proto": "https"}
    headers |= {"Host": web.variables["ALLOWED_HOSTS"], "Content-Type": "application/json"}
    request = ["python", "-ISc", POST, str(web.port("http")), json.dumps(FUND), json.dumps(headers)]
    first, again = (web.run(*request).stdout.split(" ", 2) for _ in range(2))
    assert [first[:2], again[:2]] == [["201", "created"], ["200", "replayed"]]
    assert first[2] == again[2]


def test_metrics_are_where_prometheus_asks(deployment: Deployment) -> None:
    for each in of_kind(deployment.found, "ServiceMonitor", "PodMonitor"):
        if "jobLabel" not in each["spec"]:  # the database's
            continue
        [endpoint] = each["spec"].get("endpoints") or each["spec"]["podMetricsEndpoints"]
        names = ["web"] if each["kind"] == "ServiceMonitor" else ["worker", "checks"]
        for pod in (deployment.pods[name] for name in names):
            port = pod.port("http" if pod.component == "web" else endpoint["port"])
            seen = eventually(partial(pod.get, port, endpoint["path"], 10), lambda seen: seen.returncode == 0)
            assert "\n# TYPE " in seen.stdout, pod.component


def test_a_pod_may_write_to_its_volumes_in_memory_and_nothing_else(deployment: Deployment) -> None:
    for pod in deployment.pods.values():
        if pod.component == "migrate":
            continue
        writable = pod.run(
            "sh", "-c", "for each in / /app /etc /run /tmp /run/fundapi; do test -w $each && echo $each; done"
        )
        assert writable.stdout.split() == ["/tmp", "/run/fundapi"], pod.component
        status = dict(
            line.partition(":\t")[::2]
            for line in Path(f"/proc/{pod.process.pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd")} == {0}
        secrets = pod.run("sh", "-c", "cat /run/secrets/fundapi/*").stdout
        others = {"web", "worker"} - {"web" if pod.component == "web" else "worker"}
        assert not [role for role in others if f"fundapi_{role}@" in secrets]


def test_a_pod_at_rest_takes_less_memory_than_it_has_asked_for(deployment: Deployment) -> None:
    for name in PROCESSES:
        parent = psutil.Process(deployment.pods[name].process.pid)
        family = [parent, *parent.children(recursive=True)]
        taken = sum(each.memory_full_info().pss for each in family) / 2**20
        asked = deployment.pods[name].container["resources"]["requests"]["memory"]
        assert taken < int(asked.removesuffix("Mi")), name


def test_every_pod_ends_in_its_time(deployment: Deployment) -> None:
    """The last test: nothing runs after it."""
    assert {name: deployment.pods[name].end() for name in PROCESSES} == dict.fromkeys(PROCESSES, 0)
