"""Serve fundapi on a cluster until Ctrl-C, and show its state: `make cluster`.

    python -m chaos.cluster [--with-parent]

Reads PORT (8000). Everything is in a temporary directory, which is removed at the end. With `--with-parent` it ends
when the process that started it dies, so that a killed `make` leaves nothing behind.
"""

import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.cluster.deployment import Cluster, cluster
from chaos.cluster.engines import Member
from fundapi.embedded import run as make_run
from fundapi.embedded.home import EmbeddedError
from fundapi.embedded.processes import end_with_parent
from fundapi.embedded.run import check_free
from fundapi.variables import Variables, exit_in_one_sentence
from fundapi.web import serve

STOPPING = signal.SIGTERM, signal.SIGHUP
STATUS_SECONDS = 1.0  # between two looks
ROLES = {"leader": "leads", "sync_standby": "follows in sync", "replica": "follows"}

READY = """
fundapi runs on a cluster of three nodes. Ctrl-C stops it, and removes its data.

  API          http://127.0.0.1:{port}/api/funds, through HAProxy to two web servers
  Web servers  {servers}
  Leader       127.0.0.1:{leader}, through HAProxy; PgBouncer is at 127.0.0.1:{pool}
  Nodes        {patronictl} list
  Switch over  {patronictl} switchover fundapi --force
  Kill {name}   kill -9 $(head -1 {directory}/{name}/data/postmaster.pid)  # the leader
  Logs         {directory}/logs

Create a fund; the same command again replays the answer, whichever node leads:

  curl -i http://127.0.0.1:{port}/api/funds -H 'Authorization: Bearer {token}' \\
    -H 'Content-Type: application/json' -H 'Idempotency-Key: cluster-1' \\
    -d '{{"name": "Fund I", "size": 50000000}}'
"""


def state_of(member: Member) -> str:
    """Return a node's part of the status line."""
    role = ROLES.get(member.role, member.role)
    if member.role != "leader" and not member.follows:
        return f"{member.name} is {member.state}"
    lag = f" ({member.lag:,} bytes behind)" if isinstance(member.lag, int) and member.lag else ""
    return f"{member.name} {role}{lag}"


class StatusLine:
    """One line that is written over at a terminal; elsewhere a line for each change."""

    def __init__(self) -> None:
        self.shown = ""

    def show(self, text: str) -> None:
        if text == self.shown:
            return
        self.shown = text
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a line of its own."""
        self.end()
        print(f"make cluster: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if sys.stderr.isatty() and self.shown:
            print(file=sys.stderr)
        self.shown = ""


def announce(made: Cluster) -> None:
    engines = made.engines
    leader = engines.leader() or engines.nodes[0]
    patronictl = f"{Path(sys.executable).with_name('patronictl')} -c {engines.nodes[0].directory}/patroni.yml"
    print(
        READY.format(
            port=made.port,
            servers=", ".join(f"http://127.0.0.1:{port}" for port in made.web_ports),
            leader=engines.leader_port,
            pool=engines.pool_port,
            patronictl=patronictl,
            name=leader.name,
            directory=made.home.path,
            token=made.token,
        ),
        flush=True,
    )


def run(port: int) -> None:
    """Serve until a signal. Raises EmbeddedError when the start fails."""
    check_free(port)
    line = StatusLine()
    with cluster(port=port, say=line.note) as made:
        try:
            for step in made.start():
                line.show(f"make cluster: starting {step}")
            line.end()
            announce(made)
            while True:
                made.look_after(STATUS_SECONDS)
                nodes = [state_of(member) for member in made.engines.members()]
                ready = "ready" if make_run.answers(port) else "not ready"
                line.show(" · ".join([*nodes, f"fundapi is {ready}"]))
        finally:
            # The end takes a second or two, and must not be interrupted.
            for number in (signal.SIGINT, *STOPPING):
                signal.signal(number, signal.SIG_IGN)
            line.end()


def main(arguments: Sequence[str]) -> int:
    if "--with-parent" in arguments:
        end_with_parent(signal.SIGTERM)
    for number in STOPPING:
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        with exit_in_one_sentence():
            run(serve.port(Variables()))
    except EmbeddedError as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
