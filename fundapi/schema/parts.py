"""Common parts of operations: problems, and the headers of every response."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from fundapi.web.problems import CATALOGUE, PROBLEM_JSON
from idempotency.problems import KeyInvalid

JSON = "application/json"

_MORE: Mapping[str, dict[str, Any]] = {
    "validation_error": {
        "errors": [
            {"field": "size", "code": "min_value", "detail": "Must be at least 0."},
            {"field": "fee", "code": "unknown_field", "detail": "No such field. Known: name, size, …"},
        ]
    },
    "parse_error": {
        "detail": "The body is not valid JSON at line 1, column 18: put a colon here, after the key."
    },
    "idempotency_key_invalid": {"detail": KeyInvalid("has white space in it").detail},
    "idempotency_key_environment_mismatch": {
        "detail": (
            "The key is for the environment 'staging', but this is 'prod'. Nothing was done. "
            "Send the request to 'staging', or make a key for 'prod'."
        )
    },
    "idempotency_key_operation_mismatch": {
        "detail": (
            "The key is for the operation 'fund-delete', but this is 'fund-create'. Nothing was done. "
            "Send the request to 'fund-delete', or make a key for 'fund-create'."
        )
    },
}


def problem(*codes: str, description: str) -> dict[tuple[int, str], OpenApiResponse]:
    """Document one status and the problems that it may have."""
    (status,) = {CATALOGUE[code].status for code in codes}
    examples = [
        OpenApiExample(
            code,
            summary=CATALOGUE[code].title,
            value=CATALOGUE[code].body() | _MORE.get(code, {}),
            response_only=True,
            media_type=PROBLEM_JSON,
            status_codes=[str(status)],
        )
        for code in codes
    ]
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, narrowed]}
    return {(status, PROBLEM_JSON): OpenApiResponse(schema, description, examples)}


COMMON = {
    **problem(
        "not_authenticated", "authentication_failed", description="No credentials, or none that are valid."
    ),
    **problem("method_not_allowed", description="`Allow` lists the methods of this address."),
    **problem("not_acceptable", description="`Accept` excludes JSON."),
    **problem("server_error", description="An error of the server. Nothing was stored."),
    **problem(
        "database_unavailable",
        "overloaded",
        description="The database did not respond, or the server is busy: try again.",
    ),
}


def answer_header(name: str, statuses: list[str], description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(
        name, location=OpenApiParameter.HEADER, response=statuses, description=description, **options
    )


def common_headers(statuses: list[str]) -> list[OpenApiParameter]:
    return [
        OpenApiParameter(
            "X-Request-ID",
            location=OpenApiParameter.HEADER,
            description=(
                "Id of this request in the server's logs: 8 to 128 characters of `A-Za-z0-9_.:-`. For any other value "
                "the server generates one."
            ),
        ),
        answer_header("X-Request-ID", statuses, "Id of this request in the server's logs."),
        answer_header("WWW-Authenticate", ["401"], "The scheme to authenticate with."),
        answer_header("Allow", statuses, "The methods of this address."),
    ]
