"""Requests to GitHub's API, through PyGithub: bounded in time, retried, and their answers checked.

PyGithub's own classes take any answer for GitHub's, read the first page of some lists only, and pause without knowing
when the command must end. So only its requester is used.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from typing import Any, TypeVar

import github as pygithub
import msgspec
import requests
from django.core.cache import cache

from rollout.checks import is_url
from rollout.release.answers import Problem, Queried
from rollout.release.deadline import call_within
from rollout.release.errors import (
    Busy,
    Missing,
    MissingPermission,
    Rejected,
    ReleaseError,
    Unanswered,
    Unavailable,
)

T = TypeVar("T")

TIMEOUT = 15  # s in which GitHub must begin an answer, or go on with it
# s of a whole request: no socket's time-out bounds the look-up of a name, or a body that comes in drops.
REQUEST_MAX = 30
REQUEST_MIN = 5  # s that a request gets at least, also when the command's time is up
BACK_OFF = 0.5  # s, doubled with every retry
PAUSE_MAX = 60  # s; where GitHub asks for a longer pause, the command ends and says until when
PAUSE_BELIEVED = 86_400  # s; GitHub's limits last an hour, and a day is a fault of somebody's
SECONDARY_PAUSE = 60  # s; GitHub's documentation asks for a minute where an answer names no time
WRITES_APART = 1  # s; GitHub's documentation asks for it
PER_PAGE = 100  # GitHub's maximum; its default is 30
PAGES_MAX = 100  # GitHub ends its lists earlier
EXAMPLES = "such as https://api.github.com, or https://github.example.com/api/v3"
RATE_LIMITED = ("rate limit", "abuse detection")
PASSWORD = re.compile(r"//[^/@\s]*@")  # of a proxy's address
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)  # the last: nested without an end
FORBIDDEN = {"FORBIDDEN", "INSUFFICIENT_SCOPES"}  # of GraphQL


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``what`` completes "GitHub could not ..."; ``hint`` says what may be wrong if it refuses."""

    what: str
    verb: str
    path: str  # or the address of a next page
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # lower-case names
    text: str


