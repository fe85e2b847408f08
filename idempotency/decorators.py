"""The seam between a project and this app: one decorator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from idempotency import metrics

V = TypeVar("V", bound=Callable[..., Any])

# Of every view marked so far: all of them, once the URLs are loaded.
operations: set[str] = set()


@dataclass(frozen=True, slots=True)
class Mark:
    """The arguments of :func:`idempotent`, kept on the view."""

    operation: str
    methods: frozenset[str]


def idempotent(*, operation: str, methods: Sequence[str] = ("POST",)) -> Callable[[V], V]:
    """Guard a view, function or class, so that one Idempotency-Key has one effect.

    ``operation`` names what the view does, such as ``fund-create``; it is part of every key and of metric
    names. ``methods`` are the guarded HTTP methods; others pass as if there were no mark.
    """

    operations.add(operation)
    metrics.declare(operation)

    def mark(view: V) -> V:
        view.idempotent = Mark(operation, frozenset(methods))  # type: ignore[attr-defined]
        return view

    return mark


def mark_of(view: Callable[..., Any]) -> Mark | None:
    """Return the mark of a URL's callback: on the function itself, or on the class behind ``as_view()``."""
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    mark: Mark | None = getattr(view, "idempotent", None) or getattr(view_class, "idempotent", None)
    return mark
