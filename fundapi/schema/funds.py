"""Funds in the OpenAPI document: fields, headers, statuses, problem codes, examples, operations."""

import math
import re
from decimal import Decimal
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
    OpenApiViewExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import serializers

from fundapi.api.outcomes import OPERATION
from fundapi.api.pagination import FundPagination
from fundapi.api.serializers import FundSerializer
from fundapi.schema.parts import COMMON, JSON, answer_header, common_headers, problem
from idempotency.keys import TOKEN, TOKEN_LENGTH_MAX, format_key

EXACT_IN_DOUBLE = 2**53  # doubles hold every integer up to it, and not every greater one


# --- The parts of a fund ----------------------------------------------------------------------------------------


def _bounds(minimum: Decimal | int, maximum: Decimal | int) -> dict[str, Any]:
    """Return the bounds as JSON numbers that doubles hold exactly."""
    low, high = (int(bound) if bound == int(bound) else float(bound) for bound in (minimum, maximum))
    if high < EXACT_IN_DOUBLE:
        return {"minimum": low, "maximum": high}
    return {"minimum": low, "exclusiveMaximum": math.ceil(maximum)}


class ExactDecimalSchema(OpenApiSerializerFieldExtension):
    target_class = "fundapi.api.fields.ExactDecimalField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        field = self.target
        return {
            "type": "number",
            **_bounds(field.minimum, field.maximum),
            "multipleOf": float(Decimal(1).scaleb(-field.places)),
        }


class StrictIntegerSchema(OpenApiSerializerFieldExtension):
    target_class = "fundapi.api.fields.StrictIntegerField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        return {"type": "integer", **_bounds(self.target.minimum, self.target.maximum)}


class ObjectSchema(OpenApiSerializerFieldExtension):
    target_class = "fundapi.api.fields.ObjectField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": True}


class FundSchema(OpenApiSerializerExtension):
    target_class = "fundapi.api.serializers.FundSerializer"

    def get_name(self, auto_schema: AutoSchema, direction: str) -> str:
        return "NewFund" if direction == "request" else "Fund"

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(  # noqa: SLF001 - as its documentation shows
            self.target, direction, bypass_extensions=True
        )
        if direction == "request":
            return schema | {"additionalProperties": False}
        for field in schema["properties"].values():
            field.pop("default", None)
        properties = {
            "id": {"type": "integer", "minimum": 1},
            **schema["properties"],
            "createdAt": {"type": "string", "format": "date-time"},
        }
        return {"type": "object", "properties": properties, "required": list(properties)}


# --- Examples ---------------------------------------------------------------------------------------------------

NEW_FUND = {"name": "Harbor Growth I", "size": 250_000_000, "vintageYear": 2025}
FUND = {
    "id": 12,
    "name": "Harbor Growth I",
    "size": 250_000_000,
    "managementFee": 0.02,
    "carryPercentage": 0.2,
    "vintageYear": 2025,
    "modelVersion": None,
    "engineResults": None,
    "createdAt": "2025-11-23T09:30:00.123456Z",
}
PAGE = {"next": None, "previous": None, "results": [FUND]}
KEY = "9f86d081-884c-4d65-9a2f-eaa0c55ad015"

