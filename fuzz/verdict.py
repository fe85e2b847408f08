"""Find faults in a server's answers. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from fuzz.reading import Reading
from fuzz.wire import Answer, Exchange

PROBLEM_JSON = "application/problem+json"
LARGE = 1 << 16  # bytes; a server that closes on so many unread ones may lose its answer on the way (TCP)
INTERNALS = (b"Traceback (most recent call last)", b"django.db", b"psycopg.")  # no client may see these


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A fund that the server acknowledged with 201."""

    id: int
    name: str


def faults(sent: bytes, reading: Reading, seen: Exchange) -> Iterator[str]:
    """Yield the faults of the answers to these bytes."""
    final = [answer for answer in seen.answers if answer.status >= 200]
    for answer in final:
        yield from _faults_of(answer)
    lost_on_its_way = seen.reset and len(sent) > LARGE
    if seen.rest and not lost_on_its_way:
        yield f"half an answer: {seen.rest[:80]!r}"
    if seen.hung:
        yield "the server neither answers nor hangs up"
    elif len(final) < reading.complete and not lost_on_its_way and not _closes(final):
        yield f"{reading.complete} requests were complete, {len(final)} answered"
    if reading.certain and len(final) > reading.complete + (not reading.complete):
        yield f"{reading.complete} requests were sent, {len(final)} answered"


def _closes(final: list[Answer]) -> bool:
    """Return True if the last answer ends the connection: requests after a refusal need no answer."""
    return bool(final) and (
        final[-1].headers.get("connection", "").lower() == "close" or final[-1].status == 400
    )


def _faults_of(answer: Answer) -> Iterator[str]:
    if answer.status >= 500 and not is_excused(answer):
        yield f"status {answer.status}"
    kind = answer.headers.get("content-type", "")
    if any(word in answer.body for word in INTERNALS):
        yield f"status {answer.status} with a look inside"
    if (
        kind.startswith(("application/json", PROBLEM_JSON))
        and "x-request-id" in answer.headers
        and answer.body
    ):
        document = _json(answer.body)
        if document is None:
            yield f"status {answer.status} with {kind} that cannot be read"
        elif kind == PROBLEM_JSON and document.get("status") != answer.status:
            yield f"status {answer.status} with the problem of another: {document.get('status')}"


def is_excused(answer: Answer) -> bool:
    """Return True for the documented 503 with Retry-After, which says nothing against the request."""
    return answer.status == 503 and "retry-after" in answer.headers


def acknowledged_by(seen: Exchange) -> Iterator[Acknowledged]:
    """Yield the funds that an exchange acknowledged as new."""
    for answer in seen.answers:
        if answer.status == 201 and (fund := _json(answer.body)) is not None:
            yield Acknowledged(fund["id"], fund["name"])


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


class Effect(NamedTuple):
    """Something that a message has done: its name, and whether it did what the message says."""

    name: str
    right: bool = True


def moved(reason: str, percentage: Decimal) -> Effect:
    """Return the effect of a form on a rollout: its reason says where to."""
    name, _, goal = reason.partition(" to ")
    return Effect(name, goal == f"{percentage.normalize():f}")


def unwanted(once: Iterable[str], never: Iterable[str], effects: Iterable[Effect]) -> Iterator[str]:
    """Yield the effects of messages that were cut or coded, doubled ones, and ones that nobody asked for."""
    effects, once, never = list(effects), set(once), set(never)
    names = Counter(effect.name for effect in effects)
    yield from (
        f"the message of {name!r} was not whole, and has an effect" for name in names if name in never
    )
    yield from (
        f"{count} effects of the one message of {name!r}"
        for name, count in names.items()
        if count > 1 and name in once
    )
    for effect in effects:
        if not effect.right and effect.name in once | never:
            yield f"the effect of {effect.name!r} is not what the message says"


def account(
    acknowledged: Iterable[Acknowledged], once: Iterable[str], funds: Iterable[tuple[int, str]]
) -> Iterator[str]:
    """Yield the funds that are lost or doubled in the database: ``funds`` by id and name.

    A fund that was acknowledged must exist, and be acknowledged once. A name of ``once``, under which only one key was
    sent, may exist once at most.
    """
    acknowledged, there = list(acknowledged), list(funds)
    known, ids = dict(there), Counter(fund.id for fund in acknowledged)
    for fund in acknowledged:
        if known.get(fund.id) != fund.name:
            yield f"lost: 201 for the fund {fund.id} {fund.name!r}, which is not there"
    yield from (f"doubled: 201 {count} times for the fund {one}" for one, count in ids.items() if count > 1)
    names, expected = Counter(name for _, name in there), set(once)
    yield from (
        f"doubled: {count} funds of the one key of {name!r}"
        for name, count in names.items()
        if count > 1 and name in expected
    )
