"""OFREP 0.3, the OpenFeature Remote Evaluation Protocol, so that every OpenFeature SDK works unchanged.

A flag is a feature; its value says whether the caller gets it. The targeting key is the browser's uuid. The context
may carry the browser's own kill switches, as in a URL: ``emergency_rollback`` and ``ff_useFundStore``.

Every answer is in the protocol's form, also to an unknown address, a wrong method and a fault.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.core.signals import got_request_exception
from django.db import DatabaseError, InterfaceError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    JsonResponse,
    UnreadablePostError,
)
from django.views.decorators.csrf import csrf_exempt

from rollout import configuration
from rollout.api import UNREADABLE
from rollout.api.rollouts import matches
from rollout.evaluation import EMERGENCY, Config, Reason, as_stop, as_switch, evaluate, override_name

logger = logging.getLogger(__name__)

FLAGS = "/ofrep/v1/evaluate/flags"
# characters (code points) of a targeting key: a uuid has 36, and each costs time for each rollout
TARGETING_KEY_MAX = 256
RETRY_AFTER = "1"  # s; a lost connection is made anew by the next request
REASONS = {
    Reason.EMERGENCY_STOP: "DISABLED",
    Reason.DISABLED: "DISABLED",
    Reason.OPT_OUT: "TARGETING_MATCH",
    Reason.OPT_IN: "TARGETING_MATCH",
    Reason.PERCENTAGE: "SPLIT",
}

View = Callable[..., HttpResponse]


@dataclass
class Refused(Exception):
    """A request that cannot be evaluated; ``code`` is one of OpenFeature's."""

    code: str
    details: str
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """A checked evaluation context. Its emergency stop is read once, because every flag asks for it."""

    targeting_key: str
    emergency: bool
    attributes: dict[str, Any]


def refusal(request: HttpRequest, details: str, status: int, code: str = "GENERAL") -> JsonResponse:
    """Return an error in the protocol's form, with the ``key`` if the address names a flag."""
    _, of_one_flag, key = request.path.partition(f"{FLAGS}/")
    named = {"key": key} if of_one_flag else {}
    return JsonResponse({**named, "errorCode": code, "errorDetails": details}, status=status)


def in_protocol_form(view: View) -> View:
    """Answer whatever a view raises in the protocol's form. Public, so no token against forgery is needed."""

    @csrf_exempt
    @wraps(view)
    def answer(request: HttpRequest, **arguments: str) -> HttpResponse:
        try:
            return view(request, **arguments)
        except Refused as refused:
            response = refusal(request, refused.details, refused.status, refused.code)
            for name, value in refused.headers.items():
                response.headers[name] = value
            return response
        except Exception:
            # As Django does for an exception that it answers, so that error trackers see it.
            got_request_exception.send(sender=None, request=request)
            logger.exception("ofrep: fault")
            return refusal(request, "Something went wrong here. The error is logged.", 500)

    return answer


@in_protocol_form
def flag(request: HttpRequest, key: str) -> HttpResponse:
    """Evaluate one flag."""
    require_post(request)
    context = read_context(request)
    return JsonResponse(evaluation(find(key), context))


@in_protocol_form
def flags(request: HttpRequest) -> HttpResponse:
    """Evaluate every flag. The entity tag covers the context: another caller never gets a 304 for this one's flags."""
    require_post(request)
    context = read_context(request)
    current = configuration_now()
    body = json.dumps({"flags": [evaluation(config, context) for config in current.rollouts]}).encode()
    caller = json.dumps(context.targeting_key).encode()
    etag = f'"{hashlib.blake2b(current.etag.encode() + caller + body, digest_size=12).hexdigest()}"'
    response = (
        HttpResponseNotModified()
        if matches(request, etag)
        else HttpResponse(body, content_type="application/json")
    )
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "no-cache"
    return response


@in_protocol_form
def unknown(_request: HttpRequest) -> NoReturn:
    """Answer every other address under ``/ofrep``."""
    raise Refused("GENERAL", f"There is nothing at this address. POST to {FLAGS} or {FLAGS}/<key>.", 404)


def require_post(request: HttpRequest) -> None:
    """Raise Refused for any method but POST."""
    if request.method != "POST":
        details = "Only POST evaluates flags, with the context in the body."
        raise Refused("GENERAL", details, 405, {"Allow": "POST"})


def configuration_now() -> configuration.Configuration:
    """Return the configuration, or raise Refused while the database is away."""
    try:
        return configuration.current()
    except (DatabaseError, InterfaceError):
        logger.exception("ofrep: no configuration")
        details = "The server cannot read its rollouts now; ask again later."
        raise Refused("GENERAL", details, 503, {"Retry-After": RETRY_AFTER}) from None


def find(key: str) -> Config:
    """Return the rollout that a flag key names, or raise Refused."""
    for config in configuration_now().rollouts:
        if config.feature == key:
            return config
    raise Refused("FLAG_NOT_FOUND", "No rollout has this name: GET /api/rollouts lists them.", 404)


def read_context(request: HttpRequest) -> Context:
    """Return the evaluation context of a request body ``{"context": {"targetingKey": …}}``, or raise Refused."""
    document = read_json(request)
    context = document.get("context") if isinstance(document, dict) else None
    if not isinstance(context, dict):
        raise Refused("INVALID_CONTEXT", 'Send {"context": {"targetingKey": "..."}}.')
    targeting_key = context.get("targetingKey")
    if targeting_key is None or targeting_key == "":
        raise Refused("TARGETING_KEY_MISSING", "The context needs a targetingKey: the browser's stable uuid.")
    if not isinstance(targeting_key, str):
        raise Refused("INVALID_CONTEXT", "Send the targetingKey as a string.")
    if len(targeting_key) > TARGETING_KEY_MAX:
        raise Refused(
            "INVALID_CONTEXT",
            f"The targetingKey has {len(targeting_key)} characters; send at most {TARGETING_KEY_MAX}.",
        )
    return Context(targeting_key, as_stop(context.get(EMERGENCY)), context)


def read_json(request: HttpRequest) -> Any:
    """Return the decoded body, or raise Refused. A body without a Content-Type is taken for JSON."""
    if request.content_type not in ("", "application/json"):
        raise Refused("PARSE_ERROR", "Send the body as application/json, with that Content-Type.")
    try:
        text = request.body.decode("utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)
    except RequestDataTooBig:
        raise Refused("GENERAL", "The body is larger than this server reads: send less.", 413) from None
    except UnreadablePostError:
        raise Refused("PARSE_ERROR", "The body is not whole: send the request again.") from None
    except (ValueError, RecursionError):
        raise Refused("PARSE_ERROR", UNREADABLE) from None


def _refuse_constant(name: str) -> NoReturn:
    raise Refused("PARSE_ERROR", f"{name} is not a JSON number: send a number, or null.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, or raise Refused: of two values of a kill switch, one would be overlooked."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("PARSE_ERROR", "A key appears twice in one object: send it once.")
    return found


def evaluation(config: Config, context: Context) -> dict[str, Any]:
    """Return the protocol's answer for one flag."""
    result = evaluate(
        config,
        context.targeting_key,
        emergency=context.emergency,
        url_override=as_switch(context.attributes.get(override_name(config.feature))),
    )
    return {
        "key": config.feature,
        "value": result.on,
        "variant": "on" if result.on else "off",
        "reason": REASONS[result.reason],
        "metadata": {"reason": result.reason.value, "hashVersion": config.hash_version},
    }
