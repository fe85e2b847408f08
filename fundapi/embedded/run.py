"""`make run`: the whole product on one machine, with nothing to install or set up.

    python -m fundapi.embedded.run [--with-parent]

Reads PORT (8000), FUNDAPI_HOME (.fundapi), WEB_CONCURRENCY (cores), WEB_THREADS (4), DJANGO_SUPERUSER_USERNAME and
DJANGO_SUPERUSER_PASSWORD; the settings read all others. With `--with-parent` it ends when the process that started
it dies, so that a killed `make` leaves no server behind.
"""

import errno
import hashlib
import http.client
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from fundapi.embedded.client import revive, services
from fundapi.embedded.home import PROJECT, TOLD, EmbeddedError, Home, alone, in_words, lock
from fundapi.embedded.manager import Manager, Program, say, stop_leftovers
from fundapi.embedded.processes import end_with_parent
from fundapi.variables import WRONG, Variables, exit_in_one_sentence
from fundapi.web import serve

MEMORY = Path("/dev/shm")  # noqa: S108 - a name of our own there, never a file that somebody else made
TICK = 0.05  # s between checks that the programs run
KEEPER_TICK = 1.0  # s between checks that the keeper of the embedded services runs
# Failed starts of the web server, before it has answered once, after which `make run` gives up.
FAILURES_MAX = 3

# A terminal of 24 lines has it all.
READY = """
fundapi is ready. Ctrl-C stops it.

  Fund set-up  {url}/fund-setup
  Admin        {url}/admin/    {username} / {password}
  Password     {kept}
  API docs     {url}/api/docs
  API          {url}/api/funds
  Health       {url}/health
  Metrics      {url}/metrics
  Data         {home}
  Judge        counts browsers by ROLLOUT_UNSIGNED_TELEMETRY={unsigned}
  Tutorial     docs/tutorial/first-rollout.md

Create a fund; the same command again gets the same answer, and no second fund:
  curl -i {url}/api/funds -H 'Authorization: Bearer {token}' \\
    -H 'Content-Type: application/json' -H 'Idempotency-Key: {key}' \\
    -d '{{"name": "Fund I", "size": 50000000}}'

In a second terminal, watch a rollout break and be rolled back:
  {demo}
"""


class Interrupted(BaseException):
    """A request to stop that came before the server served."""


class StopRequests:
    """Count requests to stop: Ctrl-C, SIGTERM, a closed terminal."""

    def __init__(self) -> None:
        self.count = 0
        self.serving = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1 and not self.serving:
            raise Interrupted


def run(home: Home, requests: StopRequests) -> None:
    """Serve until a request to stop. Raises EmbeddedError when the start fails."""
    port = serve.port(Variables())
    url = f"http://127.0.0.1:{port}"
    home.make()
    with lock(home.run / "run.lock") as running:
        if not running.exclusive(wait=False):
            raise EmbeddedError(
                f"{home.path} is being served already, at {home.read('run/url')}; a second server needs a "
                "FUNDAPI_HOME and a PORT of its own"
            )
        home.keep("run/url", url)
        stop_leftovers(home.path)
        check_free(port)
        step(f"starting the services in {home.path}")
        with services(home) as joined:
            manager = Manager(
                home.path,
                programs(home),
                env=environment(home, port),
                pass_fds=() if joined.lock_fd is None else (joined.lock_fd,),
            )
            try:
                step("preparing the database and the static files")
                prepared = prepare(manager)
                step("starting the web server, the workers and the scheduler")
                requests.serving = True
                manager.look_after()
                wait_until_ready(manager, requests, port)
                if not requests.count:
                    announce(home, url, prepared)
                look_after_everything(manager, requests, home if joined.lock_fd is not None else None)
            finally:
                if requests.count:
                    step("stopping; Ctrl-C again kills what is left")
                manager.stop(lambda: requests.count > 1)
                shutil.rmtree(manager.env["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def step(text: str) -> None:
    """Print a step of the start at a terminal. Elsewhere a start that fails is one sentence."""
    if sys.stderr.isatty():
        say(text)


def check_free(port: int) -> None:
    """Raise EmbeddedError unless `port` is free: the server itself would share it with another program."""
    with socket.socket() as probe:
        # Connections of the previous run may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise EmbeddedError(f"port {port}: {error.strerror}; set PORT") from error
            raise EmbeddedError(
                f"port {port} is taken: stop what listens there, or set PORT to another"
            ) from error


def programs(home: Home) -> list[Program]:
    # In a container everything runs as root. Celery's warning is about pickle, which is not used here.
    quiet = ("-W", "ignore:You're running the worker with superuser")
    celery = (sys.executable, *quiet, "-m", "celery", "-A", "fundapi", "--quiet")
    worker = (*celery, "worker", "--without-gossip", "--without-mingle")
    return [
        Program("web", [sys.executable, "-m", "fundapi.web.serve"], remind=True),
        Program("worker", [*worker, "--queues", "celery", "--concurrency", "5"]),
        Program("checks", [*worker, "--queues", "checks", "--concurrency", "1", "--hostname", "checks@%h"]),
        Program("beat", [*celery, "beat", "--schedule", str(home.run / "beat-schedule")]),
    ]


def environment(home: Home, port: int) -> dict[str, str]:
    """Return the environment of the programs: ours, completed from the home, with plain HTTP on 127.0.0.1."""
    return {
        **os.environ,
        **alone(),
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE") or "fundapi.settings",
        "FUNDAPI_HOME": str(home.path),
        "SECRET_KEY": Variables().given("SECRET_KEY") or home.secret("secret-key"),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory(home)),
        "STATIC_ROOT": Variables().given("STATIC_ROOT") or str(home.static),
        "WEB_HOST": "127.0.0.1",
        "PORT": str(port),
    }


def metrics_directory(home: Home) -> Path:
    """Make the directory of the metrics anew, without the counts of dead processes: in memory, if the machine can.

    prometheus-client maps its files, so on a full disk the kernel would kill each process that counts something.
    """
    name = f"fundapi-metrics-{hashlib.blake2b(os.fsencode(home.path), digest_size=6).hexdigest()}"
    for directory in (MEMORY / name, home.run / "metrics"):
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):  # there is no such file system, or somebody else's directory has the name
            directory.mkdir(mode=0o700)
            return directory
    raise EmbeddedError(f"cannot make {home.run / 'metrics'}: remove what is there, and start again")


