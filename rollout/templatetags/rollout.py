"""Template tags: ``{% load rollout %}``, then ``{% flag "NAME" %}…{% else %}…{% endflag %}``."""

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.template.context import Context
from django.utils.html import json_script
from django.utils.safestring import SafeString

from rollout import flags

register = template.Library()

ASSIGNED = "rollouts-assigned"  # id of the element that rollout.js reads


class FlagNode(template.Node):
    child_nodelists = ("nodelist_on", "nodelist_off")

    def __init__(self, name: FilterExpression, nodelist_on: NodeList, nodelist_off: NodeList) -> None:
        self.name = name
        self.nodelist_on = nodelist_on
        self.nodelist_off = nodelist_off

    def render(self, context: Context) -> SafeString:
        on = flags.flag_is_active(request_of(context), str(self.name.resolve(context)))
        return (self.nodelist_on if on else self.nodelist_off).render(context)


@register.tag
def flag(parser: Parser, token: Token) -> FlagNode:
    """Render the first part for a browser that gets the feature, and the part after ``{% else %}`` for any other."""
    try:
        _, name = token.split_contents()
    except ValueError:
        raise template.TemplateSyntaxError(f'Write {{% {token.contents.split()[0]} "NAME" %}}.') from None
    nodelist_on, nodelist_off = parser.parse(("else", "endflag")), NodeList()
    if parser.next_token().contents == "else":
        nodelist_off = parser.parse(("endflag",))
        parser.delete_first_token()
    return FlagNode(parser.compile_filter(name), nodelist_on, nodelist_off)


@register.simple_tag(takes_context=True)
def flag_is_active(context: Context, name: str) -> bool:
    """Return whether the browser gets the feature: ``{% flag_is_active "NAME" as on %}``."""
    return flags.flag_is_active(request_of(context), name)


@register.simple_tag(takes_context=True)
def rollout_assigned(context: Context) -> SafeString:
    """Tell rollout.js which rollouts the signed-in user always or never gets. It is data: no script runs."""
    return json_script(flags.assigned_to(request_of(context)), ASSIGNED)


def request_of(context: Any) -> HttpRequest:
    request: HttpRequest | None = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "A flag in a template needs the request: add django.template.context_processors.request to the "
            "context_processors, or render the template with a request."
        )
    return request
