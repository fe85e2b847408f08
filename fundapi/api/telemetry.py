"""``POST /api/telemetry``: the view of the ``rollout`` app, with this project's throttle and a short way."""

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request

from fundapi.api.short import ShortWay, json_response
from fundapi.api.throttling import TelemetryThrottle
from rollout.api import telemetry


class TelemetryView(ShortWay, telemetry.TelemetryView):
    __doc__ = telemetry.TelemetryView.__doc__  # a client reads it in the answer to OPTIONS
    throttle_classes = [TelemetryThrottle]

    def is_plain(self, request: HttpRequest) -> bool:
        return request.content_type in telemetry.CONTENT_TYPES

    def admit(self, request: Any) -> None:
        self.check_throttles(request)

    def post(self, request: Any) -> Any:
        if isinstance(request, Request):
            return super().post(request)
        return json_response(telemetry.take(request), status=202)
