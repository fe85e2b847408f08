"""Pages of ``GET /api/funds``, bounded in bytes."""

import json
import re
from collections.abc import Sequence
from typing import Any

from django.db import connections
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fundapi.exactjson import ExactDecoder
from fundapi.models import Fund

ID = re.compile(r"[0-9]{1,19}")  # digits of a bigint
PAGE_MAX = 1024 * 1024  # bytes of a page's body
# Bytes of a fund beside its texts and its results, and of a link beside its address, with room to spare.
FUND_FRAME, LINK_FRAME = 256, 128
CHARACTER_MAX = 6  # bytes of a character in JSON: \u0001


class FundPagination(CursorPagination):
    """Pages of up to ``pageSize`` funds and ``PAGE_MAX`` bytes: the rest follows with ``next``."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "pageSize"
    ordering = "-id"
    invalid_cursor_message = "The cursor is not one of this list: start again without it."
    page: list[Fund]

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor, or refuse one whose position is no id: the query would fail."""
        cursor = super().decode_cursor(request)
        if cursor and cursor.position is not None and not ID.fullmatch(str(cursor.position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        """Read the page without its results, then as many of them as fit, and cut it there."""
        super().paginate_queryset(queryset.defer("engine_results"), request, view)
        backwards = bool(self.cursor and self.cursor.reverse)
        funds = self.page[::-1] if backwards else self.page
        results = results_within(self._room(), [fund.pk for fund in funds], using=queryset.db)
        for fund, document in zip(funds, results, strict=False):
            fund.engine_results = document
        if cut := funds[len(results) :]:
            following = str(cut[0].pk)
            if backwards:
                self.page = self.page[len(cut) :]
                self.has_previous, self.previous_position = True, following
            else:
                self.page = self.page[: len(results)]
                self.has_next, self.next_position = True, following
        return self.page

    def get_paginated_response(self, data: Any) -> Response:
        """Empty what the serializer keeps, as the view lets go of the answer: its fields refer to each other."""
        response = super().get_paginated_response(data)
        self.page.clear()
        data.serializer._data.clear()  # noqa: SLF001 - what its `data` was copied from
        return response

    def _room(self) -> int:
        """Return the bytes that the page has for results."""
        texts = sum(len(fund.name) + len(fund.model_version or "") for fund in self.page)
        links = 2 * (len(self.base_url or "") + LINK_FRAME)
        return PAGE_MAX - CHARACTER_MAX * texts - FUND_FRAME * len(self.page) - links


# A step reads the results of one fund, so that no more of them are read, or written as text, than fit. OFFSET 0: once.
RESULTS_WITHIN = """
WITH RECURSIVE page AS (
    SELECT 0 AS number, 0::bigint AS bytes, NULL AS results
    UNION ALL
    SELECT number + 1, bytes + octet_length(fund.results), fund.results
    FROM page CROSS JOIN LATERAL (
        SELECT coalesce(
            (SELECT engine_results::text FROM fundapi_fund WHERE id = (%(ids)s::bigint[])[number + 1]), 'null'
        ) AS results OFFSET 0
    ) AS fund
    WHERE number < cardinality(%(ids)s::bigint[]) AND bytes <= %(room)s
)
SELECT results FROM page WHERE number = 1 OR number > 1 AND bytes <= %(room)s ORDER BY number
"""


def results_within(room: int, ids: Sequence[int], *, using: str) -> list[Any]:
    """Return the results of the first of these funds, of as many as fit in ``room`` bytes, at least of one."""
    with connections[using].cursor() as cursor:
        cursor.execute(RESULTS_WITHIN, {"ids": list(ids), "room": room})
        return [json.loads(results, cls=ExactDecoder) for (results,) in cursor.fetchall()]
