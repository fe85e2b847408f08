"""Comparison of funds with their stored answers, in one snapshot of the database.

One transaction writes a fund and the answer under its key, so any snapshot has both or neither. If one is missing, the
database was assembled from parts, changed by hand, or has lost rows.
"""

import json
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models.functions import Now

from fundapi.api.outcomes import OPERATION
from fundapi.api.serializers import FundSerializer
from fundapi.exactjson import ExactJSONRenderer
from fundapi.models import Fund
from idempotency import keys
from idempotency.bodies import unpack
from idempotency.conf import conf
from idempotency.models import IdempotencyKey

ID_MAX = 2**63 - 1  # of a bigint
INTEGER_MAX = 4000  # digits; Python refuses to read an int of more than 4,300
BATCH = 1000  # keys read at once
EXAMPLES = 5  # of each kind of problem
CLOCK_SLACK = timedelta(minutes=1)  # the web server dates a fund, the database its key

KINDS = {
    "unreadable": "stored answers that are not a fund",
    "misplaced": "stored answers that their own key does not find",
    "orphaned": "stored answers that name a fund which does not exist",
    "differing": "stored answers that differ from their fund",
    "doubled": "funds that two keys created",
    "unanswered": "funds younger than the TTL without a stored answer: a retry would create them again",
    "sequence": "sequences that would give out an id that is taken",
}


@dataclass(slots=True)
class Report:
    """Result of a comparison: ``problems`` counts each of :data:`KINDS`, ``examples`` holds the first few."""

    answers: int = 0
    problems: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, example: object) -> None:
        self.problems[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(str(example))

    def __bool__(self) -> bool:
        """Return whether everything is consistent."""
        return not any(self.problems.values())


@dataclass(frozen=True, slots=True)
class _Answer:
    key: IdempotencyKey
    document: dict[str, Any]  # with an integer under "id"


def check(progress: Callable[[int], object] = lambda _answers: None) -> Report:
    """Compare every stored answer of ``POST /api/funds`` with its fund, and young funds with their answers.

    Safe at any time: it only reads, in one snapshot that it holds to the end. It calls ``progress`` with the number of
    answers in each batch.
    """
    report, named = Report(), array("q")  # ids of funds; eight bytes each, because there may be ten million
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")  # a request's limit; this may scan a table
        for batch in _batches():
            report.answers += len(batch)
            named.extend(_compare(batch, report))
            progress(len(batch))
        _check_funds(named, report)
        _check_sequences(report)
    return report


def _batches() -> Iterator[Sequence[IdempotencyKey]]:
    """Yield every key of the operation, of all environments in the database, by primary key."""
    stored = IdempotencyKey.objects.filter(operation=OPERATION).order_by("digest")
    last = UUID(int=0)
    while batch := list(stored.filter(digest__gt=last)[:BATCH]):
        yield batch
        last = batch[-1].digest


def _compare(batch: Sequence[IdempotencyKey], report: Report) -> Iterator[int]:
    """Add the problems of these answers to ``report``; yield the ids of their funds."""
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
        elif str(fund.owner_id) != key.principal or not _is_equal(answer.document, fund):
            report.add("differing", number)


def _read(key: IdempotencyKey, report: Report) -> _Answer | None:
    try:
        document = _document(unpack(bytes(key.body)))
    except (zlib.error, ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and type(document.get("id")) is int and 0 < document["id"] <= ID_MAX:
        return _Answer(key, document)
    report.add("unreadable", key.digest)
    return None


def _document(body: bytes) -> Any:
    """Read JSON that the server wrote, exactly: ``1e1000`` in a request is 1,001 digits in its answer."""
    return json.loads(body, parse_float=Decimal, parse_int=_integer, parse_constant=Decimal)


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < INTEGER_MAX else Decimal(digits)


def _is_equal(document: dict[str, Any], fund: Fund) -> bool:
    """Return whether the fields of both are equal by value: another release may have more fields, or fewer."""
    now = _document(ExactJSONRenderer().render(FundSerializer().to_representation(fund)))
    return all(document[name] == now[name] for name in document.keys() & now.keys())


def _check_funds(named: "array[int]", report: Report) -> None:
    answered, times = np.unique(np.array(named, dtype=np.int64), return_counts=True)
    for number in answered[times > 1]:
        report.add("doubled", number)
    young = Fund.objects.filter(created_at__gt=Now() - (conf.ttl - CLOCK_SLACK)).order_by()
    ids = np.fromiter(young.values_list("pk", flat=True).iterator(chunk_size=BATCH), dtype=np.int64)
    for number in np.setdiff1d(ids, answered, assume_unique=True):
        report.add("unanswered", number)


def _check_sequences(report: Report) -> None:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for sequence in connection.introspection.sequence_list():
            table, column, name = (quote(sequence[part]) for part in ("table", "column", "name"))
            cursor.execute(
                f"SELECT (SELECT max({column}) FROM {table}) >="  # noqa: S608 - names of our own tables, quoted
                f" (SELECT last_value + is_called::integer FROM {name})"
            )
            row = cursor.fetchone()
            if row and row[0]:
                report.add("sequence", sequence["name"])
