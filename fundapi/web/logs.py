"""Structured logs: a line for each event, with the values bound to the request (id, user, operation).

JSON for machines, and for people at a terminal columns and colours, without values that are not there.
"""

import linecache
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.typing import Processor

_encoder = msgspec.json.Encoder(enc_hook=repr)

# In the text of an error, and in the repr() that Celery makes of one.
_DETAIL = re.compile(r"(\n|\\n)DETAIL:.*", re.DOTALL)


def without_row(text: str) -> str:
    """Return the text of an error without PostgreSQL's DETAIL, which quotes the row."""
    return _DETAIL.sub("", text)


def _without_rows(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut failing rows off, of errors of PostgreSQL that a warning or an error quotes."""
    if event["level"] in {"warning", "error", "critical"}:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = without_row(value)
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso"),
    structlog.processors.StackInfoRenderer(),
]

# The extras of our own apps, which do not use structlog. Other libraries' extras may hold whole requests and tasks.
_EXTRA = (
    *("action", "attempt", "channel", "feature", "from", "incident", "reason", "signal", "table", "to"),
    "user_id",
)

_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # locals hold bodies and tokens


def _exception(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Render an exception as data: never with local variables, never with a failing row from PostgreSQL."""
    if str(event.get("logger")).startswith("django.security."):
        # Of a bad Host and the like: strangers must not fill the logs with frames.
        event.pop("exc_info", None)
    event = structlog.processors.ExceptionRenderer(_traceback)(logger, name, event)
    for error in event.get("exception", []):
        error["exc_value"] = without_row(error["exc_value"])
    return event


def _without_files(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop the lines of static files that were found: a page has thirty of them."""
    if str(event.get("path")).startswith("/static/") and event.get("status", 500) < 400:
        raise structlog.DropEvent
    return event


def _for_people(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Shorten an event. Escape what a stranger could forge a line with, or make the terminal obey."""
    event["timestamp"] = f"{event['timestamp'][:19]}Z"
    errors = event.pop("exception", None)
    shown = {
        name: _escape(value) if isinstance(value, str) else value
        for name, value in event.items()
        if value is not None
    }
    if errors:
        # As Python prints them: the cause first.
        shown["exception"] = "\n\n".join(_trace(error) for error in reversed(errors))
    return shown


def _trace(error: dict[str, Any]) -> str:
    lines = []
    for frame in error["frames"]:
        source = linecache.getline(frame["filename"], frame["lineno"]).strip()
        lines += [
            f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}',
            f"    {source}",
        ]
    return "\n".join([*lines, f"{error['exc_type']}: {_escape(error['exc_value'])}"])


def _escape(text: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _to_json(event: Any, **_: Any) -> bytes:
    return _encoder.encode(event)


class Lines(structlog.BytesLogger):
    """Write to stderr. No request fails because its log line does: of a full disk, or a closed pipe."""

    def __init__(self, file: BinaryIO, name: str | None = None) -> None:
        super().__init__(file, name=name)

    def msg(self, message: bytes) -> None:
        with suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = msg


def default_format() -> str:
    """Return the format of logs where no setting names one: for people where stderr is a terminal."""
    return "console" if sys.stderr.isatty() else "json"


def logging_config(*, level: str, json: bool, report: Processor | None = None) -> dict[str, Any]:
    """Return Django's ``LOGGING``: every logger, ours and the libraries', to stderr in one form.

    ``report`` gets every line too, with its exception.

    structlog writes its JSON itself, and not through ``logging``: that makes a replay 9 % faster.
    """
    last = [_without_rows, report] if report else [_without_rows]
    own: list[Any]
    foreign: list[Any]
    factory: Callable[..., Any]
    if json:
        own = [_exception, structlog.processors.JSONRenderer(serializer=_to_json)]
        foreign = [*own, lambda _logger, _name, line: line.decode()]
        factory = partial(Lines, sys.stderr.buffer)
    else:
        own = [structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
        if level != "DEBUG":
            own.insert(0, _without_files)
        foreign = [
            _exception,
            _for_people,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=0),
        ]
        factory = structlog.stdlib.LoggerFactory()
    structlog.configure(
        processors=[*_SHARED, *last, *own],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    levels = logging.getLevelNamesMapping()

    def not_below(floor: str) -> str:
        return max(level, floor, key=levels.__getitem__)

    # Celery has three lines for each task, several times a minute: too much for a terminal.
    celery = level if json or level == "DEBUG" else not_below("WARNING")

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*_SHARED, structlog.stdlib.ExtraAdder(allow=_EXTRA), *last],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *foreign],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "axes": {"level": not_below("ERROR")},  # fundapi.access.signins logs the same, structured
            "celery": {"level": celery},
            "django": {"handlers": [], "level": not_below("INFO"), "propagate": True},
            # 4xx have their own line: see RequestLogMiddleware.
            "django.request": {"level": not_below("ERROR")},
            "django.server": {"handlers": [], "propagate": True},
            # Strangers send what these complain of, and they quote all of it.
            "opentelemetry.baggage": {"level": not_below("ERROR")},
            "opentelemetry.trace": {"level": not_below("ERROR")},
            "httpcore": {"level": not_below("WARNING")},
            "httpx": {"level": not_below("WARNING")},  # below, it logs whole URLs: a webhook's is a secret
        },
    }
