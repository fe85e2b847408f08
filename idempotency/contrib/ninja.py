"""django-ninja: who calls a marked operation, and the response that is made of what it returns.

It imports nothing of django-ninja, and leans on three names of its 1.x: ``_ninja_contribute_to_operation`` and
``_run_decorators``, which its own ``decorate_view`` uses, and ``_result_to_response``.
"""

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from idempotency.admission import signed_in_user


def admit(request: HttpRequest, view: Callable[..., Any]) -> str | HttpResponseBase:
    """Return the id of the user that ``auth=`` of the operation has found, or refuse (``IDEMPOTENCY_ADMIT``)."""
    caller: Any = getattr(request, "auth", None)
    if getattr(caller, "is_authenticated", False):
        return str(caller.pk)
    return signed_in_user(request, view)


def announce(view: Any) -> None:
    """Have each request of a marked view name its operation, if django-ninja makes one of the view."""
    before = getattr(view, "_ninja_contribute_to_operation", ())
    view._ninja_contribute_to_operation = [*before, _contribute]  # noqa: SLF001 - as its ``decorate_view`` does


def respond(request: Any, run: Callable[[], Any], arguments: dict[str, Any]) -> Any:
    """Run a view; return the response that its operation, if it is one, makes of the result."""
    operation = getattr(request, "ninja_operation", None)
    result = run()
    if operation is None:
        return result
    # The view's own parameter, where it sets headers and cookies.
    passed = next((value for value in arguments.values() if isinstance(value, HttpResponse)), None)
    template = passed or operation.api.create_temporal_response(request)
    return operation._result_to_response(request, result, template)  # noqa: SLF001 - see the top


def _contribute(operation: Any) -> None:
    before = getattr(operation, "_run_decorators", ())
    operation._run_decorators = [*before, _naming]  # noqa: SLF001 - a router applies them to each copy
    operation.run = _naming(operation.run)


def _naming(run: Any) -> Any:
    """Return an operation's ``run`` that names the operation in the request."""

    @wraps(run)
    def naming(request: Any, **path: Any) -> Any:
        request.ninja_operation = getattr(unwrap(run), "__self__", None)
        return run(request, **path)

    return markcoroutinefunction(naming) if iscoroutinefunction(run) else naming
