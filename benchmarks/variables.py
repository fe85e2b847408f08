"""Turn the recorded SQL of two creates into one that can be run repeatedly: pure functions of text."""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

LITERAL = re.compile(
    r"(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?<![0-9a-f])(?P<hex>[0-9a-f]{32})(?![0-9a-f])"
    r"|(?<![\w.'-])(?P<number>-?\d{10,19})(?![\w.])"
)
PARAMETER = re.compile(r"\$(\d+)")
VARIABLE = re.compile(r"%%(?P<kind>uuid|hex|number)(?P<index>\d+)%%")
# Skips strings, names and comments: a semicolon in them ends no statement.
SEPARATOR = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|--[^\n]*|(?P<end>;)""")


@dataclass(frozen=True)
class Message:
    """A message to PostgreSQL: one statement or several, ``;`` between them.

    ``parameters`` are the values of ``$1`` and so on, as text; ``prepared`` says that the statement has a name and is
    planned once for a connection. Both belong to the extended protocol, which takes one statement at a time.
    """

    sql: str
    parameters: tuple[str | None, ...] = ()
    prepared: bool = False

    @property
    def statements(self) -> int:
        """Return the number of statements in the message."""
        return 1 + sum(match["end"] is not None for match in SEPARATOR.finditer(self.sql))

    @property
    def texts(self) -> list[str]:
        return [self.sql, *(value for value in self.parameters if value is not None)]


def template(first: Sequence[Message], second: Sequence[Message]) -> tuple[Message, ...]:
    """Compare two recordings of the same request: a long literal that differs becomes ``%%uuid0%%`` and the like.

    The same value is the same variable everywhere, as a UUID with dashes and without. Short differences, such as the
    id of the new fund in its stored body, stay as they were in the first. Raises ValueError when the two are not
    alike.
    """
    numbers: dict[str, int] = {}

    def compared(one: str | None, other: str | None) -> str | None:
        if one is None or other is None:
            if one is not other:
                raise ValueError("a value is NULL in one recording only")
            return None
        return _template(one, other, numbers)

    return tuple(
        Message(
            _template(one.sql, other.sql, numbers),
            tuple(compared(*pair) for pair in zip(one.parameters, other.parameters, strict=True)),
            one.prepared,
        )
        for one, other in zip(first, second, strict=True)
    )


def _template(one: str, other: str, numbers: dict[str, int]) -> str:
    pieces, end = [], 0
    for ours, theirs in zip(LITERAL.finditer(one), LITERAL.finditer(other), strict=True):
        value = ours.group()
        if value != theirs.group():
            index = numbers.setdefault(value.replace("-", ""), len(numbers))
            pieces += [one[end : ours.start()], f"%%{ours.lastgroup}{index}%%"]
            end = ours.end()
    return "".join([*pieces, one[end:]])


def fresh(messages: Sequence[Message]) -> list[Message]:
    """Return new values for one more run."""
    values: dict[str, uuid.UUID] = {}

    def value(match: re.Match[str]) -> str:
        made = values.setdefault(match["index"], uuid.uuid4())
        match match["kind"]:
            case "uuid":
                return str(made)
            case "hex":
                return made.hex
            case _:
                return str(made.int >> 65)  # 63 bits: a positive bigint

    return [filled(message, value) for message in messages]


def filled(message: Message, value: Callable[[re.Match[str]], str]) -> Message:
    """Return the message with the variables replaced."""
    parameters = tuple(
        None if parameter is None else VARIABLE.sub(value, parameter) for parameter in message.parameters
    )
    return replace(message, sql=VARIABLE.sub(value, message.sql), parameters=parameters)


def with_literals(message: Message) -> str:
    """Return the message's SQL with the values of its parameters written into it."""
    return PARAMETER.sub(lambda match: literal(message.parameters[int(match[1]) - 1]), message.sql)


def literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"
