"""A small site that asks flags, as any Django project has it: the URLconf of tests/browser/test_flags.py."""

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

PAGE = engines["django"].from_string("""\
<!doctype html><meta charset="utf-8"><title>Flags</title>
{% load rollout %}{% rollout_assigned %}
<script type="module" src="/static/rollout/emergency.js"></script>
{% for name in names %}
  <p id="{{ name }}">{% flag name %}on{% else %}off{% endflag %}</p>
{% endfor %}
""")


def flags_page(request: HttpRequest) -> HttpResponse:
    """Show each flag of the query's ``names``."""
    return HttpResponse(PAGE.render({"names": request.GET["names"].split(",")}, request))


urlpatterns = [path("flags", flags_page), path("", include("rollout.urls"))]
