"""What ``/api/schema`` says of ``POST /api/telemetry``."""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view

from fundapi.schema.parts import COMMON, JSON, answer_header, common_headers, problem
from rollout.api.telemetry import DETAIL_MAX, EVENTS_MAX, ID_MAX
from rollout.bucketing import FEATURE
from rollout.judge.events import NAME, SENT, Event

EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "event"],
    "properties": {
        "id": {
            "type": "string",
            "minLength": 1,
            "maxLength": ID_MAX,
            "description": "Makes sending again harmless.",
        },
        "event": {
            "type": "string",
            "pattern": f"^{NAME}$",
            "examples": [*SENT],
            "description": f"{', '.join(f'`{event}`' for event in SENT)}; other names are kept too.",
        },
        "category": {"type": ["string", "null"], "maxLength": 32},
        "ok": {"type": ["boolean", "null"], "description": "By the event's name when left out."},
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The browser's clock; for people.",
        },
        "flag": {
            "type": ["string", "null"],
            "pattern": f"^{FEATURE.pattern}$",
            "description": "The feature it is about; none counts for every rollout.",
        },
        "variant": {"type": ["string", "null"], "maxLength": 32},
        "detail": {"description": f"Anything; cut to {DETAIL_MAX} characters."},
    },
}
TELEMETRY = {
    "type": "object",
    "required": ["clientId", "sessionId", "events"],
    "properties": {
        "clientId": {"type": "string", "minLength": 1, "maxLength": ID_MAX},
        "sessionId": {"type": "string", "minLength": 1, "maxLength": ID_MAX},
        "sentAt": {"description": "The browser's clock; nothing is made of it."},
        "dropped": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "Events that this session has lost so far.",
        },
        # One bad event never loses the others, so the list as a whole takes anything.
        "events": {"type": "array", "maxItems": EVENTS_MAX, "items": {"anyOf": [EVENT, {}]}},
    },
}
TAKEN = {
    "type": "object",
    "required": ["accepted", "duplicates", "rejected"],
    "properties": {
        "accepted": {"type": "integer", "minimum": 0},
        "duplicates": {"type": "integer", "minimum": 0, "description": "Known already."},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "code"],
                "properties": {"index": {"type": "integer", "minimum": 0}, "code": {"type": "string"}},
            },
        },
    },
}
TELEMETRY_STATUSES = ["202", "400", "405", "406", "413", "415", "429", "500", "503"]


class TelemetrySchema(OpenApiViewExtension):
    target_class = "rollout.api.telemetry.TelemetryView"

    def view_replacement(self) -> Any:
        sent = {
            "clientId": "0b0e7b5e-6d0f-4b3f-9a55-7c9d2f7f3a10",
            "sessionId": "6f1d0a3e-52b7-4f8e-8c6d-2b9b8f1c4d21",
            "sentAt": "2025-11-23T09:30:10Z",
            "dropped": 0,
            "events": [
                {
                    "id": "1",
                    "event": Event.HEARTBEAT.value,
                    "category": "usage",
                    "ok": True,
                    "flag": "USE_FUND_STORE",
                },
                {
                    "id": "2",
                    "event": Event.MIGRATION_FAILED.value,
                    "category": "error",
                    "ok": False,
                    "detail": "QuotaExceeded",
                },
            ],
        }
        taken = {"accepted": 2, "duplicates": 0, "rejected": []}

        @extend_schema_view(
            post=extend_schema(
                operation_id="sendTelemetry",
                summary="Report what went well and what went wrong",
                description=(
                    f"Up to {EVENTS_MAX} events of one browser. Public, and fit for `navigator.sendBeacon`. Sending "
                    "events again is harmless. A bad event is named in `rejected` and loses no other."
                ),
                parameters=[
                    *common_headers(TELEMETRY_STATUSES),
                    answer_header("Retry-After", ["429", "503"], "Seconds to wait.", type=int),
                ],
                request={JSON: TELEMETRY, "text/plain": TELEMETRY},
                responses={
                    (202, JSON): OpenApiResponse(TAKEN, "What became of the events."),
                    **problem(
                        "validation_error", "parse_error", "bad_request", description="Nothing was kept."
                    ),
                    **problem("body_too_large", description="The body has more than 256 KiB."),
                    **problem("unsupported_media_type", description="Neither JSON nor plain text."),
                    **problem("throttled", description="Too many requests from this address."),
                    **{key: answer for key, answer in COMMON.items() if key[0] != 401},
                },
                examples=[
                    OpenApiExample("batch", value=sent, request_only=True),
                    OpenApiExample("taken", value=taken, response_only=True, status_codes=["202"]),
                ],
            )
        )
        class Documented(self.target):  # type: ignore[name-defined,misc]  # a class of run time
            pass

        return Documented


def complete(operation: dict[str, Any]) -> None:
    """Add what drf-spectacular has no words for: there has to be a body."""
    operation["requestBody"]["required"] = True
