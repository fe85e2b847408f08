"""The WSGI application that Granian serves."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from fundapi.variables import name_settings

name_settings()

import fundapi.web.light  # noqa: E402, F401 - before the settings import structlog

if settings.OTEL_SIGNALS:
    from fundapi.web import tracing

    tracing.start()
    tracing.trace_requests()

django = get_wsgi_application()

from fundapi.web.answers import Answers  # noqa: E402 - it needs the settings
from fundapi.web.overload import OverloadControl  # noqa: E402 - likewise
from fundapi.web.vitals import Vitals  # noqa: E402 - likewise

application = OverloadControl(Answers(django))
Vitals(application.held, hung=settings.WEB_HUNG_SECONDS, connections_max=settings.WEB_CONNECTIONS).start()
