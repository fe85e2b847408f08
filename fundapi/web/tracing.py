"""OpenTelemetry: traces and metrics of a process that serves requests or runs tasks, sent by OTLP.

Imported only where an endpoint is set (``OTEL_SIGNALS`` of the settings): off, nothing of this is in a process. The SDK
and the instrumentations read every other ``OTEL_`` variable themselves.

The providers have threads, which no fork copies: so each process calls :func:`start` after its fork. The collector is
not to be relied on: spans wait in a queue of bounded length, a thread sends them, and a stop waits ``STOP_SECONDS`` for
it. An outage is one line of the log at its start and one at its end.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing import util
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest

from fundapi.variables import not_installed, refused
from fundapi.web.logs import without_row

try:
    import opentelemetry.exporter.otlp.proto.http.metric_exporter as otlp_metrics
    import opentelemetry.exporter.otlp.proto.http.trace_exporter as otlp_traces
    from opentelemetry import metrics, trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.sdk import _shared_internal as batches
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.trace import Span, SpanKind, Status, format_span_id, format_trace_id

    from idempotency.contrib.opentelemetry import IdempotencyInstrumentor
except ImportError as error:
    raise not_installed("OTEL_EXPORTER_OTLP_ENDPOINT", error) from None
except ValueError as error:  # of OTEL_PROPAGATORS, which is read here
    raise refused("OTEL_", error) from None

STOP_SECONDS = 2.0  # for what is not sent yet; a stop of the server has 20
EXCLUDED_URLS = "OTEL_PYTHON_DJANGO_EXCLUDED_URLS"
# Variables of the instrumentations, unless somebody sets them: today's names of attributes; what stays secret where
# somebody has headers captured; addresses without a trace.
DEFAULTS = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": (
        "authorization,cookie,set-cookie,x-csrftoken,x-api-key,idempotency-key"
    ),
    EXCLUDED_URLS: r"^https?://[^/]+/(livez|readyz|health|metrics|static/.*)\??$",
}
# Before any instrumentation: the first one fixes the names of attributes.
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
# Below what answers errors: a Host that is refused raises in here.
BELOW = "fundapi.web.middleware.ProblemMiddleware"
# Of the requests' metrics. Others, such as the host, are the client's to invent: each value would be a series.
LABELS = {
    *("http.request.method", "http.response.status_code", "http.route", "url.scheme", "error.type"),
    *("http.method", "http.status_code", "http.scheme"),  # of earlier conventions
}

logger = structlog.get_logger(__name__)


class Outage(logging.Filter):
    """State of the collector: an outage is told once. The SDK's own lines, several for each batch, are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._reason = ""
        self._failing = set[str]()  # of traces and metrics, which two threads send
        self._lock = threading.Lock()
        for module in (otlp_traces, otlp_metrics, batches):
            logging.getLogger(module.__name__).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        values = record.args if isinstance(record.args, tuple) else ()
        failure = next((type(each).__name__ for each in values if isinstance(each, Exception)), "")
        self._reason = failure or self._reason or record.getMessage()
        if record.name == batches.__name__ and record.levelno >= logging.WARNING:
            self.note("traces", failed=True)  # "Queue full": the collector is slow, or away
        return False

    def note(self, what: str, *, failed: bool) -> None:
        """Take the result of an attempt; log the first that fails, and the first after which none does."""
        with self._lock:
            begins, ends = failed and not self._failing, not failed and self._failing == {what}
            (self._failing.add if failed else self._failing.discard)(what)
            reason, self._reason = self._reason, "" if ends else self._reason
        if begins:
            logger.warning("opentelemetry_not_sent", what=what, reason=reason)
        if ends:
            logger.info("opentelemetry_sent_again")


outage = Outage()


class Spans(otlp_traces.OTLPSpanExporter):
    """The exporter of spans, without what may be secret in their errors."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export([without_secrets(span) for span in spans])
        outage.note("traces", failed=result is not SpanExportResult.SUCCESS)
        return result


class Measurements(otlp_metrics.OTLPMetricExporter):
    """The exporter of metrics."""

    def export(self, *args: Any, **options: Any) -> MetricExportResult:
        result = super().export(*args, **options)
        outage.note("metrics", failed=result is not MetricExportResult.SUCCESS)
        return result


class Batches(BatchSpanProcessor):
    """Batches without the statements that no request and no task made: those of probes and of background threads."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.parent is not None or span.kind is not SpanKind.CLIENT:
            super().on_end(span)