def prepare(manager: Manager) -> dict[str, str | None]:
    """Run `fundapi.embedded.prepare`, and return the values it prints. Raises EmbeddedError when it fails."""
    process = manager.popen([sys.executable, "-m", "fundapi.embedded.prepare"], stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate()
    except Interrupted:
        process.terminate()
        process.wait()
        raise
    if process.returncode in {WRONG, TOLD}:  # it has printed one sentence
        sys.exit(WRONG if process.returncode == WRONG else 1)
    if process.returncode != 0:
        raise EmbeddedError("the database could not be prepared; see above")
    prepared: dict[str, str | None] = json.loads(output)
    return prepared


def wait_until_ready(manager: Manager, requests: StopRequests, port: int) -> None:
    """Return when the web server answers, or on a request to stop. Raises EmbeddedError when it keeps failing."""
    web = manager.programs[0]
    while not requests.count and not answers(port):
        time.sleep(TICK)
        manager.look_after()
        if web.failures >= FAILURES_MAX:
            raise EmbeddedError("the web server does not start; see above")


def answers(port: int) -> bool:
    """Return whether the web server is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def announce(home: Home, url: str, prepared: dict[str, str | None]) -> None:
    """Print the addresses, the password and a command that creates a fund."""
    password = prepared["password"] or "(changed since it was made)"
    values = {**prepared, "password": password, "url": url, "home": home.path, "key": secrets.token_hex(8)}
    values["kept"] = password_kept(home, prepared["password"])
    values["unsigned"] = alone()["ROLLOUT_UNSIGNED_TELEMETRY"]
    values["demo"] = demo(home, url)
    print(READY.format_map(values), flush=True)


def password_kept(home: Home, password: str | None) -> str:
    """Return where to find the admin's password later."""
    if password is None:
        return "only its user knows it; set another with `manage.py changepassword`"
    if password == home.read("admin-password"):
        return f"kept in {home.path / 'admin-password'}"
    return "set by DJANGO_SUPERUSER_PASSWORD"


def demo(home: Home, url: str) -> str:
    """Return the command of a demo beside this server, for a shell in the project's directory."""
    python = Path(sys.executable)
    if python.is_relative_to(PROJECT):
        python = python.relative_to(PROJECT)
    command = shlex.join([str(python), "manage.py", "demo_rollout", "--url", url])
    return (
        command
        if home == Home.at(PROJECT / ".fundapi")
        else f"FUNDAPI_HOME={shlex.quote(str(home.path))} {command}"
    )


def look_after_everything(manager: Manager, requests: StopRequests, home: Home | None) -> None:
    """Keep the programs running until a request to stop, and with `home` its keeper."""
    next_check, said = 0.0, ""
    while not requests.count:
        manager.look_after()
        if home is not None and time.monotonic() > next_check:
            next_check = time.monotonic() + KEEPER_TICK
            try:
                revive(home)
                said = ""
            except (EmbeddedError, OSError) as error:
                if said != str(error):  # once, and not in each second of an hour
                    said = str(error)
                    say(said)
        time.sleep(TICK)


def main(arguments: list[str]) -> int:
    if "--with-parent" in arguments:
        end_with_parent(signal.SIGTERM)
    try:
        with exit_in_one_sentence():
            home = Home.from_environment()
            with in_words(home.path):
                run(home, StopRequests())
    except EmbeddedError as error:
        say(str(error))
        return 1
    except Interrupted:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