STATUSES = ["200", "401", "404", "405", "406", "500", "503"]
CREATE_STATUSES = [
    *("200", "201", "400", "401", "403", "405", "406", "409", "413", "415", "429", "500", "503")
]
NAMESPACED = format_key(environment=settings.ENVIRONMENT, operation=OPERATION, token="")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    required=True,
    pattern=f'^("{TOKEN.pattern}"|({re.escape(NAMESPACED)})?{TOKEN.pattern})$',
    description=(
        "Identifies this operation: use a new random key for each fund, and the same key for each retry. "
        f"Three forms name the same key: a bare token (1 to {TOKEN_LENGTH_MAX} characters of `A-Za-z0-9_.:~-`), the "
        "same in double quotes (RFC 8941), and `<environment>|<operation>|<token>`, where environment and "
        "operation must be the server's own."
    ),
    examples=[
        OpenApiExample(
            "bare", summary="A bare token", value=KEY, parameter_only=("Idempotency-Key", "header")
        ),
        OpenApiExample("quoted", summary="An RFC 8941 string", value=f'"{KEY}"'),
        OpenApiExample("namespaced", summary="Environment, operation, token", value=f"{NAMESPACED}{KEY}"),
    ],
)
SIGNED_IN_AS = OpenApiParameter(
    "Signed-In-As",
    location=OpenApiParameter.HEADER,
    description=(
        "Id of the user for whom a page was made. The request is refused when another user has signed in since, in "
        "another tab of the same browser."
    ),
    examples=[OpenApiExample("user", value="12")],
)
CREATE_HEADERS = [
    SIGNED_IN_AS,
    IDEMPOTENCY_KEY,
    OpenApiParameter(
        "Prefer",
        location=OpenApiParameter.HEADER,
        description=(
            "`wait=N` (RFC 7240): while the first request with this key is running, wait for it up to N seconds "
            "and get its answer. The server caps N, 2 seconds by default."
        ),
        examples=[OpenApiExample("wait", value="wait=2")],
    ),
    OpenApiParameter(
        "Rollout-Variant",
        location=OpenApiParameter.HEADER,
        description=(
            "Variant of each rollout's feature that this page has, such as `USE_FUND_STORE=fund-store`; several are "
            "separated by commas. The server then reports the outcome to the judge. What cannot be read is ignored."
        ),
        examples=[OpenApiExample("variant", value="USE_FUND_STORE=fund-store")],
    ),
    answer_header("Idempotency-Key", CREATE_STATUSES, "As sent."),
    answer_header(
        "Idempotency-Status",
        ["200", "201", "409"],
        "Outcome of the key: `created` with 201, `replayed` with 200, `conflict` with 409.",
        enum=["created", "replayed", "conflict"],
    ),
    answer_header(
        "Preference-Applied",
        ["200", "201", "409"],
        "`wait=N`, if the server waited for the first request.",
    ),
    answer_header("Location", ["200", "201"], "Address of the fund, `/api/funds/{id}`."),
    answer_header(
        "Retry-After",
        ["409", "429", "503"],
        "Seconds to wait. Absent with `idempotency_key_reused`: a retry cannot help.",
        type=int,
    ),
    *common_headers(CREATE_STATUSES),
]
RETRY_AFTER = answer_header("Retry-After", ["503"], "Seconds to wait.", type=int)
READ_HEADERS = [*common_headers(STATUSES), RETRY_AFTER]
LIST_HEADERS = [SIGNED_IN_AS, *common_headers([*STATUSES, "403"]), RETRY_AFTER]


