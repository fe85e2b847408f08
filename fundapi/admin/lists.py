"""Lists of any length, and links between pages."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
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


def link(view: str, label: str, *args: Any, query: str = "") -> str:
    """Return a link to a page of the admin."""
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}{}">{}</a>',
        reverse(f"admin:{view}", args=args),
        query,
        label,
    )
