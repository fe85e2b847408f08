"""OpenTelemetry of tasks: a span for each one that is sent, and for each that runs, below the one that sent it.

Imported by ``fundapi.celery`` where an endpoint is set (``fundapi.web.tracing``): in workers, in beat, and in a web
process once it sends a task.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery.signals import beat_init, task_postrun, task_prerun, worker_process_init, worker_process_shutdown
from opentelemetry import context, trace
from wrapt import wrap_function_wrapper

from fundapi.variables import not_installed
from fundapi.web import tracing

try:
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
except ImportError as error:
    raise not_installed("OTEL_EXPORTER_OTLP_ENDPOINT", error) from None


def trace_tasks() -> None:
    """Trace the tasks of this process and of those that it forks, which start to send by themselves."""
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]  # has no types
    wrap_function_wrapper("celery", "Celery.send_task", _end_what_is_left_open)
    task_prerun.connect(_bind, weak=False)  # behind that of the instrumentation, which begins the span
    task_postrun.connect(_unbind, weak=False)
    worker_process_init.connect(_start, weak=False)
    beat_init.connect(_start, weak=False)


def _start(**_: Any) -> None:
    stop = tracing.start()
    # Celery's processes end without running what is to run at an end.
    worker_process_shutdown.connect(lambda **_: stop(), weak=False)


def _bind(**_: Any) -> None:
    tracing.bind(trace.get_current_span())


def _unbind(**_: Any) -> None:
    structlog.contextvars.unbind_contextvars("trace_id", "span_id")


def _end_what_is_left_open(
    send: Callable[..., Any], _app: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Send a task; end the span of a sending that failed, or of a task that this process does not know.

    The instrumentation leaves them open, and all that the thread does later would be below them.
    """
    before = trace.get_current_span()
    token = context.attach(context.get_current())
    try:
        return send(*args, **options)
    finally:
        left = trace.get_current_span()
        if left is not before:
            left.end()
        context.detach(token)
