"""A worker or a beat that hangs is killed, so that whatever runs it starts it anew; one without its broker is not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from fundapi.embedded.processes import is_alive
from tests.eventually import eventually
from tests.reliability.valkey import Valkey
from tests.servers import PROJECT, celery_arguments, database_url

SECONDS = 4  # of silence; a busy machine lets a process that lives wait for less


class Watched:
    """A process of Celery with its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    def children(self, *, watchdog: bool) -> list[psutil.Process]:
        """Return the watchdog, or the processes of the pool."""
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if is_alive(child) and ("watchdog.py" in " ".join(child.cmdline())) == watchdog
        ]

    def said(self) -> list[tuple[str, int]]:
        """Return the event and the process of each line that the watchdog wrote."""
        lines = [
            json.loads(line) for line in self.log.read_text().splitlines() if '"fundapi.watchdog"' in line
        ]
        return [(line["event"], line["pid"]) for line in lines]


@contextmanager
def watched(valkey: Valkey, log: Path, *arguments: str) -> Iterator[Watched]:
    env = {"DATABASE_URL": database_url(), "REDIS_URL": valkey.url, "WATCHDOG_SECONDS": str(SECONDS)}
    env["ROLLOUT_CHECK_INTERVAL"] = "3600"  # one check, when beat starts
    command = [sys.executable, "-m", "celery", "-A", "fundapi", "--quiet", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT, env=os.environ | env, stdout=output, stderr=output)
        running = Watched(process, log)
        try:
            eventually(lambda: running.children(watchdog=True), timeout=60)
            yield running
        finally:
            left = psutil.Process(process.pid).children() if process.poll() is None else []
            process.kill()
            process.wait()
            for child in left:
                child.kill()


def test_what_hangs_is_killed_and_what_waits_for_its_broker_is_not(valkey: Valkey, tmp_path: Path) -> None:
    with ExitStack() as stack:
        schedule = str(tmp_path / "schedule")
        beat = stack.enter_context(watched(valkey, tmp_path / "beat.log", "beat", "--schedule", schedule))
        worker = stack.enter_context(watched(valkey, tmp_path / "worker.log", *celery_arguments("checks")))
        [child] = eventually(lambda: worker.children(watchdog=False), timeout=30)

        # kombu lets a worker end that loses its broker while it works on a task; what runs it starts it again.
        eventually(worker.log.read_text, lambda text: "] succeeded in" in text, timeout=30)
        [guard], [other] = worker.children(watchdog=True), beat.children(watchdog=True)
        # Who kills the group kills the watchdog, also a stopped one; a terminal's Ctrl-C does not.
        assert os.getpgid(guard.pid) == os.getpgid(worker.process.pid)
        other.send_signal(signal.SIGINT)
        guard.suspend()
        valkey.kill()
        time.sleep(SECONDS + 2)  # in which nobody may be killed
        assert beat.children(watchdog=True) == [other]
        assert [beat.process.poll(), worker.process.poll(), beat.said(), worker.said()] == [
            None,
            None,
            [],
            [],
        ]
        valkey.start()
        eventually(lambda: worker.children(watchdog=True) not in ([], [guard]), timeout=30)

        child.suspend()
        eventually(lambda: ("process_stopped", child.pid) in worker.said(), timeout=30)
        # Celery replaces it.
        eventually(lambda: worker.children(watchdog=False) not in ([], [child]), timeout=30)

        guards = beat.children(watchdog=True) + worker.children(watchdog=True)
        for each in (beat, worker):
            each.process.send_signal(signal.SIGSTOP)
        for each in (beat, worker):
            assert each.process.wait(30) == -signal.SIGKILL
            assert {("process_stopped", each.process.pid), ("process_hung", each.process.pid)} & set(
                each.said()
            )
        eventually(lambda: not any(is_alive(guard) for guard in guards), timeout=10)
