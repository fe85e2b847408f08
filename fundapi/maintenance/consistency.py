"""Do funds and kept answers agree? What a backup has to keep together, counted in one snapshot of the database.

A fund and the answer under its key are one transaction, so any snapshot has both or neither. Where one is missing, the
database has been put together from parts, changed by hand, or has lost something.
"""

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models.functions import Now

from fundapi.api.serializers import FundSerializer
from fundapi.exactjson import ExactJSONRenderer
from fundapi.models import Fund
from idempotency import keys
from idempotency.bodies import unpack
from idempotency.conf import conf
from idempotency.fingerprint import parse_json
from idempotency.models import IdempotencyKey
from idempotency.problems import InvalidJSON

OPERATION = "fund-create"  # of POST /api/funds, as fundapi/api/views.py marks it
ID_MAX = 2**63 - 1  # of a bigint
BATCH = 1000  # keys read at once
EXAMPLES = 5  # of each kind of problem: enough to look at, however many there are
CLOCKS = timedelta(minutes=1)  # a fund has the time of a web server, its key that of the database

KINDS = {
    "unreadable": "kept answers that are no fund",
    "misplaced": "kept answers that their own key does not find",
    "orphaned": "kept answers that name a fund which does not exist",
    "differing": "kept answers that say something else than their fund",
    "doubled": "funds that two keys have made",
    "unanswered": "funds younger than the TTL without a kept answer: a retry would make them again",
    "sequence": "sequences that would give out an id which is taken",
}


@dataclass(slots=True)
class Report:
    """What was found. ``problems`` counts each of :data:`KINDS`; ``examples`` names the first few."""

    answers: int = 0
    problems: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, what: object) -> None:
        self.problems[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(str(what))

    def __bool__(self) -> bool:
        """Whether everything agrees."""
        return not any(self.problems.values())


@dataclass(frozen=True, slots=True)
class _Answer:
    key: IdempotencyKey
    document: dict[str, Any]  # with an integer under "id"


def check(progress: Callable[[int], object] = lambda _answers: None) -> Report:
    """Compare every kept answer to ``POST /api/funds`` with its fund, and young funds with their answers.

    Safe at any time: it only reads, in one snapshot, which it holds until it is done. ``progress`` is told how many
    answers were read since it was last called.
    """
    report, made = Report(), array("q")  # ids of funds: eight bytes each, for there may be ten million
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")  # a request's limit; this may scan a table
        for batch in _batches():
            report.answers += len(batch)
            made.extend(_compare(batch, report))
            progress(len(batch))
        _check_funds(made, report)
        _check_sequences(report)
    return report


def _batches() -> Iterator[Sequence[IdempotencyKey]]:
    """Every key of the operation, in the order of the primary key, of all environments that share the database."""
    stored = IdempotencyKey.objects.filter(operation=OPERATION).order_by("digest")
    last = UUID(int=0)
    while batch := list(stored.filter(digest__gt=last)[:BATCH]):
        yield batch
        last = batch[-1].digest


def _compare(batch: Sequence[IdempotencyKey], report: Report) -> Iterator[int]:
    """Add to ``report`` what is wrong with these answers; yield the ids of the funds that they name."""
    answers = [answer for key in batch if (answer := _read(key, report))]
    funds = Fund.objects.in_bulk([answer.document["id"] for answer in answers])
    for answer in answers:
        key, number = answer.key, answer.document["id"]
        yield number
        parts = {"environment": key.environment, "operation": key.operation, "principal": key.principal}
        if keys.digest(**parts, token=key.token) != key.digest:
            report.add("misplaced", key.digest)
        fund = funds.get(number)
        if fund is None:
            report.add("orphaned", number)
        elif str(fund.owner_id) != key.principal or not _says_the_same(answer.document, fund):
            report.add("differing", number)


def _read(key: IdempotencyKey, report: Report) -> _Answer | None:
    try:
        document = parse_json(unpack(bytes(key.body)))
    except (zlib.error, InvalidJSON):
        document = None
    if isinstance(document, dict) and type(document.get("id")) is int and 0 < document["id"] <= ID_MAX:
        return _Answer(key, document)
    report.add("unreadable", key.digest)
    return None


def _says_the_same(document: dict[str, Any], fund: Fund) -> bool:
    """Compare by value what both have: another release may have answered with more fields, or fewer."""
    now = parse_json(ExactJSONRenderer().render(FundSerializer().to_representation(fund)))
    return all(document[name] == now[name] for name in document.keys() & now.keys())


def _check_funds(made: "array[int]", report: Report) -> None:
    named, times = np.unique(np.array(made, dtype=np.int64), return_counts=True)
    for number in named[times > 1]:
        report.add("doubled", number)
    young = Fund.objects.filter(created_at__gt=Now() - (conf.ttl - CLOCKS)).order_by()
    ids = np.fromiter(young.values_list("pk", flat=True).iterator(chunk_size=BATCH), dtype=np.int64)
    for number in np.setdiff1d(ids, named, assume_unique=True):
        report.add("unanswered", number)


def _check_sequences(report: Report) -> None:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for found in connection.introspection.sequence_list():
            table, column, name = (quote(found[part]) for part in ("table", "column", "name"))
            cursor.execute(
                f"SELECT (SELECT max({column}) FROM {table}) >="  # noqa: S608 - names of our own tables, quoted
                f" (SELECT last_value + is_called::integer FROM {name})"
            )
            row = cursor.fetchone()
            if row and row[0]:
                report.add("sequence", found["name"])
