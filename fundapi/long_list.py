"""What the lists of the admin have in common that may be of any length."""

from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin

from idempotency.admin import CappedPaginator


class LongList(ModelAdmin):
    """A list of any length: counted to 10,000, and never as a whole beside a search."""

    show_full_result_count = False
    paginator = CappedPaginator

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if not changelist.query and not changelist.has_active_filters:
            changelist.full_result_count = changelist.result_count  # no "show all" where all is shown
        return changelist
