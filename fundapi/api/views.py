"""``/api/funds``: create, list, show. ``@idempotent`` makes a creation exactly-once."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from rest_framework.generics import GenericAPIView, ListCreateAPIView, RetrieveAPIView
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import BaseThrottle

from fundapi.api.outcomes import OPERATION
from fundapi.api.pagination import FundPagination
from fundapi.api.permissions import FundPermission, SignedInAs
from fundapi.api.serializers import FundSerializer
from fundapi.api.throttling import FundCreateThrottle
from fundapi.models import Fund
from idempotency import idempotent


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
class FundsView(OwnFundsView, ListCreateAPIView):
    permission_classes = [FundPermission, SignedInAs]

    def get_throttles(self) -> list[BaseThrottle]:
        return [FundCreateThrottle()] if self.request.method == "POST" else []

    def perform_create(self, serializer: BaseSerializer) -> None:
        serializer.save(owner=self.request.user)

    def get_success_headers(self, data: Any) -> dict[str, str]:
        return {"Location": reverse("fund", args=[data["id"]])}


class FundView(OwnFundsView, RetrieveAPIView):
    pass
