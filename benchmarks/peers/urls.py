from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from django.utils.module_loading import import_string

urlpatterns = [
    path("bench/funds", import_string(settings.PEER.view).as_view()),
    path("readyz", lambda _request: HttpResponse("ok")),
]
