"""Plain Django views in the OpenAPI document: rollouts, OFREP, problems, probes.

drf-spectacular sees DRF's views only, so these are written out.
"""

from typing import Any

from fundapi.web import valkey
from fundapi.web.problems import CATALOGUE, PROBLEM_JSON
from rollout.api.ofrep import TARGETING_KEY_MAX
from rollout.bucketing import FEATURE

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer", "minimum": 1}
X_REQUEST_ID = {"schema": TEXT, "description": "Id of this request in the server's logs."}
ETAG = {"schema": TEXT, "description": "Send it back as `If-None-Match`."}
CACHE_CONTROL = {"schema": TEXT, "description": "How long the response may be cached."}
ALLOW = {"schema": TEXT, "description": "The methods of this address."}
RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": TEXT,
    "description": "`ETag` of an earlier response: 304 if nothing has changed since.",
}


def _answer(
    description: str, schema: Json | None = None, *, kind: str = "application/json", **headers: Json
) -> Json:
    """Describe a response; ``headers`` by name, with ``_`` for ``-``."""
    named = {name.replace("_", "-"): header for name, header in headers.items()}
    answer: Json = {"description": description, "headers": {"X-Request-ID": X_REQUEST_ID} | named}
    return answer | ({"content": {kind: {"schema": schema}}} if schema is not None else {})


def _problem(code: str, **headers: Json) -> dict[str, Json]:
    problem = CATALOGUE[code]
    schema = {"$ref": "#/components/schemas/Problem"}
    return {str(problem.status): _answer(f"{problem.title}.", schema, kind=PROBLEM_JSON, **headers)}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def _exactly(**properties: Json) -> Json:
    """Describe an object that has all of these members."""
    return _object(list(properties), **properties)


# --- Rollouts ---------------------------------------------------------------------------------------------------

ROLLOUT = _exactly(
    feature={"type": "string", "pattern": f"^{FEATURE.pattern}$"},
    enabled={"type": "boolean"},
    percentage={"type": "number", "minimum": 0, "maximum": 100},
    emergencyStop={"type": "boolean"},
    hashVersion={"type": "integer", "enum": [1, 2]},
    trackMigrations={"type": "boolean"},
    version={"type": "integer", "minimum": 0},
)
ROLLOUTS = _exactly(
    environment=TEXT,
    pollInterval={**NUMBER, "description": "Seconds until a browser should poll again."},
    rollouts={"type": "array", "items": ROLLOUT},
)
LIST_ROLLOUTS = {
    "operationId": "listRollouts",
    "summary": "Read every rollout",
    "description": "Browsers poll it. Public.",
    "tags": ["rollouts"],
    "security": [],
    "parameters": [IF_NONE_MATCH],
    "responses": {
        "200": _answer("Every rollout.", ROLLOUTS, ETag=ETAG, Cache_Control=CACHE_CONTROL),
        "304": _answer("Nothing has changed.", ETag=ETAG, Cache_Control=CACHE_CONTROL),
        **_problem("bad_request"),
        **_problem("method_not_allowed", Allow=ALLOW),
        **_problem("server_error"),
        **_problem("database_unavailable", Retry_After=RETRY_AFTER),
    },
}

# --- OFREP ------------------------------------------------------------------------------------------------------

CONTEXT = _exactly(
    context=_exactly(
        targetingKey={
            "type": "string",
            "minLength": 1,
            "maxLength": TARGETING_KEY_MAX,
            "description": "The browser's stable UUID.",
        }
    )
)
FLAG = _exactly(
    key={"type": "string", "pattern": f"^{FEATURE.pattern}$"},
    value={"type": "boolean"},
    variant={"enum": ["on", "off"]},
    reason={"enum": ["DISABLED", "TARGETING_MATCH", "SPLIT"]},
    metadata=_exactly(reason=TEXT, hashVersion={"type": "integer"}),
)
REFUSED = _exactly(errorCode=TEXT, errorDetails=TEXT)
REFUSED_ONE = _exactly(key=TEXT, errorCode=TEXT, errorDetails=TEXT)


