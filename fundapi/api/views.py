"""``/api/funds``: create, list, show. ``@idempotent`` makes a creation exactly-once."""

import re
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from rest_framework.generics import GenericAPIView, ListCreateAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from fundapi.access.authentication import BearerAuthentication
from fundapi.api import store
from fundapi.api.outcomes import OPERATION
from fundapi.api.pagination import FundPagination
from fundapi.api.permissions import FundPermission, SignedInAs
from fundapi.api.serializers import FundSerializer
from fundapi.api.short import JSON, ShortWay, json_response
from fundapi.api.throttling import FundCreateThrottle
from fundapi.models import Fund
from idempotency import idempotent

BEARER_TOKEN = re.compile(r"Bearer [!-~]+")
# They have no state of a request.
BEARER = BearerAuthentication()
SERIALIZER = FundSerializer()


class OwnFundsView(GenericAPIView):
    """Base of the views: a user sees their own funds only; another user's fund is a 404."""

    permission_classes = [FundPermission]
    serializer_class = FundSerializer
    pagination_class = FundPagination

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Keep a user's funds out of every cache, the browser's own on a shared computer too."""
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Let go of the answer: view and request refer to each other, and last until the garbage collector runs.

        It counts objects, not bytes: pages of 1 MiB were 300 MB of memory.
        """
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        del self.response
        if isinstance(response, Response):
            response.add_post_render_callback(_forget_context)
        return response

    def get_queryset(self) -> QuerySet[Fund]:
        return Fund.objects.filter(owner=self.request.user.pk)


def _forget_context(response: Response) -> None:
    """Break the circle of a rendered answer and what DRF's renderers get, which names it."""
    response.renderer_context = {}  # type: ignore[attr-defined]  # set by the view


@idempotent(operation=OPERATION)
class FundsView(ShortWay, OwnFundsView, ListCreateAPIView):
    permission_classes = [FundPermission, SignedInAs]

    def get_throttles(self) -> list[BaseThrottle]:
        return [FundCreateThrottle()] if self.request.method == "POST" else []

    def is_plain(self, request: HttpRequest) -> bool:
        return BEARER_TOKEN.fullmatch(request.META.get("HTTP_AUTHORIZATION", "")) is not None

    def admit(self, request: Any) -> None:
        request.authenticators, request.successful_authenticator = (BEARER,), BEARER
        # Not by knox's ``authenticate``, for which Django makes ``request.headers`` of all of them: 2 % of a replay.
        token = request.META["HTTP_AUTHORIZATION"].removeprefix("Bearer ").encode("latin-1")
        request.user, request.auth = BEARER.authenticate_credentials(token)
        self.check_permissions(request)
        self.check_throttles(request)

    def post(self, request: Any, *_args: Any, **_kwargs: Any) -> HttpResponse:  # type: ignore[override]  # like Response
        document = request.data if isinstance(request, Request) else self._document(request)
        fund = store.insert(request.user.pk, SERIALIZER.run_validation(document))
        return json_response(
            SERIALIZER.to_representation(fund), status=201, Location=f"{request.path}/{fund.pk}"
        )

    def _document(self, request: HttpRequest) -> Any:
        """Return the decoded body, which the guard has decoded if it is JSON."""
        guarded = getattr(request, "idempotency", None)
        if guarded and request.body and request.META.get("CONTENT_TYPE") == JSON:
            return guarded.document
        return self.initialize_request(request).data


class FundView(OwnFundsView, RetrieveAPIView):
    pass
