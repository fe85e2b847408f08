"""Links between pages of the admin."""

from typing import Any

from django.urls import reverse
from django.utils.html import format_html

CLASSES = "text-primary-600 dark:text-primary-500"


def away(address: str, label: str) -> str:
    """Return a link out of the admin."""
    return format_html('<a class="{}" href="{}" rel="noreferrer">{}</a>', CLASSES, address, label)


def link(view: str, label: str, *args: Any, query: str = "") -> str:
    """Return a link to a page of the admin."""
    return format_html(
        '<a class="{}" href="{}{}">{}</a>',
        CLASSES,
        reverse(f"admin:{view}", args=args),
        query,
        label,
    )
