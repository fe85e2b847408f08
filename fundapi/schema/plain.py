"""What ``/api/schema`` says of the addresses that are plain Django views: rollouts, OFREP, problems, probes.

drf-spectacular sees DRF's views alone; these are written out, in OpenAPI's own terms.
"""

from typing import Any

from fundapi.web.problems import CATALOGUE, PROBLEM_JSON
from rollout.bucketing import FEATURE

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer", "minimum": 1}
X_REQUEST_ID = {"schema": TEXT, "description": "Name of this request in the server's logs."}
ETAG = {"schema": TEXT, "description": "Send it back as `If-None-Match`."}
CACHE_CONTROL = {"schema": TEXT, "description": "How long the answer may be kept."}
ALLOW = {"schema": TEXT, "description": "The methods of this address."}
RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
KNOWN_ALREADY = {
    "in": "header",
    "name": "If-None-Match",
    "schema": TEXT,
    "description": "The `ETag` of an earlier answer: 304 when nothing has changed since.",
}


def _answer(
    description: str, schema: Json | None = None, *, kind: str = "application/json", **headers: Json
) -> Json:
    """Describe an answer; ``headers`` by their names, with ``_`` for ``-``."""
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
    """Describe an object with all of these members."""
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
    pollInterval={**NUMBER, "description": "Seconds until a browser should ask again."},
    rollouts={"type": "array", "items": ROLLOUT},
)
LIST_ROLLOUTS = {
    "operationId": "listRollouts",
    "summary": "Read every rollout",
    "description": "What browsers poll. Public.",
    "tags": ["rollouts"],
    "security": [],
    "parameters": [KNOWN_ALREADY],
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
        targetingKey={"type": "string", "minLength": 1, "description": "The browser's stable uuid."}
    )
)
FLAG = _exactly(
    key={"type": "string", "pattern": f"^{FEATURE.pattern}$"},
    value={"type": "boolean"},
    variant={"enum": ["on", "off"]},
    reason={"enum": ["DISABLED", "TARGETING_MATCH", "SPLIT"]},
    metadata=_exactly(reason=TEXT, hashVersion={"type": "integer"}),
)
REFUSED = _object(["errorCode", "errorDetails"], key=TEXT, errorCode=TEXT, errorDetails=TEXT)


def _evaluate(operation: str, summary: str, answers: Json, *parameters: Json) -> Json:
    refusals = {
        "400": "The body is no evaluation context.",
        "413": "The body has more than 256 KiB.",
        "503": "The rollouts cannot be read now.",
    }
    return {
        "operationId": operation,
        "summary": summary,
        "description": "OFREP 0.3, for every OpenFeature SDK. Public, and changes nothing.",
        "tags": ["ofrep"],
        "security": [],
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": CONTEXT}}},
        "responses": {
            **answers,
            **{status: _answer(text, REFUSED) for status, text in refusals.items()},
            "405": _answer("Only POST evaluates.", Allow=ALLOW),
        },
    }


EVALUATE_ALL = _evaluate(
    "evaluateFlags",
    "Evaluate every flag",
    {
        "200": _answer(
            "Every flag, for this caller.",
            _exactly(flags={"type": "array", "items": FLAG}),
            ETag=ETAG,
            Cache_Control=CACHE_CONTROL,
        ),
        "304": _answer("Nothing has changed for this caller.", ETag=ETAG, Cache_Control=CACHE_CONTROL),
    },
    KNOWN_ALREADY,
)
EVALUATE_ONE = _evaluate(
    "evaluateFlag",
    "Evaluate one flag",
    {"200": _answer("The flag, for this caller.", FLAG), "404": _answer("There is no such flag.", REFUSED)},
    {
        "in": "path",
        "name": "key",
        "required": True,
        "schema": TEXT,
        "description": "Such as `USE_FUND_STORE`.",
    },
)

# --- Problems and probes ----------------------------------------------------------------------------------------

STATE = {"enum": ["ok", "unavailable"]}
HEALTH = _exactly(
    status={"enum": ["ok", "degraded", "unavailable"]},
    store_type={"enum": ["fund-store", "legacy"]},
    environment=TEXT,
    version=TEXT,
    checks=_exactly(database=STATE, valkey=STATE),
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
    "description": "What the `type` of a problem points to.",
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
            "How it is, for people and scripts",
            {
                "200": _answer("Funds can be created.", HEALTH),
                "503": _answer("The database is gone.", HEALTH),
            },
        )
    },
    "/livez": {
        "get": _probe(
            "livez", "Whether the process answers", {"200": _answer("It does.", TEXT, kind="text/plain")}
        )
    },
    "/readyz": {
        "get": _probe(
            "readyz",
            "Whether the process can serve requests now",
            {
                "200": _answer("It can.", TEXT, kind="text/plain"),
                "503": _answer("The database is gone.", TEXT, kind="text/plain"),
            },
        )
    },
}
