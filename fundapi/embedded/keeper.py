"""The keeper: a background process that runs PostgreSQL and Valkey exactly as long as somebody uses the home.

Users hold a shared flock on `run/users.lock`. When the keeper gets the exclusive one there is nobody left,
and while it stops the services nobody new gets in. A killed user's lock dies with it; a killed keeper takes
both services with it (the kernel tells them), and the next user starts another.

    python -m fundapi.embedded.keeper HOME FD [--throw-away]

`FD` gets JSON lines: `{"notice": ...}` for what the user should know, and at last `{"ready": ...}` or
`{"error": ...}`.
"""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from types import FrameType

from fundapi.embedded.home import EmbeddedError, Home, Lock
from fundapi.embedded.postgres import Postgres
from fundapi.embedded.processes import service_account
from fundapi.embedded.reach import make_reachable
from fundapi.embedded.sockets import make_socket_directory, remove_socket_directory
from fundapi.embedded.valkey import Valkey

TICK = 0.1  # s between looks at the users and the services
BACK_OFF_MAX = 5.0  # s between attempts to restart a service that keeps dying


class Keeper:
    def __init__(self, home: Home, *, durable: bool) -> None:
        self.home = home
        self.told_to_stop = False
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
        """Restart a service that dies, until there are no users (or we are told to stop)."""
        pause = next_attempt = 0.0
        while not self.told_to_stop and not users.exclusive(wait=False):
            time.sleep(TICK)
            if self.postgres.running() and self.valkey.running():
                continue
            if time.monotonic() < next_attempt:
                continue
            say("a service died: restarting it")
            try:
                if not self.postgres.running():
                    self.postgres.start()
                if not self.valkey.running():
                    self.valkey.start()
                self.publish()
            except EmbeddedError as error:
                say(str(error))
            pause = min(BACK_OFF_MAX, pause * 2 or TICK)
            next_attempt = time.monotonic() + pause

    def stop(self, *_: object) -> None:
        """Stop both services and take down the sign; the data stays."""
        self.home.services_file.unlink(missing_ok=True)
        self.valkey.stop()
        self.postgres.stop()
        remove_socket_directory(self.home, self.sockets)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.told_to_stop = True


def say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper[{os.getpid()}]: {text}", flush=True)


def tell(ready_fd: int, **message: str) -> None:
    with suppress(BrokenPipeError):  # the starter was killed meanwhile
        os.write(ready_fd, (json.dumps(message) + "\n").encode())


def main(path: str, ready_fd: int, *, durable: bool) -> None:
    home = Home.at(path)
    alive, users = Lock(home.keeper_lock), Lock(home.users_lock)
    if not alive.exclusive(wait=False):
        tell(ready_fd, error=f"somebody else keeps {home.path}")
        return
    home.services_file.unlink(missing_ok=True)  # a killed keeper's
    with ExitStack() as stack:
        try:
            keeper = Keeper(home, durable=durable)
            stack.callback(keeper.stop)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, keeper.on_signal)
            keeper.start()
        except (EmbeddedError, OSError) as error:
            say(traceback.format_exc())
            tell(ready_fd, error=str(error))
            return
        if keeper.notice:
            tell(ready_fd, notice=keeper.notice)
        tell(ready_fd, ready="")
        os.close(ready_fd)
        say("ready")
        keeper.watch(users)
        say("stopping")


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # the starter's child ends at once, and the keeper is nobody's child
    with suppress(KeyboardInterrupt):
        main(sys.argv[1], int(sys.argv[2]), durable="--throw-away" not in sys.argv[3:])
