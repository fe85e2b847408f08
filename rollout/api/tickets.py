"""``POST /api/telemetry/ticket``: a ticket for a signed-in user of a page that does not carry one.

The project's authentication classes say who is signed in. The ticket itself costs no SQL.
"""

from typing import IO, Any

from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rollout import tickets


class IgnoredBody(BaseParser):
    """A body of any type, unread: DRF's check of the CSRF token asks for one, and there is nothing to say in it."""

    media_type = "*/*"

    def parse(self, stream: IO[Any], media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        return {}


class TicketView(APIView):
    """Issue a ticket to the caller."""

    parser_classes = (IgnoredBody,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        ticket = tickets.issue(request.user.pk)
        body = {"ticket": ticket.text, "expiresAt": ticket.expires_at}
        return Response(body, headers={"Cache-Control": "no-store"})
