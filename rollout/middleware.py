"""The middleware for flags that are asked before a browser has a key."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from rollout.flags import finish, give_key


class RolloutMiddleware:
    """Give a key to a browser whose request asks a flag and has none; mark such answers ``Vary: Cookie``.

    Place it behind ``UpdateCacheMiddleware``, which otherwise keeps one browser's answer for all (rollout.E016).
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        give_key(request)
        if self.is_async:
            return self._answer_async(request)
        return finish(request, self.get_response(request))

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        return finish(request, await self.get_response(request))
