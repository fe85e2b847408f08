"""``POST /api/telemetry`` in the OpenAPI document."""

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
            "description": "Unique in this client; an event sent again is counted once.",
        },
        "event": {
            "type": "string",
            "pattern": f"^{NAME}$",
            "examples": [*SENT],
            "description": f"{', '.join(f'`{event}`' for event in SENT)}; other names are accepted too.",
        },
        "category": {"type": ["string", "null"], "maxLength": 32},
        "ok": {"type": ["boolean", "null"], "description": "Depends on the event's name when absent."},
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "Time by the browser's clock; for people only.",
        },
        "flag": {
            "type": ["string", "null"],
            "pattern": f"^{FEATURE.pattern}$",
            "description": "The feature that it concerns; without one it counts for every rollout.",
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
        "sentAt": {"description": "Time by the browser's clock; ignored."},
        "dropped": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "Events that this session has dropped so far.",
        },
        # An invalid event never loses the others, so the list accepts any item.
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
                summary="Report events of a browser",
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
                    (202, JSON): OpenApiResponse(
                        TAKEN, "Number of events accepted, known already and rejected."
                    ),
                    **problem(
                        "validation_error", "parse_error", "bad_request", description="Nothing was stored."
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
        class Documented(self.target):  # type: ignore[name-defined,misc]  # a class made at run time
            pass

        return Documented


def complete(operation: dict[str, Any]) -> None:
    """Require a body, which drf-spectacular cannot express."""
    operation["requestBody"]["required"] = True