def without_secrets(span: ReadableSpan) -> ReadableSpan:
    """Return a span with errors as the log has them: without PostgreSQL's DETAIL, which quotes the row.

    Nor with stacks, which quote the same. They are in the log, under the same trace id.
    """
    description = span.status.description
    if not span.events and not description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[Event(each.name, _without_details(each.attributes), each.timestamp) for each in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, description and without_row(description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_details(attributes: Any) -> dict[str, Any]:
    kept = {name: value for name, value in (attributes or {}).items() if name != "exception.stacktrace"}
    return {name: without_row(value) if isinstance(value, str) else value for name, value in kept.items()}


def start() -> Callable[[], None]:
    """Trace and measure this process until it ends, or until the function that is returned is called."""
    tracers, meters = _providers()
    if tracers is not None:
        trace.set_tracer_provider(tracers)
    if meters is not None:
        metrics.set_meter_provider(meters)
    for instrumentor in (PsycopgInstrumentor, RedisInstrumentor, IdempotencyInstrumentor):
        instrumentor().instrument()
    return _stop_at_the_end(tracers, meters)


def trace_requests() -> None:
    """Give each request of this process a span, and its lines of the log the ids; before Django's handler is made."""
    DjangoInstrumentor().instrument(
        middleware_position=settings.MIDDLEWARE.index(BELOW) + 1,
        excluded_urls=os.environ[EXCLUDED_URLS],
        request_hook=_describe,
    )


def check() -> None:
    """Make the providers and drop them. Raises ImproperlyConfigured in one sentence when the SDK cannot."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    try:
        for provider in _providers():
            if provider is not None:
                provider.shutdown()
    except Exception as error:
        raise refused("OTEL_", error) from error


def bind(span: Span) -> None:
    """Give the lines of the log that follow in this thread the ids of a span."""
    context = span.get_span_context()
    if context.is_valid:
        structlog.contextvars.bind_contextvars(
            trace_id=format_trace_id(context.trace_id), span_id=format_span_id(context.span_id)
        )


def _describe(span: Span, request: HttpRequest) -> None:
    bind(span)
    if isinstance(span, ReadableSpan):
        span.set_attribute("url.path", request.path)
        span.set_attribute(
            "http.response.header.x_request_id", [structlog.contextvars.get_contextvars()["request_id"]]
        )
        if "http.url" in (span.attributes or {}):  # of earlier conventions, and with the query
            span.set_attribute("http.url", request.build_absolute_uri(request.path))


def _providers() -> tuple[TracerProvider | None, MeterProvider | None]:
    """Return a provider for each signal that is sent."""
    os.environ.update({name: value for name, value in settings.OTEL_VARIABLES.items() if value})
    tracers, meters, resource = None, None, _resource()
    if "traces" in settings.OTEL_SIGNALS:
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(Batches(Spans()))
    if "metrics" in settings.OTEL_SIGNALS:
        meters = MeterProvider(
            [PeriodicExportingMetricReader(Measurements())],
            resource=resource,
            shutdown_on_exit=False,
            views=[View(instrument_name="http.server.*", attribute_keys=LABELS)],
        )
    return tracers, meters


def _resource() -> Resource:
    """Return what this process is called; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before ours."""
    given = Resource.create()
    ours = {
        "deployment.environment.name": settings.ENVIRONMENT,
        "service.version": settings.COMMIT or "unknown",
    }
    if str(given.attributes[SERVICE_NAME]).startswith("unknown_service"):
        given = given.merge(Resource({SERVICE_NAME: "fundapi"}))
    return Resource(ours).merge(given)


def _stop_at_the_end(*providers: TracerProvider | MeterProvider | None) -> Callable[[], None]:
    """Have a thread send what is left when the process ends, which waits ``STOP_SECONDS`` for it and no longer."""
    ending, sent = threading.Event(), threading.Event()

    def send() -> None:
        ending.wait()
        for provider in providers:
            if provider is not None:
                provider.shutdown()
        sent.set()

    def stop() -> None:
        ending.set()
        sent.wait(STOP_SECONDS)

    # Made now: at its end a process cannot start threads any more.
    threading.Thread(target=send, name="opentelemetry", daemon=True).start()
    util.Finalize(None, stop, exitpriority=0)  # Granian's workers run no other handlers of their end
    return stop