@extend_schema_serializer(many=False)
class FundPage(serializers.Serializer):
    """A page of funds. DRF's own description of a page is not valid in OpenAPI 3.1."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = FundSerializer(many=True)


# --- Operations -------------------------------------------------------------------------------------------------


class FundsSchema(OpenApiViewExtension):
    target_class = "fundapi.api.views.FundsView"

    def view_replacement(self) -> Any:
        serializer = self.target.serializer_class

        @extend_schema_view(
            get=extend_schema(
                operation_id="listFunds",
                summary="List your funds",
                description="Newest first, in pages of at most 1 MiB. Follow `next` until it is null.",
                parameters=[
                    OpenApiParameter("cursor", description="From `next` or `previous`; opaque."),
                    OpenApiParameter(
                        "pageSize",
                        type={"type": ["integer", "string"], "default": FundPagination.page_size},
                        description=(
                            f"Funds per page at most, 1 to {FundPagination.max_page_size}. A greater number counts as "
                            f"{FundPagination.max_page_size}, any other value as {FundPagination.page_size}."
                        ),
                    ),
                    *LIST_HEADERS,
                ],
                responses={
                    (200, JSON): OpenApiResponse(FundPage, "A page of your funds."),
                    **problem("signed_in_as_another", description="Another user has signed in since."),
                    **problem("not_found", description="The cursor is not one of this list."),
                    **COMMON,
                },
                examples=[OpenApiExample("page", value=PAGE, response_only=True, status_codes=["200"])],
            ),
            post=extend_schema(
                operation_id="createFund",
                summary="Create a fund, exactly once",
                description=(
                    "The same key with the same content creates one fund, however often it is sent: the first request "
                    "gets 201, each later one 200 with the same body, byte for byte. Contents are the same when "
                    "their JSON values are. A key is remembered for 24 hours. After an answer of 400 or more, nothing "
                    "is stored and the key may be used again."
                ),
                parameters=CREATE_HEADERS,
                request={JSON: serializer},
                responses={
                    (201, JSON): OpenApiResponse(serializer, "The fund is created."),
                    (200, JSON): OpenApiResponse(
                        serializer, "This key created the fund before: the stored answer, byte for byte."
                    ),
                    **problem(
                        "validation_error",
                        "parse_error",
                        "idempotency_key_missing",
                        "idempotency_key_invalid",
                        "idempotency_key_environment_mismatch",
                        "idempotency_key_operation_mismatch",
                        "bad_request",
                        description="The key or the body is wrong. Nothing was done.",
                    ),
                    **problem(
                        "permission_denied",
                        "https_required",
                        "signed_in_as_another",
                        description=(
                            "You may not create funds, CSRF failed, it came by plain HTTP, or another user has signed "
                            "in since."
                        ),
                    ),
                    **problem(
                        "idempotency_key_reused",
                        "idempotency_request_in_progress",
                        description=(
                            "The key has been used for other content (review the input, or use a new key), or its "
                            "first request is still running (send the same again after `Retry-After`)."
                        ),
                    ),
                    **problem("body_too_large", description="The body has more than 256 KiB."),
                    **problem(
                        "unsupported_media_type", description="The body is coded, or not `application/json`."
                    ),
                    **problem("throttled", description="Too many requests; replays count."),
                    **COMMON,
                },
                examples=[
                    OpenApiExample("least", summary="Name and size", value=NEW_FUND, request_only=True),
                    OpenApiExample(
                        "all",
                        summary="All fields",
                        value={
                            **NEW_FUND,
                            "managementFee": 0.0175,
                            "carryPercentage": 0.2,
                            "modelVersion": "2025.3",
                            "engineResults": {"irr": 0.214, "tvpi": 2.6},
                        },
                        request_only=True,
                    ),
                    OpenApiExample("created", value=FUND, response_only=True, status_codes=["201"]),
                    OpenApiExample("replayed", value=FUND, response_only=True, status_codes=["200"]),
                ],
            ),
        )
        class Documented(self.target):  # type: ignore[name-defined,misc]  # a class made at run time
            pass

        return Documented


class FundViewSchema(OpenApiViewExtension):
    target_class = "fundapi.api.views.FundView"

    def view_replacement(self) -> Any:
        @extend_schema_view(
            get=extend_schema(
                operation_id="getFund",
                summary="Show one of your funds",
                description="",
                parameters=READ_HEADERS,
                responses={
                    (200, JSON): OpenApiResponse(self.target.serializer_class, "The fund."),
                    **problem("not_found", description="There is no such fund, or it is not yours."),
                    **COMMON,
                },
                examples=[OpenApiExample("fund", value=FUND, response_only=True, status_codes=["200"])],
            )
        )
        class Documented(self.target):  # type: ignore[name-defined,misc]  # a class made at run time
            pass

        return Documented


def complete(paths: dict[str, Any]) -> None:
    """Link creations and lists to the fund's own address."""
    funds = paths["/api/funds"]
    for answer, pointer in (
        (funds["post"]["responses"]["201"], "id"),
        (funds["post"]["responses"]["200"], "id"),
        (funds["get"]["responses"]["200"], "results/0/id"),
    ):
        answer["links"] = {
            "fund": {"operationId": "getFund", "parameters": {"id": f"$response.body#/{pointer}"}}
        }
