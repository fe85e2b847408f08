"""The floors: the SQL of a create on PostgreSQL alone, and on PostgreSQL under a bare WSGI function.

The statements are not written down here. They are read from PostgreSQL's log while the product creates two funds;
what differs between the two (keys, digests, lock ids) becomes a variable.
"""

import json
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import pgbench
from benchmarks.bodies import fund
from benchmarks.load import ask, request
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack
from benchmarks.variables import Message, template, with_literals

WARM_UP = 8  # creates: drivers prepare what they have sent five times, and the first ones look up more
# The server itself keeps values out of its log.
LOGGING = {"log_statement": "all", "log_parameter_max_length": "-1", "log_error_verbosity": "default"}
ATTEMPTS = 5  # two recordings may differ by statements that are sent now and then
PREFIX = r"^\S+ \S+ \S+ \[\d+\] (?:\S+ )?"
LOGGED = re.compile(PREFIX + r"LOG:  (?:statement|execute (?P<name>[^: ]+)): (?P<sql>.*)$")
PARAMETERS = re.compile(PREFIX + r"DETAIL:  [Pp]arameters: (?P<values>.*)$")
PARAMETER = re.compile(r"\$\d+ = (?:NULL|'(?P<text>(?:[^']|'')*)')")


@dataclass(frozen=True)
class Recording:
    """The messages that reached PostgreSQL for one create and for one replay, in their order."""

    create: tuple[Message, ...]
    replay: tuple[Message, ...]


def record(stack: Stack, token: str) -> Recording:
    """Create funds and replay one, with every statement logged."""
    with stack.superuser() as connection:
        for name, value in LOGGING.items():
            connection.execute(f"ALTER ROLE fundapi SET {name} = '{value}'")
    try:
        with serving(Site("recorded"), stack, threads=1) as server:  # drivers prepare by connection
            for _ in range(WARM_UP):
                _messages(stack, server, token, uuid.uuid4().hex)
            create = _create(stack, server, token)
            key = uuid.uuid4().hex
            _messages(stack, server, token, key)
            replay = _messages(stack, server, token, key)
    finally:
        with stack.superuser() as connection:
            for name in LOGGING:
                connection.execute(f"ALTER ROLE fundapi RESET {name}")
    return Recording(joined(create), joined(replay))


def _create(stack: Stack, server: Server, token: str) -> tuple[Message, ...]:
    for _ in range(ATTEMPTS):
        first, second = (_messages(stack, server, token, uuid.uuid4().hex) for _ in range(2))
        with suppress(ValueError):
            return template(first, second)
    raise RuntimeError("no two creates send PostgreSQL the same statements")


def _messages(stack: Stack, server: Server, token: str, key: str) -> list[Message]:
    log = stack.home / "logs" / "postgres.log"
    before = log.stat().st_size
    answer = ask(server.port, request("POST", "/api/funds", token=token, body=fund(), key=key))
    if answer.status not in (200, 201):
        raise RuntimeError(f"a create was answered {answer.status}: {answer.body[:300]!r}")
    with log.open("rb") as lines:
        lines.seek(before)
        return logged_messages(lines.read().decode(errors="replace"))


def logged_messages(log: str) -> list[Message]:
    """Return the messages in a piece of PostgreSQL's log, with the values of their parameters. Pure.

    An entry's lines after the first begin with a tab. ``execute NAME: …`` is the extended protocol.
    """
    found: list[Message] = []
    for entry in log.replace("\n\t", "\0").splitlines():
        text = entry.replace("\0", "\n")
        first, _, rest = text.partition("\n")
        if match := LOGGED.match(first):
            sql = f"{match['sql']}\n{rest}".strip().rstrip(";")
            found.append(Message(sql, prepared=match["name"] not in {None, "<unnamed>"}))
        elif found and (match := PARAMETERS.match(first)):
            values = PARAMETER.finditer(f"{match['values']}\n{rest}")
            found[-1] = replace(found[-1], parameters=tuple(map(_text, values)))
    return found


def joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Join BEGIN with the statement after it, and COMMIT with the one before. Pure.

    The product sends each of these pairs at once, as a pipeline, which the log does not show.
    """
    found: list[Message] = []
    before = ""
    for message in messages:
        if before.startswith("BEGIN") or message.sql == "COMMIT":
            found[-1] = Message(f"{with_literals(found[-1])}; {with_literals(message)}")
        else:
            found.append(message)
        before = message.sql
    return tuple(found)


def _text(parameter: re.Match[str]) -> str | None:
    text = parameter["text"]
    return None if text is None else text.replace("''", "'")


def write(recording: Recording, directory: Path) -> tuple[Path, Path]:
    """Write the create for the bare WSGI function (JSON) and for pgbench (a script)."""
    bare, script = directory / "create.json", directory / "create.pgbench"
    bare.write_text(json.dumps([asdict(message) for message in recording.create]))
    script.write_text(pgbench.script(recording.create))
    return bare, script
