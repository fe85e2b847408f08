"""Views behind a flag: ``@require_flag("NAME")`` for functions, ``RequireFlagMixin`` for classes."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.views.generic import base

from rollout.flags import aflag_is_active, flag_is_active

View = Callable[..., Any]


def require_flag(
    feature: str, *, active: bool = True, redirect_to: str | None = None
) -> Callable[[View], View]:
    """Answer 404 to a browser that does not get the feature, or redirect it.

    Args:
        active: ``False`` turns it round: only browsers without the feature see the view.
        redirect_to: what :func:`django.shortcuts.redirect` takes: the name of a view, or a URL.
    """
    if not isinstance(feature, str):
        raise TypeError('Write @require_flag("NAME"), with the name of the rollout.')

    def decorate(view: View) -> View:
        if isinstance(view, type):
            raise TypeError(f"@require_flag stands on functions: give {view.__name__} RequireFlagMixin.")
        if iscoroutinefunction(view):

            @wraps(view)
            async def answer_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                if await aflag_is_active(request, feature) == active:
                    return await view(request, *args, **kwargs)
                return refuse(feature, redirect_to)

            return answer_async

        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if flag_is_active(request, feature) == active:
                return view(request, *args, **kwargs)
            return refuse(feature, redirect_to)

        return answer

    return decorate


def refuse(feature: str, redirect_to: str | None) -> HttpResponseBase:
    """Redirect, or raise ``Http404``, which names the flag only where ``DEBUG`` shows it."""
    if redirect_to is None:
        raise Http404(f"The flag {feature} decides: this browser does not see the page.")
    return HttpResponseRedirect(resolve_url(redirect_to))


class RequireFlagMixin:
    """A class view behind a flag. Name it first among the bases, before a mixin that looks anything up."""

    required_flag: str | None = None
    required_flag_active = True
    required_flag_redirect_to: str | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a class where the view comes first: its ``dispatch`` would pass the flag by."""
        super().__init_subclass__(**options)
        if base.View in cls.__mro__[: cls.__mro__.index(RequireFlagMixin)]:
            raise TypeError(
                f"{cls.__name__} must name RequireFlagMixin first among its bases: behind a view, it guards nothing."
            )

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not self.required_flag:
            raise ImproperlyConfigured(f'{type(self).__name__} needs required_flag = "NAME".')
        guard = require_flag(
            self.required_flag, active=self.required_flag_active, redirect_to=self.required_flag_redirect_to
        )
        inner = super().dispatch  # type: ignore[misc]  # of the view that it is mixed into

        if not getattr(self, "view_is_async", False):
            return guard(inner)(request, *args, **kwargs)

        async def dispatch_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return await inner(request, *args, **kwargs)

        return guard(dispatch_async)(request, *args, **kwargs)
