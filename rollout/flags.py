"""Flags in Python: ``flag_is_active(request, "NAME")``, the same decision as in the browser.

The key of the bucket is the browser's own where its cookie is there, else the signed-in user's id. Without both,
``rollout.middleware.RolloutMiddleware`` gives the browser a key; without the middleware, a flag is off below 100 %.

The first question of a request reads the configuration. A flag that was asked keeps its answer within the request.
"""

import logging
import re
import uuid
from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control, patch_vary_headers

from rollout import configuration, people
from rollout.conf import conf
from rollout.evaluation import EMERGENCY, Evaluation, as_stop, as_switch, evaluate, override_name

logger = logging.getLogger(__name__)

COOKIE = "rollouts_uuid"  # identity.js writes it too
KEY = re.compile(r"[\w.~-]{1,128}", re.ASCII)
YEAR = 365 * 24 * 60 * 60  # s
ATTRIBUTE = "_rollout_flags"  # of a request


class UnknownFlag(LookupError):
    """There is no rollout of this name."""


def flag_is_active(request: HttpRequest | None, feature: str) -> bool:
    """Return whether the browser of a request gets a feature.

    Without a request (a task, a command) only a rollout at 100 % is active.

    Raises:
        UnknownFlag: there is no such rollout, and ``ROLLOUT_RAISE_UNKNOWN`` is on. Else it is off, and logged once.
    """
    return evaluation(request, feature).on


async def aflag_is_active(request: HttpRequest | None, feature: str) -> bool:
    """Return the same from async code: the first question of a request may read the cache and the database."""
    return await sync_to_async(flag_is_active)(request, feature)


def evaluation(request: HttpRequest | None, feature: str) -> Evaluation:
    """Return whether the browser of a request gets a feature, and why."""
    if not isinstance(feature, str) or not isinstance(_plain(request), HttpRequest | None):
        raise TypeError(
            f'Write flag_is_active(request, "NAME"), not with {type(request).__name__} and {type(feature).__name__}. '
            f"On a method: @method_decorator(require_flag(...))."
        )
    return _answers_of(request).evaluation(request, feature)


def assigned_to(request: HttpRequest) -> dict[str, bool]:
    """Return the rollouts that the signed-in user always (``True``) or never (``False``) gets."""
    return _answers_of(request).assigned(request)


class Answers:
    """The answers to a request so far, and the configuration that they come from."""

    def __init__(self, fresh_key: str = "") -> None:
        self.configuration = configuration.last_good()
        self.overrides = configuration.overrides_now()
        self.fresh_key = fresh_key
        self.found: dict[str, Evaluation] = {}
        self.assigned_to: tuple[Any, dict[str, bool]] = (None, {})

    def evaluation(self, request: HttpRequest | None, feature: str) -> Evaluation:
        if feature not in self.found:
            self.found[feature] = self._evaluate(request, feature)
        return self.found[feature]

    def _evaluate(self, request: HttpRequest | None, feature: str) -> Evaluation:
        config = self.configuration.by_feature.get(feature) if self.configuration else None
        if config is None and self.configuration:
            _warn_of_unknown(feature)
        if request is None:
            return evaluate(config, None)
        name = override_name(feature)
        return evaluate(
            config,
            self._key(request),
            emergency=any(map(as_stop, _values(request, EMERGENCY))),
            url_override=_safer(request.GET.getlist(name)),
            stored_override=as_switch(request.COOKIES.get(name)),
            assigned=self.assigned(request).get(feature),
        )

    def _key(self, request: HttpRequest) -> str | None:
        key = request.COOKIES.get(COOKIE, "")
        if KEY.fullmatch(key):
            return key
        if (user := _signed_in(request)) is not None:
            return str(user.pk)
        if not self.fresh_key and getattr(_plain(request), "_rollout_gives_key", False):
            self.fresh_key = str(uuid.uuid4())
        return self.fresh_key or None

    def assigned(self, request: HttpRequest) -> dict[str, bool]:
        user = _signed_in(request)
        if user is None:
            return {}
        known, found = self.assigned_to
        if known is None or known.pk != user.pk:
            found = _assignments_of(user)
            self.assigned_to = user, found
        return found


def _assignments_of(user: Any) -> dict[str, bool]:
    kept = configuration.last_good_assignments()
    if not kept.by_feature:
        return {}
    words = people.words_of(user, with_groups=kept.name_groups)
    found = {}
    for feature, (always, never) in kept.by_feature.items():
        if words & never:
            found[feature] = False
        elif words & always:
            found[feature] = True
    return found


def _plain(request: Any) -> Any:
    """Return Django's own request, which DRF's wraps."""
    return getattr(request, "_request", request)


def _answers_of(request: HttpRequest | None) -> Answers:
    if request is None:
        return Answers()
    plain = _plain(request)
    answers: Answers | None = getattr(plain, ATTRIBUTE, None)
    if answers is None or answers.overrides != configuration.overrides_now():
        answers = Answers(answers.fresh_key if answers else "")
        setattr(plain, ATTRIBUTE, answers)
    return answers


def _signed_in(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def _values(request: HttpRequest, name: str) -> list[str | None]:
    return [*request.GET.getlist(name), request.COOKIES.get(name)]


def _safer(values: list[str]) -> bool | None:
    """Return the override of a URL. Of two values the safer one counts."""
    overrides = {as_switch(value) for value in values}
    return False if False in overrides else True if True in overrides else None


def _warn_of_unknown(feature: str) -> None:
    if conf.raise_unknown:
        raise UnknownFlag(
            f"There is no rollout {feature!r}: make it with `manage.py rollout create {feature}`."
        )
    _log_unknown(feature)


@lru_cache(maxsize=1000)
def _log_unknown(feature: str) -> None:
    """Log it once in this process."""
    # The name stands in the message too: Django's own logging shows no `extra`.
    logger.warning("rollout_unknown: %s", feature, extra={"feature": feature})


# --- The middleware's part ----------------------------------------------------------------------------------------


def give_key(request: HttpRequest) -> None:
    """Let the flags of a request give its browser a key."""
    request._rollout_gives_key = True  # type: ignore[attr-defined]  # noqa: SLF001 - our own attribute


def finish(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Tell caches that an answer depends on a flag, and send a new key to the browser."""
    answers: Answers | None = getattr(request, ATTRIBUTE, None)
    if answers is None or not answers.found:
        return response
    patch_vary_headers(response, ["Cookie"])
    if answers.fresh_key:
        patch_cache_control(response, private=True)  # or a shared cache would give one key to many browsers
        response.set_cookie(
            COOKIE, answers.fresh_key, max_age=YEAR, secure=request.is_secure(), samesite="Lax"
        )
    return response
