"""The seam between a project and this app: one decorator."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial, wraps
from inspect import isawaitable
from typing import Any, Literal, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase

from idempotency import metrics
from idempotency.admission import scope_of
from idempotency.conf import Admit, conf, require_app
from idempotency.contrib import ninja
from idempotency.formdata import key_of
from idempotency.keys import TOKEN_LENGTH_MAX
from idempotency.marks import Mark, mark_of, marks
from idempotency.protocol import guard

V = TypeVar("V", bound=Callable[..., Any])

# Of every mark so far: all of them, once the URLs are loaded.
headers: set[str] = set()


def idempotent(
    *,
    operation: str,
    methods: Sequence[str] | None = None,
    required: bool = True,
    ttl: timedelta | None = None,
    admit: Admit | None = None,
    header: str = "Idempotency-Key",
    replay_status: int | Literal["original"] = 200,
    stored_errors: Collection[int] = (),
) -> Callable[[V], V]:
    """Guard a view, so that one idempotency key has one effect.

    It may stand on a function, on a method that handles requests (``View.post``, ``ViewSet.create``, an ``@action``),
    on a class of views, and on what ``as_view()`` returns.

    Args:
        operation: names what the view does, such as ``fund-create``; a part of every key, and of metrics' names.
        methods: the guarded HTTP methods; others pass as if there were no mark. By default POST on a class, and every
            method but GET, HEAD, OPTIONS and TRACE elsewhere.
        required: whether a request without a key is refused; otherwise it passes as if there were no mark.
        ttl: lifetime of its keys, in place of ``IDEMPOTENCY_TTL``.
        admit: admission of its callers, in place of ``IDEMPOTENCY_ADMIT``.
        header: the request's header that has the key.
        replay_status: of a replay; ``"original"`` is the status of the first answer, as it is of a redirect.
        stored_errors: statuses, such as 402, whose answers are stored like a success. What the view wrote is rolled
            back; by default an error leaves the key unused.
    """
    if isinstance(methods, str):
        methods = [methods]
    named = _each(methods, lambda name: str(name).upper())

    def apply(view: Any) -> Any:
        require_app()
        if not callable(view):
            raise TypeError(f"@idempotent(operation={operation!r}) stands on {view!r}, which is no view.")
        on_class = isinstance(view, type)
        mark = Mark(
            place=f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}",
            operation=operation,
            methods=frozenset({"POST"}) if named is None and on_class else named,
            required=required,
            ttl=ttl,
            admit=admit,
            header=header,
            replay_status=replay_status,
            stored_errors=_each(stored_errors),
        )
        marks.add(mark)
        metrics.declare(operation)
        headers.add(header)
        return _mark_class(view, mark) if on_class else _mark_callable(view, mark)

    return apply


def _each(values: Any, read: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return a set of what an argument lists; something else stays as it is, and the mark refuses it."""
    try:
        return frozenset(map(read, values))
    except TypeError:
        return values


def _mark_class(view_class: Any, mark: Mark) -> Any:
    """Mark a class of views: each request guards the handler that it is for, behind what ``dispatch`` does first."""
    if not callable(getattr(view_class, "dispatch", None)):
        raise TypeError(f"@idempotent stands on {mark.place}, which is no class of views.")
    view_class.idempotent = mark
    _guard_handlers_of(view_class)
    _guard_subclasses_of(view_class)
    return view_class


def _guard_subclasses_of(view_class: Any) -> None:
    """Guard the ``dispatch`` of each later subclass too, which may not call that of the marked class."""
    own = vars(view_class).get("__init_subclass__")

    def guard_subclass(cls: Any, /, **kwargs: Any) -> None:
        of_project = own.__get__(None, cls) if own else super(view_class, cls).__init_subclass__
        of_project(**kwargs)
        if cls.dispatch is not view_class.dispatch:
            _guard_handlers_of(cls)

    view_class.__init_subclass__ = classmethod(guard_subclass)


def _guard_handlers_of(view_class: Any) -> None:
    """Have ``dispatch`` guard the handler of a request, if the class or the URL's callback is marked."""
    dispatch = view_class.dispatch

    @wraps(dispatch)
    def guarding_dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        mark = getattr(request, "idempotency_mark", None) or mark_of(type(self))
        name = (request.method or "").lower()
        handler: Any = getattr(self, name, None)
        # A mark on the handler itself comes first.
        if mark is None or not mark.covers(request.method) or mark_of(handler) is not None:
            return dispatch(self, request, *args, **kwargs)
        called = False
        run = _run_async if _is_async(handler) else _run

        def guarded_handler(*args: Any, **kwargs: Any) -> Any:
            nonlocal called
            called = True
            return run(mark, handler, args, kwargs)

        if handler is not None:
            setattr(self, name, wraps(handler)(guarded_handler))
            getattr(self, name).idempotent = mark
        try:
            response = dispatch(self, request, *args, **kwargs)
        finally:
            if handler is not None:
                delattr(self, name)  # or the view would hold itself, until the garbage collector comes
        succeeded = 200 <= getattr(response, "status_code", 0) < 300
        # Ask for the method again: a dispatch may have made a PUT of the POST.
        if succeeded and not called and mark.covers(request.method):
            raise ImproperlyConfigured(
                f"The dispatch of {mark.place} answered {request.method} without the method '{name}', which its mark "
                "guards: mark the method that it calls."
            )
        return response

    view_class.dispatch = guarding_dispatch


