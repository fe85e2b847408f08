"""Marks: the arguments of ``@idempotent``, and which of them the URLs reach."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver

from idempotency.conf import TTL_MAX, Admit
from idempotency.keys import TOKEN

SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
# Of the caller and of the moment: another attempt may be answered otherwise.
NEVER_STORED = {401, 403, 429, 503}
# RFC 9110, "token"; not as ``request.META`` has it, which no request would send.
HEADER = re.compile(r"(?!HTTP_)[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Steps from a callback to what it calls; a router of a framework is two or three away.
STEPS_MAX = 8
HANDLERS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Mark:
    """The arguments of one :func:`~idempotency.idempotent`, and the dotted name of what it stands on."""

    place: str
    operation: str
    methods: frozenset[str] | None
    required: bool
    ttl: timedelta | None
    admit: Admit | None
    header: str
    replay_status: int | Literal["original"]
    stored_errors: frozenset[int]

    def __post_init__(self) -> None:
        """Refuse arguments that would guard nothing, or fail with the first request."""
        for name, (is_right, rule) in RULES.items():
            value = getattr(self, name)
            if not is_right(value):
                shown = sorted(value, key=str) if isinstance(value, frozenset) else value
                raise ImproperlyConfigured(
                    f"@idempotent of {self.place}: {name} is {shown!r}, and should be {rule}."
                )

    def covers(self, method: str | None) -> bool:
        return method not in SAFE_METHODS if self.methods is None else method in self.methods


def is_life(value: Any) -> bool:
    """Return whether a ``ttl`` is none, or one that PostgreSQL's calendar can hold."""
    return value is None or (isinstance(value, timedelta) and timedelta() < value <= TTL_MAX)


def _is_success(value: Any) -> bool:
    return value == "original" or (type(value) is int and 200 <= value < 300)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "operation": (
        lambda value: isinstance(value, str) and TOKEN.fullmatch(value) is not None,
        "1 to 255 of A-Z a-z 0-9 _ . : ~ -",
    ),
    "methods": (
        lambda value: value is None or (isinstance(value, frozenset) and bool(value) and value <= METHODS),
        "a list of HTTP methods, such as ['POST']",
    ),
    "required": (lambda value: isinstance(value, bool), "True or False"),
    "ttl": (is_life, "a timedelta greater than 0 and at most 100 years"),
    "admit": (lambda value: value is None or callable(value), "a function"),
    "header": (
        lambda value: isinstance(value, str) and HEADER.fullmatch(value) is not None,
        "the name of a header",
    ),
    "replay_status": (_is_success, "a status from 200 to 299, or 'original'"),
    "stored_errors": (
        lambda value: (
            isinstance(value, frozenset) and value <= set(range(400, 600)) and not value & NEVER_STORED
        ),
        f"a list of statuses from 400 to 599 without {', '.join(map(str, sorted(NEVER_STORED)))}",
    ),
}

# All of them, once the URLs are loaded.
marks: WeakSet[Mark] = WeakSet()


def mark_of(thing: Any) -> Mark | None:
    """Return the mark of a function, a method or a class."""
    if isinstance(thing, MethodType):
        thing = thing.__func__
    for place in thing.__mro__ if isinstance(thing, type) else (thing,):
        mark = vars(place).get("idempotent") if isinstance(place, (type, FunctionType)) else None
        if isinstance(mark, Mark):
            return mark
    return None


def unreached(patterns: Iterable[URLPattern | URLResolver]) -> set[Mark]:
    """Return the marks that stand on nothing that a URL calls, as far as that can be seen."""
    return set(marks) - _reached(_callbacks(patterns), until=len(marks))


@cache
def is_marked(callback: Callable[..., Any]) -> bool:
    """Return whether a URL's callback leads to a mark, as far as that can be seen."""
    return bool(_reached([callback], until=1))


def _reached(callbacks: Iterable[Callable[..., Any]], until: int) -> set[Mark]:
    """Return the marks that callbacks lead to, or so many of them.

    From each callback it follows its class and handlers, what it wraps, its closure and the functions that its code
    names. So it also finds a view that a dispatcher of the project calls.
    """
    found, seen, things = set[Mark](), set[int](), list[Any](callbacks)
    for _ in range(STEPS_MAX):
        found |= {mark for thing in things if (mark := _guards(thing))}
        if len(found) >= until:
            break
        seen |= set(map(id, things))
        next_things = {id(each): each for thing in things for each in _leads_to(thing)}
        things = [each for number, each in next_things.items() if number not in seen]
    return found


def _callbacks(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _callbacks(pattern.url_patterns)
        else:
            yield pattern.callback


def _guards(thing: Any) -> Mark | None:
    """Return the mark of a function, or of a class that handles one of the marked methods."""
    if not issubclass(type(thing), type | FunctionType):
        return None
    mark = mark_of(thing)
    if mark is None or not isinstance(thing, type):
        return mark
    # The actions of a view set become handlers when a URL names them.
    is_view_set = hasattr(thing, "get_extra_actions")
    return mark if is_view_set or any(hasattr(thing, name.lower()) for name in mark.methods or ()) else None


def _leads_to(thing: Any) -> Iterator[Any]:
    """Yield what a callback, or something that it leads to, may call.

    By type and not by ``isinstance``, and from ``__dict__``: a lazy object would be evaluated by any other question.
    """
    kind = type(thing)
    if issubclass(kind, FunctionType):
        yield from _named_by(thing)
    elif issubclass(kind, partial):
        yield from (thing.func, *thing.args)
    elif issubclass(kind, MethodType):
        yield from (thing.__func__, thing.__self__)
    elif issubclass(kind, type):
        yield from (getattr(thing, name, None) for name in ("dispatch", *HANDLERS))
    elif issubclass(kind, dict):
        yield from thing.values()
    elif issubclass(kind, list | tuple | set | frozenset):
        yield from thing
    else:
        yield vars(kind).get("__call__")
    if issubclass(kind, type):
        return
    attributes = _attributes_of(thing)
    yield from attributes.values()
    # As as_view() of REST framework leaves them on a callback.
    if isinstance(actions := attributes.get("actions"), dict):
        yield from (getattr(attributes.get("cls"), name, None) for name in actions.values())


def _attributes_of(thing: Any) -> dict[str, Any]:
    try:
        attributes: dict[str, Any] = thing.__dict__
    except Exception:  # noqa: BLE001 - of a proxy that has nothing to ask, as Flask's outside a request
        return {}
    return attributes


def _named_by(function: FunctionType) -> Iterator[Any]:
    """Yield the values of a function's closure, and the globals, attributes of modules and super methods it names."""
    closure = inspect.getclosurevars(function).nonlocals
    yield from closure.values()
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            yield from (vars(value).get(each) for each in names)
        else:
            yield value
    if own := closure.get("__class__"):  # it calls super()
        yield from (vars(base).get(name) for base in own.__mro__[1:] for name in names)
