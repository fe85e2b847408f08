from django.conf import settings
from django.urls import path
from django.utils.module_loading import import_string

from fundapi.web.health import readyz

urlpatterns = [
    path("bench/funds", import_string(settings.PEER.view).as_view()),
    path("readyz", readyz),
]
