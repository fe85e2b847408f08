"""OFREP 0.3, the OpenFeature Remote Evaluation Protocol, so that every OpenFeature SDK works unchanged.

A flag is a feature; its value says whether the caller gets it. The targeting key is the browser's uuid. The context
may carry the browser's own kill switches, as in a URL: ``emergency_rollback`` and ``ff_useFundStore``.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from rollout import configuration
from rollout.api.rollouts import matches
from rollout.evaluation import Config, Reason, evaluate

logger = logging.getLogger(__name__)

REASONS = {
    Reason.EMERGENCY_STOP: "DISABLED",
    Reason.DISABLED: "DISABLED",
    Reason.OPT_OUT: "TARGETING_MATCH",
    Reason.OPT_IN: "TARGETING_MATCH",
    Reason.PERCENTAGE: "SPLIT",
}
TRUE, FALSE = {"1", "true"}, {"0", "false"}  # as in evaluation.js; JSON's 1 and true mean the same


@dataclass
class Refused(Exception):
    """A request that cannot be evaluated; ``code`` is one of the protocol's."""

    code: str
    details: str
    status: int = 400

    def response(self, **key: str) -> JsonResponse:
        return JsonResponse({**key, "errorCode": self.code, "errorDetails": self.details}, status=self.status)


@csrf_exempt  # public, and changes nothing
@require_POST
def flag(request: HttpRequest, key: str) -> HttpResponse:
    """Evaluate one flag."""
    try:
        context = read_context(request)
        return JsonResponse(evaluation(find(key), context))
    except Refused as refused:
        return refused.response(key=key)


@csrf_exempt
@require_POST
def flags(request: HttpRequest) -> HttpResponse:
    """Evaluate every flag. The entity tag covers the context: another caller never gets a 304 for this one's flags."""
    try:
        context = read_context(request)
        current = configuration_now()
    except Refused as refused:
        return refused.response()
    body = json.dumps({"flags": [evaluation(config, context) for config in current.rollouts]}).encode()
    caller = json.dumps(context["targetingKey"]).encode()
    etag = f'"{hashlib.blake2b(current.etag.encode() + caller + body, digest_size=12).hexdigest()}"'
    response = (
        HttpResponseNotModified()
        if matches(request, etag)
        else HttpResponse(body, content_type="application/json")
    )
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "no-cache"
    return response


def configuration_now() -> configuration.Configuration:
    """Return the configuration, or raise Refused while the database is away."""
    try:
        return configuration.current()
    except (DatabaseError, InterfaceError):
        logger.exception("ofrep: no configuration")
        raise Refused("GENERAL", "The server cannot read its rollouts now; ask again later.", 503) from None


def find(key: str) -> Config:
    """Return the rollout that a flag key names, or raise Refused."""
    for config in configuration_now().rollouts:
        if config.feature == key:
            return config
    raise Refused("FLAG_NOT_FOUND", f"There is no rollout '{key}'.", 404)


def read_context(request: HttpRequest) -> dict[str, Any]:
    """Return the evaluation context of a request body ``{"context": {"targetingKey": …}}``, or raise Refused."""
    try:
        document = json.loads(request.body)
    except RequestDataTooBig:
        raise Refused("GENERAL", "The body is larger than this server reads.", 413) from None
    except (ValueError, RecursionError):
        raise Refused("PARSE_ERROR", "The body is not JSON.") from None
    context = document.get("context") if isinstance(document, dict) else None
    if not isinstance(context, dict):
        raise Refused("INVALID_CONTEXT", 'Send {"context": {"targetingKey": "..."}}.')
    targeting_key = context.get("targetingKey")
    if targeting_key is None or targeting_key == "":
        raise Refused("TARGETING_KEY_MISSING", "The context needs a targetingKey: the browser's stable uuid.")
    if not isinstance(targeting_key, str):
        raise Refused("INVALID_CONTEXT", "The targetingKey must be a string.")
    return context


def evaluation(config: Config, context: dict[str, Any]) -> dict[str, Any]:
    """Return the protocol's answer for one flag."""
    result = evaluate(
        config,
        context["targetingKey"],
        emergency=_switch(context.get("emergency_rollback")) is True,
        url_override=_switch(context.get(override_name(config.feature))),
    )
    return {
        "key": config.feature,
        "value": result.on,
        "variant": "on" if result.on else "off",
        "reason": REASONS[result.reason],
        "metadata": {"reason": result.reason.value, "hashVersion": config.hash_version},
    }


def override_name(feature: str) -> str:
    """Return the kill switch of a feature: ``USE_FUND_STORE`` → ``ff_useFundStore`` (runbook, "Kill Switch")."""
    first, *rest = feature.lower().split("_")
    return "ff_" + first + "".join(word.capitalize() for word in rest)


def _switch(value: Any) -> bool | None:
    if not isinstance(value, bool | int | str):
        return None
    text = str(value).lower()
    return True if text in TRUE else False if text in FALSE else None
