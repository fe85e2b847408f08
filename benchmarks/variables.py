"""Turns the recorded SQL of two creates into one that can be run again and again: pure functions of text."""

import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

LITERAL = re.compile(
    r"(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?<![0-9a-f])(?P<hex>[0-9a-f]{32})(?![0-9a-f])"
    r"|(?<![\w.'-])(?P<number>-?\d{10,19})(?![\w.])"
)
VARIABLE = re.compile(r"%%(?P<kind>uuid|hex|number)(?P<index>\d+)%%")


@dataclass(frozen=True)
class Template:
    """Statements in which ``%%uuid0%%`` and the like stand for values that are new each time."""

    statements: tuple[str, ...]


def template(first: Sequence[str], second: Sequence[str]) -> Template:
    """Compare two recordings of the same request: a long literal that differs becomes a variable.

    The same value is the same variable everywhere. Short differences, such as the id of the new fund in its stored
    body, stay as they were in the first. Raises ValueError when the two are not alike.
    """
    names: dict[str, str] = {}
    statements = []
    for one, other in zip(first, second, strict=True):
        literals = list(zip(LITERAL.finditer(one), LITERAL.finditer(other), strict=True))
        pieces, end = [], 0
        for ours, theirs in literals:
            value = ours.group()
            if value != theirs.group():
                name = names.setdefault(value, f"%%{ours.lastgroup}{len(names)}%%")
                pieces += [one[end : ours.start()], name]
                end = ours.end()
        statements.append("".join([*pieces, one[end:]]))
    return Template(tuple(statements))


def fresh(statements: Sequence[str]) -> list[str]:
    """Fill in new values for one more run."""
    values: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        return values.setdefault(match.group(), _new(match["kind"]))

    return [VARIABLE.sub(value, statement) for statement in statements]


def _new(kind: str) -> str:
    match kind:
        case "uuid":
            return str(uuid.uuid4())
        case "hex":
            return uuid.uuid4().hex
        case _:
            return str(secrets.randbelow(2**63))


def pgbench_script(recorded: Template) -> str:
    """The same as a script for pgbench, whose variables are numbers: a UUID is put together from several."""
    found = {
        match.group(): match for statement in recorded.statements for match in VARIABLE.finditer(statement)
    }
    lines = []
    written = {}
    for index, match in enumerate(found.values()):
        eight, four, twelve, long = (f"{letter}{index}" for letter in "abcn")
        if match["kind"] == "number":
            lines.append(f"\\set {long} random(1, 9223372036854775806)")
            written[match.group()] = f":{long}"
            continue
        lines += [
            f"\\set {eight} random(10000000, 99999999)",
            f"\\set {four} random(1000, 9999)",
            f"\\set {twelve} random(100000000000, 999999999999)",
        ]
        dash = "-" if match["kind"] == "uuid" else ""
        written[match.group()] = dash.join([f":{eight}", *[f":{four}"] * 3, f":{twelve}"])
    for statement in recorded.statements:
        lines.append(VARIABLE.sub(lambda match: written[match.group()], statement) + ";")
    return "\n".join(lines) + "\n"
