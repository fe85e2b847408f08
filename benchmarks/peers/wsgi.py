"""The WSGI application of P0 and of every Django peer, as startproject writes it."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
