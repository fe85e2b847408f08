"""The floors: what PostgreSQL alone, and PostgreSQL under a bare WSGI function, make of the very SQL of a create.

The statements are not written down here. They are read from PostgreSQL's log while the product creates two funds;
what differs between the two (keys, digests, lock ids) becomes a variable.
"""

import json
import re
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import fund
from benchmarks.figures import Sample
from benchmarks.load import ask, request
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack
from benchmarks.variables import Template, pgbench_script, template
from fundapi.embedded.programs import postgres_directory

LOGGED = re.compile(
    r"^(?P<time>\S+ \S+ \S+ \[\d+\]) (?:\S+ )?LOG:  (?:statement|execute [^:]*): (?P<sql>.*)$"
)


@dataclass(frozen=True)
class Recording:
    """The statements that reached PostgreSQL for one create and for one replay, in their order."""

    create: Template
    replay: tuple[str, ...]


def record(stack: Stack, token: str) -> Recording:
    """Create two funds and replay one, with every statement logged."""
    with stack.superuser() as connection:
        connection.execute("ALTER ROLE fundapi SET log_statement = 'all'")
    try:
        with serving(Site("recorded"), stack) as server:
            _statements(stack, server, token, uuid.uuid4().hex)  # warms up: the first request looks up more
            keys = [uuid.uuid4().hex, uuid.uuid4().hex]
            first, second = (_statements(stack, server, token, key) for key in keys)
            replay = _statements(stack, server, token, keys[0])
    finally:
        with stack.superuser() as connection:
            connection.execute("ALTER ROLE fundapi RESET log_statement")
    return Recording(template(first, second), tuple(replay))


def _statements(stack: Stack, server: Server, token: str, key: str) -> list[str]:
    log = stack.home / "logs" / "postgres.log"
    before = log.stat().st_size
    answer = ask(server.port, request("POST", "/api/funds", token=token, body=fund(), key=key))
    if answer.status not in (200, 201):
        raise RuntimeError(f"a create was answered {answer.status}: {answer.body[:300]!r}")
    with log.open("rb") as lines:
        lines.seek(before)
        return logged_statements(lines.read().decode(errors="replace"))


def logged_statements(log: str) -> list[str]:
    """Return the statements in a piece of PostgreSQL's log; lines after the first begin with a tab there."""
    found: list[str] = []
    inside = False
    for line in log.splitlines():
        if match := LOGGED.match(line):
            found.append(match["sql"])
            inside = True
        elif inside and line.startswith("\t"):
            found[-1] += "\n" + line[1:]
        else:
            inside = False
    return [statement.strip().rstrip(";") for statement in found]


def write(recording: Recording, directory: Path) -> tuple[Path, Path]:
    """Write the create for the bare WSGI function (JSON) and for pgbench (a script)."""
    bare, script = directory / "create.json", directory / "create.pgbench"
    bare.write_text(json.dumps({"statements": recording.create.statements}))
    script.write_text(pgbench_script(recording.create))
    return bare, script


def pgbench_command(stack: Stack, script: Path, seconds: float) -> list[str]:
    return [
        str(postgres_directory() / "pgbench"),
        *("--no-vacuum", "--protocol", "simple", "--client", "1", "--time", str(max(1, round(seconds)))),
        *("--file", str(script), stack.database_url),
    ]


def run_pgbench(command: Sequence[str]) -> Sample:
    """Run pgbench, which tells the average latency only: it stands for each quantile."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+) \(without", done.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    count = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    if not (rate and latency and count) or "number of failed transactions: 0 " not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return Sample(int(count[1]), float(rate[1]), float(latency[1]), float(latency[1]))
