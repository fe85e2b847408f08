"""Start and stop one private Valkey server on a unix socket."""

import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from fundapi.embedded.home import EmbeddedError, Home
from fundapi.embedded.processes import (
    TIDY,
    Account,
    cause_in,
    dying_with_parent,
    leftovers,
    signal_all,
)
from fundapi.embedded.programs import valkey_server

READY_TIMEOUT = 30  # s; there is no data to load
SOCKET_NAME = "valkey.sock"

# It holds the broker's queues and throttle counters, and nothing that must survive: without persistence, no file can
# be corrupted and no disk filled. When memory runs out, counters (which expire) are evicted; no queue loses a message.
CONFIGURATION = """\
port 0
unixsocket {socket}
unixsocketperm 777
daemonize no
save ""
appendonly no
maxmemory 128mb
maxmemory-policy volatile-lru
"""


class Valkey:
    """The Valkey server of a home, for use from one thread."""

    def __init__(self, home: Home, account: Account, sockets: Path) -> None:
        self.home = home
        self.account = account
        self.socket = sockets / SOCKET_NAME
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start the server, and return when it answers. First stop that of a killed keeper. Raises EmbeddedError."""
        self.account.make_directory(self.home.valkey)
        for sig in (signal.SIGTERM, signal.SIGKILL):
            signal_all(leftovers("valkey-server", self.home.valkey, self.account), sig, wait=5)
        self.socket.unlink(missing_ok=True)
        log = self.home.log("valkey")
        seen = log.stat().st_size if log.exists() else 0
        with log.open("a") as output:
            self.server = subprocess.Popen(  # type: ignore[call-overload]
                self.account.command(valkey_server(self.account), "-"),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self.home.valkey,
                env=TIDY,
                start_new_session=True,
                preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - the keeper has one thread
                **self.account.popen_options(),
            )
        assert self.server.stdin is not None  # noqa: S101 - for the type checker
        with closing(self.server.stdin) as stdin:
            stdin.write(CONFIGURATION.format(socket=self.socket).encode())
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._answers():
            if not self.running() or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"Valkey did not start: {cause_in(log, seen)}")
            time.sleep(0.01)

    def running(self) -> bool:
        return self.server is not None and self.server.poll() is None

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            try:
                self.server.wait(5)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
            self.server = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith(b"+PONG")
            except OSError:
                return False
