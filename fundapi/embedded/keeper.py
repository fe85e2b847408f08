"""The keeper: a background process that runs PostgreSQL and Valkey as long as a process uses the home.

Users share an flock on `run/users.lock`. When the keeper gets the exclusive lock, no user is left, and no new one
can join while the services stop. A killed user's lock dies with the user. When the keeper is killed, the kernel
signals both services to stop, and the next user starts another keeper.

    python -m fundapi.embedded.keeper HOME FD [--throw-away]

The keeper writes JSON lines to the file descriptor `FD`: perhaps `{"notice": ...}` for the user, and at last
`{"ready": ...}` or `{"error": ...}`.
"""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from types import FrameType

from fundapi.embedded.home import EmbeddedError, Home, Lock, in_words
from fundapi.embedded.postgres import Postgres
from fundapi.embedded.processes import service_account
from fundapi.embedded.reach import make_reachable
from fundapi.embedded.sockets import make_socket_directory, remove_socket_directory
from fundapi.embedded.valkey import Valkey

TICK = 0.1  # s between looks at the users and the services
BACK_OFF_MAX = 5.0  # s between attempts to restart a service that keeps dying


class Keeper:
    """Both services of a home, restarted when they die."""

    def __init__(self, home: Home, *, durable: bool) -> None:
        self.home = home
        self.stopping = False
        account = service_account()
        self.notice = make_reachable(home, account)
        self.sockets = make_socket_directory(home, account)
        self.postgres = Postgres(home, account, self.sockets, durable=durable)
        self.valkey = Valkey(home, account, self.sockets)

    def start(self) -> None:
        self.postgres.start()
        self.valkey.start()
        self.publish()

    def publish(self) -> None:
        urls = {
            "database_url": self.postgres.url("fundapi", "fundapi"),
            "superuser_url": self.postgres.url("postgres", "postgres"),
            "redis_url": self.valkey.url,
        }
        self.home.keep("run/services.json", json.dumps(urls))

    def watch(self, users: Lock) -> None:
        """Restart a service that dies, until no user is left or a signal tells the keeper to stop."""
        pause = next_attempt = 0.0
        while not self.stopping and not users.exclusive(wait=False):
            time.sleep(TICK)
            if self.postgres.running() and self.valkey.running():
                continue
            if time.monotonic() < next_attempt:
                continue
            log("a service died: restarting it")
            try:
                if not self.postgres.running():
                    self.postgres.start()
                if not self.valkey.running():
                    self.valkey.start()
                self.publish()
            except (EmbeddedError, OSError) as error:  # such as a full disk, which may have space again
                log(str(error))
            pause = min(BACK_OFF_MAX, pause * 2 or TICK)
            next_attempt = time.monotonic() + pause

    def stop(self, *_: object) -> None:
        """Stop both services and remove the file with their URLs; the data stays."""
        self.home.services_file.unlink(missing_ok=True)
        self.valkey.stop()
        self.postgres.stop()
        remove_socket_directory(self.home, self.sockets)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True


def log(text: str) -> None:
    with suppress(OSError):  # a full disk must not end the services
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper[{os.getpid()}]: {text}", flush=True)


def report(ready_fd: int, **message: str) -> None:
    """Write a message for the process that started the keeper."""
    with suppress(BrokenPipeError):  # that process was killed meanwhile
        os.write(ready_fd, (json.dumps(message) + "\n").encode())


def main(path: str, ready_fd: int, *, durable: bool) -> None:
    home = Home.at(path)
    alive, users = Lock(home.keeper_lock), Lock(home.users_lock)
    if not alive.exclusive(wait=False):
        report(ready_fd, error=f"another keeper runs the services of {home.path}")
        return
    home.services_file.unlink(missing_ok=True)  # of a killed keeper
    with ExitStack() as stack:
        try:
            with in_words(home.path):
                keeper = Keeper(home, durable=durable)
                stack.callback(keeper.stop)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, keeper.on_signal)
                keeper.start()
        except (EmbeddedError, OSError) as error:
            log(traceback.format_exc())
            report(ready_fd, error=str(error))
            return
        if keeper.notice:
            report(ready_fd, notice=keeper.notice)
        report(ready_fd, ready="")
        os.close(ready_fd)
        log("ready")
        keeper.watch(users)
        log("stopping")


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # the child ends at once, so the keeper is no child of the process that started it
    with suppress(KeyboardInterrupt):
        main(sys.argv[1], int(sys.argv[2]), durable="--throw-away" not in sys.argv[3:])