def _evaluate(operation: str, summary: str, refused: Json, answers: Json, *parameters: Json) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "description": "OFREP 0.3, for every OpenFeature SDK. Public, read-only.",
        "tags": ["ofrep"],
        "security": [],
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": CONTEXT}}},
        "responses": {
            **answers,
            "400": _answer("The body is not whole, or not an evaluation context.", refused),
            "403": _answer("It came by plain HTTP, and the server is reached by https.", refused),
            "405": _answer("Only POST evaluates.", refused, Allow=ALLOW),
            "413": _answer("The body has more than 256 KiB.", refused),
            "415": _answer("The body is coded.", refused),
            "500": _answer("A fault, which is logged.", refused),
            "503": _answer("The database is unavailable.", refused, Retry_After=RETRY_AFTER),
        },
    }


EVALUATE_ALL = _evaluate(
    "evaluateFlags",
    "Evaluate every flag",
    REFUSED,
    {
        "200": _answer(
            "Every flag, evaluated for this caller.",
            _exactly(flags={"type": "array", "items": FLAG}),
            ETag=ETAG,
            Cache_Control=CACHE_CONTROL,
        ),
        "304": _answer("Nothing has changed for this caller.", ETag=ETAG, Cache_Control=CACHE_CONTROL),
    },
    IF_NONE_MATCH,
)
EVALUATE_ONE = _evaluate(
    "evaluateFlag",
    "Evaluate one flag",
    REFUSED_ONE,
    {
        "200": _answer("The flag, evaluated for this caller.", FLAG),
        "404": _answer("No flag has this name.", REFUSED_ONE),
    },
    {
        "in": "path",
        "name": "key",
        "required": True,
        "schema": TEXT,
        "description": "Such as `USE_FUND_STORE`.",
    },
)

# --- Problems and probes ----------------------------------------------------------------------------------------

DATABASE = {"enum": ["ok", "unavailable", "read-only", "unmigrated", "forbidden"]}
HEALTH = _exactly(
    status={"enum": ["ok", "degraded", "unavailable"]},
    store_type={"enum": ["fund-store", "legacy"]},
    environment=TEXT,
    version=TEXT,
    commit={
        "type": ["string", "null"],
        "description": "Full hash of the commit that runs; null when it is unknown.",
    },
    checks=_exactly(
        database=DATABASE, valkey={"enum": list(valkey.STATES)}, judge={"enum": ["ok", "late", "idle"]}
    ),
)


def _probe(operation: str, summary: str, answers: Json) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["health"],
        "security": [],
        "responses": answers | {"405": _answer("Only GET and HEAD.", Allow=ALLOW)},
    }


EXPLAIN = {
    "operationId": "explainProblem",
    "summary": "Explain a problem",
    "description": "The `type` of a problem is this address.",
    "tags": ["problems"],
    "security": [],
    "parameters": [{"in": "path", "name": "code", "required": True, "schema": {"enum": sorted(CATALOGUE)}}],
    "responses": {
        "200": _answer("The problem.", {"$ref": "#/components/schemas/Problem"}),
        **_problem("not_found"),
        **_problem("method_not_allowed", Allow=ALLOW),
    },
}
PATHS: Json = {
    "/api/problems/{code}": {"get": EXPLAIN},
    "/api/rollouts": {"get": LIST_ROLLOUTS},
    "/ofrep/v1/evaluate/flags": {"post": EVALUATE_ALL},
    "/ofrep/v1/evaluate/flags/{key}": {"post": EVALUATE_ONE},
    "/health": {
        "get": _probe(
            "health",
            "Health, for people and scripts",
            {
                "200": _answer("Funds can be created.", HEALTH),
                "503": _answer("The database is unavailable.", HEALTH),
            },
        )
    },
    "/livez": {
        "get": _probe(
            "livez",
            "Liveness of the process",
            {"200": _answer("The process responds.", TEXT, kind="text/plain")},
        )
    },
    "/readyz": {
        "get": _probe(
            "readyz",
            "Readiness of the process",
            {
                "200": _answer("The process can serve requests.", TEXT, kind="text/plain"),
                "503": _answer("The database is unavailable.", TEXT, kind="text/plain"),
            },
        )
    },
}
