"""``POST /api/telemetry`` and ``POST /api/telemetry/ticket`` in the OpenAPI document."""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view

from fundapi.schema.parts import COMMON, JSON, answer_header, common_headers, problem
from rollout.api.telemetry import DETAIL_MAX, EVENTS_MAX, ID_MAX
from rollout.bucketing import FEATURE
from rollout.judge.events import NAME, SENT, Event
from rollout.tickets import LENGTH_MAX

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
            "description": "Time by the browser's clock. Compared with `sentAt`, it tells how old the event is.",
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
        "sentAt": {
            "description": (
                "Time of sending by the browser's clock, as in `at`. An event that is more than ten minutes older is "
                "kept and not judged."
            )
        },
        "ticket": {
            "description": (
                "A ticket of the signed-in user. Events with a valid one count for that user, others for the network "
                "that they came from."
            )
        },
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
        "ticket": {
            "type": "string",
            "enum": ["expired", "invalid"],
            "description": "The ticket was not accepted, and the events count as if there were none: get a new one.",
        },
    },
}
TICKET = {
    "type": "object",
    "required": ["ticket", "expiresAt"],
    "properties": {
        "ticket": {"type": "string", "maxLength": LENGTH_MAX, "description": "Opaque; fits into a URL."},
        "expiresAt": {"type": "string", "format": "date-time", "description": "It is accepted until then."},
    },
}
TICKET_STATUSES = ["200", "400", "401", "403", "405", "406", "413", "415", "429", "500", "503"]
TELEMETRY_STATUSES = ["202", "400", "403", "405", "406", "413", "415", "429", "500", "503"]


class TelemetrySchema(OpenApiViewExtension):
    target_class = "fundapi.api.telemetry.TelemetryView"

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
                    **problem("https_required", description="It came by plain HTTP."),
                    **problem("body_too_large", description="The body has more than 256 KiB."),
                    **problem(
                        "unsupported_media_type",
                        description="The body is coded, or neither JSON nor plain text.",
                    ),
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


class TicketSchema(OpenApiViewExtension):
    target_class = "rollout.api.tickets.TicketView"

    def view_replacement(self) -> Any:
        issued = {
            "ticket": "4f1c9a5e0d7b4c83a1f29d60b7e8c512.1763893810.TVp0c2FtcGxlLXNpZ25hdHVyZS1vZi1hLXRpY2tldC4",
            "expiresAt": "2025-11-23T10:30:10Z",
        }

        @extend_schema_view(
            post=extend_schema(
                operation_id="issueTicket",
                summary="Get a ticket for telemetry",
                description=(
                    "A ticket proves that telemetry comes from a signed-in user, who then counts as one client "
                    "however many browsers they use. Send it as `ticket` with `POST /api/telemetry`, and get a new one "
                    "before it expires. It does not tell who the user is, and it opens nothing else."
                ),
                parameters=[
                    *common_headers(TICKET_STATUSES),
                    answer_header("Retry-After", ["429", "503"], "Seconds to wait.", type=int),
                ],
                request=None,
                responses={
                    (200, JSON): OpenApiResponse(TICKET, "The ticket; not to be cached."),
                    **problem(
                        "permission_denied",
                        "https_required",
                        description="A session without the CSRF token in `X-CSRFToken`, or plain HTTP.",
                    ),
                    **problem("bad_request", description="The body is not whole. None is needed."),
                    **problem(
                        "body_too_large", description="The body has more than 256 KiB. None is needed."
                    ),
                    **problem("unsupported_media_type", description="The body is coded. None is needed."),
                    **problem("throttled", description="Too many tickets for this user."),
                    **COMMON,
                },
                examples=[OpenApiExample("issued", value=issued, response_only=True, status_codes=["200"])],
            )
        )
        class Documented(self.target):  # type: ignore[name-defined,misc]  # a class made at run time
            pass

        return Documented


def complete(operation: dict[str, Any]) -> None:
    """Require a body, which drf-spectacular cannot express."""
    operation["requestBody"]["required"] = True