class Api:
    """GitHub's API at one address. Every method raises a :class:`~rollout.release.errors.ReleaseError`."""

    def __init__(self, *, token: str, url: str, retries: int) -> None:
        self.retries = retries
        self._end = math.inf  # of the command's time, on the monotonic clock
        self._busy_until = 0.0  # s since the epoch
        # The limits are the token's, so other processes that use it wait too.
        self._busy_key = busy_key(url, token)
        self._requester = pygithub.Github(
            auth=pygithub.Auth.Token(token),
            base_url=_address(url),
            timeout=TIMEOUT,
            retry=0,
            seconds_between_requests=None,  # reads are few
            seconds_between_writes=WRITES_APART,
            user_agent="rollout-release",
        ).requester

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Begin no pause that lasts longer than so many seconds from now."""
        before, self._end = self._end, min(self._end, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._end = before

    def has_time_for(self, pause: float) -> bool:
        """Return whether the command can pause so many seconds."""
        return time.monotonic() + pause < self._end

    # --- Asking -----------------------------------------------------------------------------------------------

    def get(self, what: str, path: str, shape: type[T], *, hint: str = "", **parameters: str | int) -> T:
        """Read an object."""
        return self._read(Request(what, "GET", path, parameters, hint=hint), shape)[0]

    def pages(self, what: str, path: str, shape: type[T], **parameters: str | int) -> Iterator[T]:
        """Read every page of a list."""
        request: Request = Request(what, "GET", path, {**parameters, "per_page": PER_PAGE})
        for _ in range(PAGES_MAX):
            page, following = self._read(request, shape)
            yield page
            if not following:
                return
            request = replace(request, path=following, parameters={})
        raise Unavailable(f"GitHub could not {what}: its list has no end.")

    def send(self, what: str, verb: str, path: str, body: Any, shape: type[T], *, hint: str = "") -> T:
        """Make a change, once: a lost answer raises :class:`Unanswered`."""
        request = Request(what, verb, path, body=body, hint=hint)
        return _decoded(self._ask(request), request, shape)

    def query(self, what: str, query: str, variables: Mapping[str, Any], shape: type[T]) -> T:
        """Read by GraphQL."""
        request = self._graphql(what, query, variables)
        return self.attempt(lambda: _data(self._ask(request), request, shape))

    def mutate(self, what: str, query: str, variables: Mapping[str, Any]) -> None:
        """Make a change by GraphQL, once: a lost answer raises :class:`Unanswered`."""
        request = self._graphql(what, query, variables)
        _data(self._ask(request), request, dict[str, Any])

    def _graphql(self, what: str, query: str, variables: Mapping[str, Any]) -> Request:
        return Request(
            what, "POST", self._requester.graphql_url, body={"query": query, "variables": variables}
        )

    def _read(self, request: Request, shape: type[T]) -> tuple[T, str]:
        """Return an answer, and the address of the next page."""

        def once() -> tuple[T, str]:
            answer = self._ask(request)
            return _decoded(answer, request, shape), _following(answer.headers)

        return self.attempt(once)

    def attempt(self, do: Callable[[], T], made: Callable[[], T | None] = lambda: None) -> T:
        """Repeat what fails by chance, with growing pauses.

        Args:
            made: returns the result of a change whose answer was lost; asked before every further attempt, and when
                GitHub refuses, which may be because an earlier attempt was successful.
        """
        end = time.time() + PAUSE_MAX + 1  # of pauses that GitHub asks for
        for number in count():
            try:
                return do()
            except (Unavailable, Rejected) as error:
                again = number < self.retries and self._paused(error, BACK_OFF * 2**number, end)
                # A request that GitHub puts off was not worked on.
                if not isinstance(error, Busy) and (found := made()) is not None:
                    return found
                if not again:
                    raise
        raise AssertionError  # count() does not end

    def _paused(self, error: ReleaseError, back_off: float, end: float) -> bool:
        """Pause before another attempt; ``False`` if there is no point in one, or no time."""
        if isinstance(error, Busy):
            seconds = max(error.until - time.time(), back_off)
        elif isinstance(error, Unanswered):
            seconds = back_off
        else:
            return False
        too_long = isinstance(error, Busy) and error.until > end
        if too_long or not self.has_time_for(seconds):
            return False
        time.sleep(seconds)
        return True

    def _ask(self, request: Request) -> Answer:
        """Ask once, unless GitHub still asks for a pause, and return an answer that is not an error."""
        if (until := self._busy()) > time.time():
            raise Busy(request.what, until)
        answer = self._answer(request)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        error = _refusal(answer, request)
        if isinstance(error, Busy):
            self._stay_away(error.until)
        raise error

    def _answer(self, request: Request) -> Answer:
        left = self._end - time.monotonic()
        try:
            status, headers, text = call_within(
                min(REQUEST_MAX, max(REQUEST_MIN, left)),
                lambda: self._requester.requestJson(
                    request.verb, request.path, dict(request.parameters), None, request.body
                ),
            )
        except TimeoutError:
            raise Unanswered(f"GitHub did not answer the request to {request.what} in time.") from None
        except OSError as error:  # also those of requests
            raise Unanswered(
                f"GitHub did not answer the request to {request.what}: {_cause(error)}."
            ) from None
        except Exception as error:  # noqa: BLE001 - PyGithub asserts and converts what a server sends
            raise _foreign(request, str(error)) from None
        return Answer(status, headers, text)

    # --- Pauses that GitHub asks for --------------------------------------------------------------------------

    def _busy(self) -> float:
        stored = cache.get(self._busy_key)
        return max(self._busy_until, float(stored) if stored else 0.0)

    def _stay_away(self, until: float) -> None:
        self._busy_until = until
        cache.set(self._busy_key, str(until).encode(), max(1, math.ceil(until - time.time())))


def busy_key(url: str, token: str) -> str:
    """Return the cache's key for the time until which GitHub is not to be asked with a token."""
    return f"rollout.github.{hashlib.sha256(f'{url} {token}'.encode()).hexdigest()[:32]}"


def _address(url: str) -> str:
    """Return the address without a slash at the end.

    Raises:
        Unavailable: it is not an address.
    """
    url = url.strip()
    shown = PASSWORD.sub("//", url)
    if not is_url(url) or "?" in url:
        raise Unavailable(
            f"GITHUB_API_URL is '{shown}', which is not the address of an API: set one {EXAMPLES}."
        )
    if "[" in url:  # PyGithub leaves out the brackets of an IPv6 address
        raise Unavailable(f"GITHUB_API_URL is '{shown}': set one with a name in place of the IPv6 address.")
    return url.rstrip("/")


# --- Answers ------------------------------------------------------------------------------------------------------


def _decoded(answer: Answer, request: Request, shape: type[T]) -> T:
    text = "{}" if answer.status == HTTPStatus.NO_CONTENT else answer.text
    try:
        return msgspec.json.decode(text, type=shape)
    except UNREADABLE as error:
        kind = answer.headers.get("content-type", "").partition(";")[0] or "no content type"
        says = f": {error}" if isinstance(error, msgspec.ValidationError) else ""
        raise _foreign(request, f"{kind}{says}" if answer.text else "an empty answer") from None


def _foreign(request: Request, says: str) -> Unanswered:
    return Unanswered(
        f"What answered the request to {request.what} is not GitHub ({says}): check GITHUB_API_URL and any proxy."
    )


def _data(answer: Answer, request: Request, shape: type[T]) -> T:
    """Return the data of a GraphQL answer."""
    queried = _decoded(answer, request, Queried)
    if queried.errors:
        raise _problem(queried.errors, request)
    try:
        return msgspec.convert(queried.data, shape)
    except msgspec.ValidationError as error:
        raise _foreign(request, str(error)) from None


