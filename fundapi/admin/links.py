"""Links between pages of the admin."""

from typing import Any

from django.urls import reverse
from django.utils.html import format_html


def link(view: str, label: str, *args: Any, query: str = "") -> str:
    """Return a link to a page of the admin."""
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}{}">{}</a>',
        reverse(f"admin:{view}", args=args),
        query,
        label,
    )
