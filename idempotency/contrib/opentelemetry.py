"""OpenTelemetry: spans of what is done with a key, beside those of psycopg's own instrumentation.

    IdempotencyInstrumentor().instrument()

A guarded request gets the spans ``idempotency.find``, ``idempotency.claim`` and ``idempotency.save``. Their statements
are below them, BEGIN and COMMIT too, which go by libpq, where psycopg's instrumentation sees nothing. The span around
the request, whoever made it, gets ``idempotency.operation`` and ``idempotency.outcome``. No span holds a key or value.
"""

from collections.abc import Callable, Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped
from opentelemetry.instrumentation.utils import unwrap
from opentelemetry.trace import SpanKind, Tracer, get_current_span, get_tracer
from wrapt import wrap_function_wrapper

from idempotency import store, wire
from idempotency.protocol import Guarded
from idempotency.signals import answered

STEPS = ("find", "claim", "save")
TRANSACTION = (wire.BEGIN, wire.COMMIT)

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


class IdempotencyInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # likewise
    """Switch the spans on and off; takes ``tracer_provider``, as every instrumentation does."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **options: Any) -> None:
        tracer = get_tracer(__name__, tracer_provider=options.get("tracer_provider"))
        for step in STEPS:
            wrap_function_wrapper(store, step, _in_span(tracer, f"idempotency.{step}"))
        wrap_function_wrapper(wire, "_ask_at_once", _transaction_in_span(tracer))
        answered.connect(_describe)

    def _uninstrument(self, **_options: Any) -> None:
        for step in STEPS:
            unwrap(store, step)
        unwrap(wire, "_ask_at_once")
        answered.disconnect(_describe)


def _in_span(tracer: Tracer, name: str) -> Wrapper:
    def wrapper(function: Callable[..., Any], _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # "In progress" and "already stored" are no errors; one of the database is in the span of its statement.
        with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
            return function(*args, **options)

    return wrapper


def _transaction_in_span(tracer: Tracer) -> Wrapper:
    def wrapper(function: Callable[..., Any], _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        sql = args[2]
        if sql not in TRANSACTION:
            return function(*args, **options)
        attributes = {"db.system.name": "postgresql", "db.query.text": sql}
        with tracer.start_as_current_span(sql.split()[0], kind=SpanKind.CLIENT, attributes=attributes):
            return function(*args, **options)

    return wrapper


def _describe(*, idempotency: Guarded, **_: Any) -> None:
    get_current_span().set_attributes(
        {"idempotency.operation": idempotency.operation, "idempotency.outcome": idempotency.outcome}
    )
