"""The proxies of :mod:`chaos.proxy` in a process of their own."""

import signal
import subprocess
import sys
from pathlib import Path

from fundapi.embedded.home import PROJECT
from fundapi.embedded.processes import dying_with_parent


class Proxied:
    """The process of a proxy for each target. The programs know only its addresses."""

    def __init__(self, *targets: Path | str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", *map(str, targets)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
        )
        self.ports = [int(port) for port in self._answer().split()]
        self.port = self.ports[0]

    def say(self, *words: str) -> None:
        """Give a command of :mod:`chaos.proxy`, and return when it has been carried out."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