def _problem(problems: list[Problem], request: Request) -> ReleaseError:
    says = "; ".join(dict.fromkeys(problem.message for problem in problems))
    kinds = {problem.type for problem in problems}
    if "RATE_LIMITED" in kinds or any(word in says.lower() for word in RATE_LIMITED):
        return Busy(request.what, time.time() + SECONDARY_PAUSE)
    if says.startswith("Something went wrong"):
        return Unanswered(f"GitHub could not {request.what}: {says}")
    if kinds & FORBIDDEN:
        return MissingPermission(f"GITHUB_TOKEN may not {request.what}. {says}")
    if "NOT_FOUND" in kinds:
        return Missing(f"GitHub could not {request.what}: {says}")
    return Rejected(f"GitHub will not {request.what}: {says}")


def _following(headers: Mapping[str, str]) -> str:
    """Return the address of the next page; "" after the last."""
    links = requests.utils.parse_header_links(headers.get("link", ""))
    return next((link["url"] for link in links if link.get("rel") == "next"), "")


def _refusal(answer: Answer, request: Request) -> ReleaseError:
    what, status = request.what, answer.status
    says = _message(answer.text)
    if (until := _asked_pause(answer, says)) is not None:
        return Busy(what, until, limited=status < HTTPStatus.INTERNAL_SERVER_ERROR)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unanswered(f"GitHub could not {what}: it answered {status}.")
    if status < HTTPStatus.BAD_REQUEST:
        return Unavailable(
            f"GitHub could not {what}: it redirects to {answer.headers.get('location', 'nowhere')}. Was the repository "
            f"or the API moved? Set GITHUB_REPOSITORY and GITHUB_API_URL."
        )
    kind, sentence = _sentence(answer, request, says)
    return kind(sentence)


def _sentence(answer: Answer, request: Request, says: str) -> tuple[type[ReleaseError], str]:
    """Return the error for a status from 400 to 499, and its sentence."""
    what, hint = request.what, f"; {request.hint}" if request.hint else ""
    match answer.status:
        case HTTPStatus.UNAUTHORIZED:
            return (
                MissingPermission,
                f"GitHub does not accept GITHUB_TOKEN, so it did not {what}: is it expired?",
            )
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return (
                Unavailable,
                f"A proxy asks for a password, so GitHub did not {what}: set HTTPS_PROXY with one.",
            )
        case HTTPStatus.NOT_FOUND:
            return (
                Missing,
                f"GitHub could not {what}: it does not exist, or GITHUB_TOKEN may not read it{hint}.",
            )
        case HTTPStatus.GONE:
            return Missing, f"GitHub could not {what}: it is no longer there. {says}{hint}".rstrip()
        case HTTPStatus.FORBIDDEN:
            return MissingPermission, f"GITHUB_TOKEN may not {what}.{_needed(answer.headers)} {says}".rstrip()
    return Rejected, f"GitHub will not {what}: {says or answer.status}{hint}"


def _asked_pause(answer: Answer, says: str) -> float | None:
    """Return when GitHub may be asked again (seconds since the epoch), ``None`` if it does not ask for a pause.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    headers, now = answer.headers, time.time()
    limited = answer.status == HTTPStatus.TOO_MANY_REQUESTS or (
        answer.status == HTTPStatus.FORBIDDEN
        and (
            headers.get("x-ratelimit-remaining") == "0" or any(word in says.lower() for word in RATE_LIMITED)
        )
    )
    after = _retry_after(headers.get("retry-after", ""), now)
    if after is not None and (
        limited or answer.status in {HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE}
    ):
        return after
    if not limited:
        return None
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return min(max(now, float(reset)) + 1, now + PAUSE_BELIEVED)  # it does not say when in that second
    return now + SECONDARY_PAUSE


def _retry_after(value: str, now: float) -> float | None:
    """Return the time that ``Retry-After`` names, in seconds or as a date."""
    if value.strip().isdecimal():
        return now + min(float(value), PAUSE_BELIEVED)
    try:
        return min(parsedate_to_datetime(value).timestamp(), now + PAUSE_BELIEVED)
    except (ValueError, TypeError, OverflowError):
        return None


def _message(text: str) -> str:
    """Return GitHub's message and those of its errors; "" of an answer without one."""
    try:
        data = msgspec.json.decode(text)
    except UNREADABLE:
        return ""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    parts = [data, *errors] if isinstance(errors, list) else [data]
    texts = [part.get("message") for part in parts if isinstance(part, dict)]
    return "; ".join(dict.fromkeys(each for each in texts if isinstance(each, str) and each))


def _needed(headers: Mapping[str, str]) -> str:
    """Return the permission that the request needs, from the headers of the answer."""
    if needed := headers.get("x-accepted-github-permissions") or headers.get("x-accepted-oauth-scopes"):
        return f" It needs {needed}."
    return ""


def _cause(error: BaseException) -> str:
    """Return the message of the innermost error, without those of pools and adapters, and without passwords."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        parts = (getattr(error, "reason", None), *error.args)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
    text = PASSWORD.sub("//", str(error).rpartition(": ")[2])
    return text.strip().rstrip(".") or type(error).__name__
