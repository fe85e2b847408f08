"""``{% load idempotency %}``, then ``{% idempotency_key %}`` inside a form."""

import uuid

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from idempotency.formdata import KEY_FIELD

register = template.Library()


@register.simple_tag
def idempotency_key() -> SafeString:
    """Return a hidden field with a new key: sent twice, the form has one effect."""
    return format_html('<input type="hidden" name="{}" value="{}">', KEY_FIELD, uuid.uuid4())
