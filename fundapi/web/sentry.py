"""Sentry gets the lines of the log at level error and above, whoever writes them: structlog or ``logging``.

Imported only where ``SENTRY_DSN`` is set. None of the SDK's integrations is used: they patch Django on the way of each
request, and send requests with what is in them. So nothing leaves that the log does not have, and a request that fails
nowhere costs nothing. A thread sends, and a Sentry that is away slows nothing.
"""

from collections.abc import Mapping, MutableMapping
from multiprocessing import util
from typing import Any

from fundapi.variables import not_installed, wrong_secret
from fundapi.web.logs import without_row

try:
    import sentry_sdk
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.utils import Dsn
except ImportError as error:
    raise not_installed("SENTRY_DSN", error) from None

LEVELS = {"error": "error", "critical": "fatal"}
# Sentry searches by them; the other values of a line are the context "log".
TAGS = ("logger", "request_id", "trace_id", "span_id")
NOT_SAID = ("exc_info", "_from_structlog")  # structlog's own
# Strangers make the first, with a wrong Host; the second would report its own failures to itself.
NOT_OURS = ("django.security.", "sentry_sdk.")
COME_AGAIN = 503  # of an outage or an overload: one for each request, which metrics count
STOP_SECONDS = 2.0  # for what is not sent yet


def start(dsn: str, *, environment: str, release: str | None) -> None:
    """Prepare this process and those that it forks. The SDK reads all other ``SENTRY_`` variables itself.

    Raises ImproperlyConfigured.
    """
    try:
        Dsn(dsn)
    except ValueError:
        should = "the DSN of a project of Sentry, such as https://KEY@sentry.example.com/7"
        raise wrong_secret("SENTRY_DSN", should) from None
    sentry_sdk.init(
        dsn,
        environment=environment,
        release=release,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[DedupeIntegration(), ExcepthookIntegration()],
        include_local_variables=False,  # they hold bodies and tokens
        send_default_pii=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        before_send=without_details,
        shutdown_timeout=STOP_SECONDS,
    )
    util.Finalize(None, sentry_sdk.flush, (STOP_SECONDS,), exitpriority=0)


def report(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Send a line of the log if it is an error; a processor of structlog, which leaves the line as it is."""
    level = LEVELS.get(event["level"])
    if level is None or str(event.get("logger")).startswith(NOT_OURS):
        return event
    if getattr(event.get("_record"), "status_code", None) == COME_AGAIN:
        return event
    error = event.get("exc_info")
    with sentry_sdk.new_scope() as scope:
        scope.set_level(level)  # type: ignore[arg-type]  # one of its literals
        scope.set_tags({name: event[name] for name in TAGS if event.get(name)})
        scope.set_context("log", _plain(event))
        if error:
            sentry_sdk.capture_exception(None if error is True else error)
        else:
            sentry_sdk.capture_message(str(event["event"]))
    if level == "fatal":  # the process is about to end, without running what is to run at an end
        sentry_sdk.flush(STOP_SECONDS)
    return event


def _plain(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in event.items()
        if isinstance(value, str | int | float) and name not in NOT_SAID
    }


def without_details(event: Any, _hint: Any) -> Any:
    """Cut failing rows off, as the log does."""
    for error in event.get("exception", {}).get("values", []):
        error["value"] = without_row(str(error.get("value", "")))
    return event