def _mark_callable(view: Any, mark: Mark) -> Any:
    """Mark a function, a handler of a class, or what ``as_view()`` and ``@api_view`` return."""
    view_class = getattr(view, "cls", None)
    if view_class is None:
        return _guarded(view, mark)

    # Django REST framework: its own authentication, permissions and throttles have to run first, and once.
    _guard_handlers_of(view_class)

    @wraps(view)
    def marked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.idempotency_mark = mark  # type: ignore[attr-defined]  # read by the class's dispatch
        return view(request, *args, **kwargs)

    marked.idempotent = mark  # type: ignore[attr-defined]  # a function may have attributes
    return marked


def _guarded(view: Any, mark: Mark) -> Any:
    """Return the view with its guard around it."""
    if _is_async(view):

        @wraps(view)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            return await _run_async(mark, view, args, kwargs)

        guarded_async.idempotent = mark  # type: ignore[attr-defined]  # a function may have attributes
        ninja.announce(guarded_async)
        return guarded_async

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return _run(mark, view, args, kwargs)

    guarded.idempotent = mark  # type: ignore[attr-defined]  # likewise
    ninja.announce(guarded)
    return guarded


def _is_async(view: Any) -> bool:
    """Return whether a view is ``async``: the ``dispatch`` of such a class is not, and returns a coroutine."""
    # Bound, as ``method_decorator`` passes it.
    owner = getattr(getattr(view, "func", None), "__self__", None)
    return iscoroutinefunction(view) or bool(getattr(owner, "view_is_async", False))


async def _run_async(
    mark: Mark, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> HttpResponseBase:
    """Do as :func:`_run` does, with a view that is ``async``."""

    async def answer(*args: Any, **kwargs: Any) -> Any:
        response = view(*args, **kwargs)
        return await response if isawaitable(response) else response

    # In the thread of the transaction; what the view awaits comes back to it for the database.
    return await sync_to_async(_run)(mark, async_to_sync(answer), args, kwargs)


def _run(
    mark: Mark, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> HttpResponseBase:
    caller = _request_of(args, kwargs, mark)
    request: HttpRequest = getattr(caller, "_request", caller)
    run: Callable[[], Any] = partial(view, *args, **kwargs)
    if not mark.covers(request.method) or (not mark.required and key_of(request, mark.header) is None):
        response: HttpResponseBase = run()
        return response
    if not hasattr(request, "idempotency"):
        raise ImproperlyConfigured(
            f"The operation '{mark.operation}' was called without idempotency.middleware.IdempotencyMiddleware: "
            "add it to MIDDLEWARE, last."
        )
    admit = mark.admit or conf.admit
    principal = admit(caller, view)
    if isinstance(principal, HttpResponseBase):
        return principal
    scope = scope_of(request)
    longest = TOKEN_LENGTH_MAX - len(scope)
    if not isinstance(principal, str) or not 1 <= len(principal) <= longest or "\0" in principal:
        raise ImproperlyConfigured(
            f"{admit.__module__}.{getattr(admit, '__qualname__', type(admit).__qualname__)} returned "
            f"{_described(principal)}, and should return the caller's id as a string of 1 to {longest} "
            "characters, or the response that turns them away."
        )
    if mark.stored_errors and caller is not request:
        run = partial(_answered, run, caller.parser_context["view"].handle_exception)
    run = partial(ninja.respond, request, run, kwargs)
    return guard(request, run, mark=mark, principal=scope + principal)


def _answered(run: Callable[[], Any], handle_exception: Callable[[Exception], Any]) -> Any:
    """Run a view of REST framework, which answers most exceptions itself: here, so that the answer can be stored."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - raised again if there is no answer to it
        return handle_exception(error)


def _described(principal: Any) -> str:
    """Return a description without the value, which may be secret."""
    if principal is None:
        return "None"
    kind = type(principal).__name__
    return f"{kind} of {len(principal)} characters" if isinstance(principal, str) else kind


def _request_of(args: tuple[Any, ...], kwargs: dict[str, Any], mark: Mark) -> Any:
    """Return the request that a view is called with: its first argument, or a method's second one."""
    for value in (*args[:2], kwargs.get("request")):
        if isinstance(getattr(value, "_request", value), HttpRequest):
            return value
    raise TypeError(
        f"@idempotent(operation='{mark.operation}') stands on something that is called without a request."
    )
