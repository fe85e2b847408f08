"""A Valkey of a test's own, to be killed or stopped without anybody else noticing."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fundapi.embedded.programs import valkey_server
from tests.eventually import eventually


class Valkey:
    def __init__(self, directory: Path) -> None:
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self.process = subprocess.Popen([valkey_server(), *options], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def freeze(self) -> None:
        """Accept connections and answer nothing, like a machine that swaps."""
        assert self.process is not None
        psutil.Process(self.process.pid).suspend()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
        return False


@contextmanager
def private_valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="fundapi-vk-", dir="/tmp") as directory:
        valkey = Valkey(Path(directory))
        valkey.start()
        try:
            yield valkey
        finally:
            valkey.kill()
